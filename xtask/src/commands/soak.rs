//! `cargo xtask soak`: kills an agent again and again under traffic, and counts what must not have happened.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{process, report, setup, workspace};

/// How long and how.
#[derive(Args)]
pub struct Options {
    /// How often the agent is killed.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    kills: u32,
    /// Spreads the kills over so many seconds; without it they follow one another.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seconds: u64,
    /// Begins the random choices with this number.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Writes the figures here too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Builds and runs it; whatever passed, was cut or lost makes it fail.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::packages::ensure()?;
    report::step("building the agent and the soak (1–3 minutes from empty)");
    let test = ["test", "--release", "--quiet", "--package", "policy-agent", "--test", "lab_soak"];
    process::run(process::cargo().args(test).arg("--no-run").current_dir(workspace::root()))?;
    report::step(&format!("killing the agent {} times", options.kills));
    let mut soak = process::cargo();
    soak.args(test).args(["--", "--nocapture"]).current_dir(workspace::root());
    soak.env("CROSSWALL_SOAK_KILLS", options.kills.to_string());
    soak.env("CROSSWALL_SOAK_SECONDS", options.seconds.to_string());
    if let Some(seed) = options.seed {
        soak.env("CROSSWALL_SOAK_SEED", seed.to_string());
    }
    if let Some(json) = &options.json {
        let json = std::path::absolute(json).with_context(|| format!("find {}", json.display()))?;
        soak.env("CROSSWALL_SOAK_JSON", json);
    }
    // What it has to say, it says on standard error; the other is its test harness's.
    let status = soak.stdout(Stdio::null()).status().context("start the soak")?;
    if status.success() {
        report::done("nothing forbidden passed, nothing allowed was cut or lost");
        return Ok(ExitCode::SUCCESS);
    }
    report::failed("not as it must be: see above");
    Ok(ExitCode::FAILURE)
}
