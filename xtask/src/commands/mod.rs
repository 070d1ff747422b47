//! The command line of `cargo xtask`: one file per command.

mod bench;
mod build_ebpf;
mod ci;
mod demo;
mod envtest;
mod figures;
mod setup;
mod soak;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Every command a developer of Crosswall runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch what the tests and `build-ebpf` need (once; later runs only look).
    Setup(setup::Options),
    /// Provide kube-apiserver, kubectl and etcd for tests; prints where they are, for a shell.
    Envtest,
    /// Rebuild the committed object with the kernel programs.
    BuildEbpf(build_ebpf::Options),
    /// Three clusters in network namespaces, real agents, real traffic (root); else the simulated part.
    Demo(demo::Options),
    /// Draw what benchmarks have measured, for the documents.
    Figures(figures::Options),
    /// Kill an agent again and again while policies change and traffic goes on (root); what passes or is cut fails it.
    Soak(soak::Options),
    /// Run the tests of every tier that this machine can run.
    Test,
    /// Measure what things cost, beside their budgets.
    Bench(bench::Options),
    /// Everything that must hold before a change lands: formatting, lints, docs, dependencies, the object, the tests.
    Ci(ci::Options),
}

impl Cli {
    /// Runs the command that was asked for.
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Setup(options) => setup::run(&options),
            Command::Envtest => envtest::run(),
            Command::BuildEbpf(options) => build_ebpf::run(&options),
            Command::Demo(options) => demo::run(&options),
            Command::Figures(options) => figures::run(&options),
            Command::Soak(options) => soak::run(&options),
            Command::Test => test::run(test::Skipping::Allowed),
            Command::Bench(options) => bench::run(&options),
            Command::Ci(options) => ci::run(&options),
        }
    }
}
