//! `cargo xtask build-ebpf`: rebuilds the committed object, or checks that it is what the source says.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{ebpf, report, setup::Toolchain, workspace};

/// Whether to write or to check.
#[derive(Args)]
pub struct Options {
    /// Build in an empty directory and fail if a byte differs from the committed object.
    #[arg(long)]
    check: bool,
}

/// Builds, then writes or compares.
pub fn run(options: &Options) -> Result<ExitCode> {
    let work = if options.check { check } else { write };
    work(&Toolchain::ensure()?)?;
    Ok(ExitCode::SUCCESS)
}

/// Fails if the committed object is not what the source builds.
pub fn check_committed() -> Result<()> {
    check(&Toolchain::ensure()?)
}

fn write(toolchain: &Toolchain) -> Result<()> {
    for (object, built) in ebpf::build(toolchain, &workspace::ebpf_target(), ebpf::Lockfile::MayChange)? {
        let path = workspace::root().join(object.path);
        if fs::read(&path).ok().as_deref() == Some(built.as_slice()) {
            report::done(&format!("{} is up to date ({} bytes)", object.path, built.len()));
            continue;
        }
        let folder = path.parent().context("the object has a directory")?;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        fs::write(&path, &built).with_context(|| format!("write {}", path.display()))?;
        report::done(&format!("wrote {} ({} bytes)", object.path, built.len()));
    }
    Ok(())
}

fn check(toolchain: &Toolchain) -> Result<()> {
    let target = tempfile::tempdir().context("make a temporary directory")?;
    let mut outdated = Vec::new();
    for (object, built) in ebpf::build(toolchain, target.path(), ebpf::Lockfile::Fixed)? {
        let path = workspace::root().join(object.path);
        let committed =
            fs::read(&path).with_context(|| format!("read {} (run `cargo xtask build-ebpf`)", path.display()))?;
        let differences = ebpf::compare::differences(&committed, &built);
        if differences.is_empty() {
            let bytes = built.len();
            report::done(&format!("{} is byte for byte what policy-ebpf builds ({bytes} bytes)", object.path));
        } else {
            differences.iter().for_each(|difference| report::detail(difference));
            outdated.push(object.path);
        }
    }
    anyhow::ensure!(
        outdated.is_empty(),
        "{}: not what policy-ebpf builds: run `cargo xtask build-ebpf` and commit the result",
        outdated.join(", ")
    );
    Ok(())
}
