//! The compiler: its version, and where it keeps its LLVM and its source.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// The compiler that the committed object was built with: another one would write other bytes.
pub const REQUIRED: &str = "1.95.0";

/// The active compiler.
pub struct Rustc {
    /// `1.95.0`.
    pub version: String,
    sysroot: PathBuf,
}

impl Rustc {
    /// The active compiler, if it is the required one.
    pub fn required() -> Result<Self> {
        let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let verbose = process::output(Command::new(&program).arg("-vV"))?;
        let version = verbose
            .lines()
            .find_map(|line| line.strip_prefix("release: "))
            .context("`rustc -vV` names no release")?
            .to_owned();
        if version != REQUIRED {
            bail!(
                "the kernel programs are built with rustc {REQUIRED}, this is {version}: \
                 run `cargo +{REQUIRED} xtask …` (after `rustup toolchain install {REQUIRED}`)"
            );
        }
        let sysroot = process::output(Command::new(&program).args(["--print", "sysroot"]))?;
        Ok(Self { version, sysroot: PathBuf::from(sysroot.trim_end()) })
    }

    /// The directory `library` of the rustup component `rust-src`, if it is installed.
    pub fn source_component(&self) -> Option<PathBuf> {
        let library = self.sysroot.join("lib/rustlib/src/rust/library");
        library.join("core/src/lib.rs").is_file().then_some(library)
    }

    /// The compiler's own LLVM: `lib/libLLVM.so.22.1-rust-1.95.0-stable`.
    pub fn llvm(&self) -> Result<PathBuf> {
        let folder = self.sysroot.join("lib");
        let entries = folder.read_dir().with_context(|| format!("list {}", folder.display()))?;
        let mut found: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_llvm(path)).collect();
        found.sort();
        found.into_iter().next().with_context(|| {
            format!(
                "{} has no libLLVM.so.*: this rustc carries its LLVM elsewhere; \
                 install bpf-linker yourself and put it on the PATH",
                folder.display()
            )
        })
    }
}

fn is_llvm(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libLLVM.so."))
}
