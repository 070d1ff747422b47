//! Every command a developer of Crosswall runs: `cargo xtask …`.

mod commands;
mod ebpf;
mod machine;
mod manifests;
mod process;
mod report;
mod setup;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if let Some(code) = ebpf::rustc_wrapper::run_if_called_by_cargo() {
        return code;
    }
    match commands::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            report::error(&error);
            ExitCode::FAILURE
        }
    }
}
