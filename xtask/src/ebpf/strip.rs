//! Takes the DWARF out of a BPF object and keeps its BTF, which is what loaders and bpftool read.

use anyhow::{Context as _, Result};
use object::build::elf::{Builder, SectionData};

/// The object without `.debug_*`, and without relocations that no loader reads.
///
/// Relocations of `.BTF` and `.BTF.ext` serve linkers only: libbpf ignores them
/// (`ignore_elf_section` in tools/lib/bpf/libbpf.c), and so does aya.
pub fn debug_info(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("parse the object")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug_") || name.starts_with(".rel.debug_") || name.starts_with(".rel.BTF");
    }
    // Only now are symbols left over that named what is gone.
    builder.delete_orphans();
    builder.delete_orphan_symbols();
    // The linker names sections and symbols in one table; the writer wants one for each.
    if !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = (&b".shstrtab"[..]).into();
        names.sh_type = object::elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("write the object")?;
    Ok(stripped)
}
