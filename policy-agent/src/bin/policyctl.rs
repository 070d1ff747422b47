//! `policyctl`: what Crosswall decides, and why.

use std::process::ExitCode;

use clap::Parser as _;
use policy_agent::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run().unwrap_or_else(|error| {
        eprintln!("policyctl: {error:#}");
        ExitCode::from(2)
    })
}
