//! What `build-ebpf` and the tests need beyond stable Rust, found on the machine or fetched into the cache.

mod apt;
mod apt_sources;
mod bpf_linker;
mod cache;
pub mod cargo_deny;
pub mod envtest;
pub mod packages;
mod rust_src;
mod rustc;

use std::path::PathBuf;

use anyhow::Result;

pub use rustc::Rustc;

/// Everything that builds the kernel programs.
pub struct Toolchain {
    /// The compiler, of exactly the version that the committed object was built with.
    pub rustc: Rustc,
    /// The directory `library` of the compiler's own source.
    pub core_source: PathBuf,
    /// The linker for BPF objects, built against the compiler's LLVM.
    pub bpf_linker: PathBuf,
}

impl Toolchain {
    /// Finds all three, fetching what is absent.
    pub fn ensure() -> Result<Self> {
        let rustc = Rustc::required()?;
        let _lock = cache::Lock::take()?;
        let core_source = rust_src::ensure(&rustc)?;
        let bpf_linker = bpf_linker::ensure(&rustc)?;
        Ok(Self { rustc, core_source, bpf_linker })
    }
}
