//! bpf-linker: one on the PATH, one in the cache, or one compiled against the compiler's own LLVM.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Rustc, cache};
use crate::{process, report};

/// The version that the committed object was linked with.
const VERSION: &str = "0.13.0";

/// The LLVM of the required compiler, as bpf-linker names its feature.
const LLVM_FEATURE: &str = "llvm-22";

/// Finds bpf-linker, compiling it when it is absent.
///
/// The cached one goes first: it is linked with the compiler's LLVM, so its output is the same on
/// every machine.
pub fn ensure(rustc: &Rustc) -> Result<PathBuf> {
    let folder = cache::folder(&format!("bpf-linker-{VERSION}-rustc-{}", rustc.version))?;
    let cached = folder.join("bin/bpf-linker");
    if cached.is_file() {
        // The toolchain may have moved since.
        link_llvm(rustc)?;
        if fits(&cached) {
            return Ok(cached);
        }
    }
    if let Some(present) = process::which("bpf-linker").filter(|path| fits(path)) {
        return Ok(present);
    }
    report::step(&format!("compiling bpf-linker {VERSION} against rustc's LLVM (1–3 minutes, once)"));
    let prefix = link_llvm(rustc)?;
    install(&folder, &prefix).with_context(|| {
        format!("compile bpf-linker {VERSION}; you can also install it yourself: `cargo binstall bpf-linker@{VERSION}`")
    })?;
    Ok(cached)
}

fn fits(program: &Path) -> bool {
    process::output(Command::new(program).arg("--version"))
        .is_ok_and(|said| said.split_whitespace().any(|word| word == VERSION))
}

/// A prefix as bpf-linker's build wants it, whose LLVM is the compiler's. The linker's rpath names it,
/// so it stays beside the linker in the cache.
fn link_llvm(rustc: &Rustc) -> Result<PathBuf> {
    let prefix = cache::folder(&format!("llvm-rustc-{}", rustc.version))?;
    let llvm = rustc.llvm()?;
    let library = prefix.join("lib");
    fs::create_dir_all(&library).with_context(|| format!("create {}", library.display()))?;
    let soname = llvm.file_name().context("the library has a name")?;
    for name in [soname, "libLLVM.so".as_ref()] {
        let link = library.join(name);
        if fs::read_link(&link).ok().as_deref() == Some(llvm.as_path()) {
            continue;
        }
        let _absent_is_fine = fs::remove_file(&link);
        symlink(&llvm, &link).with_context(|| format!("link {}", link.display()))?;
    }
    Ok(prefix)
}

fn install(folder: &Path, prefix: &Path) -> Result<()> {
    let build = tempfile::tempdir().context("make a temporary directory")?;
    process::run(
        process::cargo()
            .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"])
            .args(["--no-default-features", "--features", LLVM_FEATURE, "--root"])
            .arg(folder)
            .env("LLVM_PREFIX", prefix)
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .env("CARGO_TARGET_DIR", build.path())
            .env_remove("RUSTFLAGS"),
    )
}
