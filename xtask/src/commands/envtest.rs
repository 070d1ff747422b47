//! `cargo xtask envtest`: provides kube-apiserver, kubectl and etcd, and says where they are.

use std::process::ExitCode;

use anyhow::Result;

use crate::{report, setup::envtest};

/// Prints nothing but a line for a shell on standard output: `eval "$(cargo xtask envtest)"`.
pub fn run() -> Result<ExitCode> {
    report::aside();
    let folder = envtest::ensure()?;
    println!("export {}='{}'", envtest::VARIABLE, folder.display());
    Ok(ExitCode::SUCCESS)
}
