//! `cargo xtask demo`: builds the programs, then lets the demo tell its story.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{process, report, setup, workspace};

/// Builds and runs it; without what it needs it shows the simulated part.
pub fn run() -> Result<ExitCode> {
    setup::packages::ensure()?;
    report::step("building the agent, policyctl and the demo (1–3 minutes from empty)");
    let build = ["build", "--release", "--quiet", "--package", "policy-agent", "--bins", "--example", "demo"];
    process::run(process::cargo().args(build).current_dir(workspace::root()))?;
    let run = ["run", "--release", "--quiet", "--package", "policy-agent", "--example", "demo"];
    let status = process::cargo().args(run).current_dir(workspace::root()).status().context("start the demo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
