//! Builds `policy-ebpf` so that the object is the same bytes on every machine.

pub mod compare;
pub mod rustc_wrapper;
mod strip;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    process, report,
    setup::Toolchain,
    workspace::{self, EbpfObject},
};

const TARGET: &str = "bpfel-unknown-none";

/// Whether cargo may bring `Cargo.lock` up to date.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lockfile {
    /// A developer changed dependencies.
    MayChange,
    /// A check builds what is committed.
    Fixed,
}

/// Builds the programs in the given target directory and gives each object without its DWARF.
pub fn build(toolchain: &Toolchain, target: &Path, lockfile: Lockfile) -> Result<Vec<(EbpfObject, Vec<u8>)>> {
    report::step("building the kernel programs (with core, 30–60 seconds from empty)");
    let mut cargo = cargo(toolchain, target, "build")?;
    if lockfile == Lockfile::Fixed {
        cargo.arg("--locked");
    }
    process::run(&mut cargo)?;
    let stripped = |object: EbpfObject| {
        let linked = target.join(TARGET).join("release").join(object.binary);
        let bytes = fs::read(&linked).with_context(|| format!("read {}", linked.display()))?;
        Ok((object, strip::debug_info(&bytes).with_context(|| format!("strip {}", linked.display()))?))
    };
    workspace::EBPF_OBJECTS.into_iter().map(stripped).collect()
}

/// Clippy, warnings denied.
pub fn clippy(toolchain: &Toolchain) -> Result<()> {
    let mut cargo = cargo(toolchain, &workspace::ebpf_target(), "clippy")?;
    process::run(cargo.args(["--locked", "--", "-D", "warnings"]))
}

/// A cargo for the BPF target: nothing of the caller's environment changes what it builds.
fn cargo(toolchain: &Toolchain, target: &Path, subcommand: &str) -> Result<Command> {
    let mut cargo = process::cargo();
    for (name, _) in std::env::vars_os() {
        if changes_the_build(&name.to_string_lossy()) {
            cargo.env_remove(name);
        }
    }
    cargo
        .current_dir(workspace::ebpf_crate())
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(toolchain)?)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.bpf_linker)
        // `core` has no stable build for this target, and cargo builds it only with unstable flags.
        // For this child only: our own crates stay stable Rust.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", &toolchain.core_source)
        .env("RUSTC_WRAPPER", std::env::current_exe().context("find this program")?)
        .env(rustc_wrapper::MARK, "1")
        // Behind the subcommand: one that is a program of its own is not told what stands before it.
        .args([subcommand, "--release", "--target", TARGET, "-Zbuild-std=core"]);
    Ok(cargo)
}

fn changes_the_build(name: &str) -> bool {
    const PREFIXES: [&str; 5] = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_UNSTABLE_", "RUSTC_"];
    const NAMES: [&str; 5] =
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_INCREMENTAL", "SOURCE_DATE_EPOCH", "RUST_LOG"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// BTF for the maps and functions, and names for every directory that differs between machines.
fn rust_flags(toolchain: &Toolchain) -> Result<OsString> {
    let remapped = [
        (workspace::root().to_owned(), "crosswall"),
        (cargo_home()?, "cargo"),
        (toolchain.core_source.clone(), "rust-src"),
    ];
    let mut flags = OsString::from("-Clink-arg=--btf");
    for (path, name) in remapped {
        flags.push("\u{1f}--remap-path-prefix=");
        flags.push(path);
        flags.push("=");
        flags.push(name);
    }
    Ok(flags)
}

fn cargo_home() -> Result<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")
}
