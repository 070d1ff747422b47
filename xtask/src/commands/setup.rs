//! `cargo xtask setup`: fetches what the other commands need, and says what it found.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::{report, setup};

/// What to fetch.
#[derive(Args)]
pub struct Options {
    /// Leave out what only `build-ebpf` needs: the tests and the demo use the committed object.
    #[arg(long)]
    without_ebpf: bool,
}

/// Fetches everything, in the order in which it is likely to fail.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::packages::ensure()?;
    if !options.without_ebpf {
        let toolchain = setup::Toolchain::ensure()?;
        report::found("rustc", &toolchain.rustc.version);
        report::found("core's source", &toolchain.core_source.display().to_string());
        report::found("bpf-linker", &toolchain.bpf_linker.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}
