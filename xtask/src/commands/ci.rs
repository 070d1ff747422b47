//! `cargo xtask ci`: everything that must hold before a change lands.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{build_ebpf, test};
use crate::{ebpf, manifests, process, report, setup, workspace};

/// What counts as good.
#[derive(Args)]
pub struct Options {
    /// Pass although this machine cannot run a tier of tests (without root, or on an old kernel).
    #[arg(long)]
    allow_skipped: bool,
}

/// Runs all checks, then all tests; the first check that fails ends it.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::packages::ensure()?;
    cargo("formatting", &["fmt", "--all", "--check"])?;
    cargo("lints", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    report::step("documentation");
    let mut doc = process::cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings");
    process::run(doc.current_dir(workspace::root()))?;
    deny()?;
    manifests::check()?;
    report::step("kernel programs: formatting, lints, the committed object");
    let mut format = process::cargo();
    process::run(format.args(["fmt", "--check"]).current_dir(workspace::ebpf_crate()))?;
    ebpf::clippy(&setup::Toolchain::ensure()?)?;
    build_ebpf::check_committed()?;
    test::run(if options.allow_skipped { test::Skipping::Allowed } else { test::Skipping::Denied })
}

fn cargo(what: &str, arguments: &[&str]) -> Result<()> {
    report::step(what);
    process::run(process::cargo().args(arguments).current_dir(workspace::root()))
}

fn deny() -> Result<()> {
    let cargo_deny = setup::cargo_deny::ensure()?;
    report::step(
        "dependencies: bans, licences, sources (advisories need the network: left to `cargo deny check advisories`)",
    );
    for manifest in [workspace::root().join("Cargo.toml"), workspace::ebpf_crate().join("Cargo.toml")] {
        let mut check = Command::new(&cargo_deny);
        check.arg("--manifest-path").arg(&manifest).args(["--log-level", "error", "--config"]);
        check.arg(workspace::root().join("deny.toml")).args(["check", "bans", "licenses", "sources"]);
        process::run(check.current_dir(workspace::root()))
            .with_context(|| format!("the dependencies of {} are not as deny.toml wants them", manifest.display()))?;
    }
    Ok(())
}
