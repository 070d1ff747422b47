//! `cargo xtask demo`: builds the programs, then lets the demo tell its story.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{process, report, setup, workspace};

/// Which story is told.
#[derive(Args)]
pub struct Options {
    /// Two clusters with real API servers instead of directories; they are built first where they are missing (Go).
    #[arg(long)]
    kube: bool,
}

/// Builds and runs it; without what it needs it shows the simulated part.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::packages::ensure()?;
    let assets = options.kube.then(setup::envtest::ensure).transpose()?;
    report::step("building the agent, policyctl and the demo (1–3 minutes from empty)");
    let build = ["build", "--release", "--quiet", "--package", "policy-agent", "--bins", "--example", "demo"];
    process::run(process::cargo().args(build).current_dir(workspace::root()))?;
    let run = ["run", "--release", "--quiet", "--package", "policy-agent", "--example", "demo"];
    let mut demo = process::cargo();
    demo.args(run).current_dir(workspace::root());
    if let Some(assets) = assets {
        demo.env(setup::envtest::VARIABLE, assets).args(["--", "--kube"]);
    }
    let status = demo.status().context("start the demo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
