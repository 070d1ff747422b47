//! Says where two objects differ, in words that help the person who has to find out why.

use std::collections::BTreeMap;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, read::File};

/// One line for each section or symbol that differs; empty when the bytes are the same.
pub fn differences(committed: &[u8], built: &[u8]) -> Vec<String> {
    if committed == built {
        return Vec::new();
    }
    let (old, new) = match (parts(committed), parts(built)) {
        (Some(old), Some(new)) => (old, new),
        (None, _) => return vec!["the committed file is no object".to_owned()],
        (_, None) => return vec!["the built file is no object".to_owned()],
    };
    let mut lines: Vec<String> = old
        .iter()
        .filter_map(|(name, content)| match new.get(name) {
            None => Some(format!("{name}: committed only")),
            Some(other) => content.difference(other).map(|how| format!("{name}: {how}")),
        })
        .collect();
    lines.extend(new.keys().filter(|name| !old.contains_key(*name)).map(|name| format!("{name}: built only")));
    if lines.is_empty() {
        let common = committed.iter().zip(built).take_while(|(old, new)| old == new).count();
        lines.push(format!("sections and symbols are the same, the files differ from byte {common} on"));
    }
    lines
}

/// A section or a symbol.
enum Part {
    Section(Vec<u8>),
    Symbol { section: Option<usize>, address: u64, size: u64 },
}

impl Part {
    fn difference(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::Section(old), Self::Section(new)) => (old != new).then(|| {
                let common = old.iter().zip(new).take_while(|(old, new)| old == new).count();
                format!("{} bytes committed, {} built, different from byte {common} on", old.len(), new.len())
            }),
            (
                Self::Symbol { section, address, size },
                Self::Symbol { section: other_section, address: other_address, size: other_size },
            ) => ((section, address, size) != (other_section, other_address, other_size)).then(|| {
                format!("at {address} with {size} bytes committed, at {other_address} with {other_size} built")
            }),
            _ => Some("a section on one side, a symbol on the other".to_owned()),
        }
    }
}

fn parts(object: &[u8]) -> Option<BTreeMap<String, Part>> {
    let object = File::parse(object).ok()?;
    let sections = object.sections().filter_map(|section| {
        Some((format!("section {}", section.name().ok()?), Part::Section(section.data().ok()?.to_vec())))
    });
    let symbols = object.symbols().filter_map(|symbol| {
        let section = symbol.section_index().map(|index| index.0);
        let part = Part::Symbol { section, address: symbol.address(), size: symbol.size() };
        Some((format!("symbol {}", symbol.name().ok()?), part))
    });
    Some(sections.chain(symbols).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{
        Architecture, BinaryFormat, Endianness, SectionKind,
        write::{Object as Written, StandardSection, Symbol, SymbolSection},
    };

    /// An object with one section of code and one function in it.
    fn object(code: &[u8], function: &str) -> Vec<u8> {
        let mut object = Written::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        let section = object.add_section(Vec::new(), b"classifier".to_vec(), SectionKind::Text);
        object.append_section_data(section, code, 8);
        let _unused = object.section_id(StandardSection::Text);
        object.add_symbol(Symbol {
            name: function.as_bytes().to_vec(),
            value: 0,
            size: code.len() as u64,
            kind: object::SymbolKind::Text,
            scope: object::SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Section(section),
            flags: object::SymbolFlags::None,
        });
        object.write().expect("an object")
    }

    #[test]
    fn equal_objects_have_no_differences() {
        assert_eq!(differences(&object(b"12345678", "f"), &object(b"12345678", "f")), Vec::<String>::new());
    }

    #[test]
    fn the_changed_section_is_named() {
        assert_eq!(
            differences(&object(b"12345678", "f"), &object(b"1234abcd", "f")),
            ["section classifier: 8 bytes committed, 8 built, different from byte 4 on"]
        );
    }

    #[test]
    fn a_renamed_function_is_named_on_both_sides() {
        let found = differences(&object(b"12345678", "old"), &object(b"12345678", "new"));
        assert!(found.contains(&"symbol old: committed only".to_owned()), "{found:?}");
        assert!(found.contains(&"symbol new: built only".to_owned()), "{found:?}");
    }

    #[test]
    fn a_file_that_is_no_object_is_said_to_be_none() {
        assert_eq!(differences(b"", &object(b"12345678", "f")), ["the committed file is no object"]);
    }
}
