//! The command line of `policyctl`: one file per verb.

mod simulate;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// What Crosswall decides, and why.
#[derive(Debug, Parser)]
#[command(name = "policyctl", version, about)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Decide who may talk in a ClusterSet of manifests: no root, no kernel, no cluster.
    Simulate(simulate::Options),
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// One JSON object a line.
    Json,
}

impl Cli {
    /// Runs the verb that was asked for.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Simulate(options) => simulate::run(&options),
        }
    }
}
