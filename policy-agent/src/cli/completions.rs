//! `policyctl completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::output::write;

const EXAMPLES: &str = "\
Examples:
  policyctl completions bash > /usr/share/bash-completion/completions/policyctl
  policyctl completions zsh > \"${fpath[1]}/_policyctl\"
  policyctl completions fish > ~/.config/fish/completions/policyctl.fish";

/// For which shell.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// The shell.
    shell: Shell,
}

/// Prints the completions.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    // Where it is written is asked later: this panics where it cannot write.
    let mut completions = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "policyctl", &mut completions);
    write(&completions)?;
    Ok(ExitCode::SUCCESS)
}
