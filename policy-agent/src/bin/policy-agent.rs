//! `policy-agent`: enforces the network policy of one node.

use std::process::ExitCode;

use clap::Parser as _;
use policy_agent::agent::Cli;

fn main() -> ExitCode {
    Cli::parse().run().unwrap_or_else(|error| {
        eprintln!("policy-agent: {error:#}");
        ExitCode::FAILURE
    })
}
