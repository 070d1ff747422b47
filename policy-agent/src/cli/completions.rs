//! `policyctl completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

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
#[expect(clippy::unnecessary_wraps, reason = "all verbs have one signature")]
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    clap_complete::generate(options.shell, &mut Cli::command(), "policyctl", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
