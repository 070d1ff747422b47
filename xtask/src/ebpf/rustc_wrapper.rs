//! This program as cargo's `RUSTC_WRAPPER`: makes symbol names independent of where the checkout is.
//!
//! Cargo passes `-C metadata=<hash>`, which becomes part of every mangled name and so of BTF. For a
//! path dependency outside its workspace (`policy-common` is one) and for `core` under `-Zbuild-std`
//! the hash covers the absolute path, which no `--remap-path-prefix` changes.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

/// Set for the cargo whose rustc we wrap.
pub const MARK: &str = "CROSSWALL_RUSTC_WRAPPER";

/// Becomes rustc when cargo called us as its wrapper; otherwise returns at once.
pub fn run_if_called_by_cargo() -> Option<ExitCode> {
    std::env::var_os(MARK)?;
    let mut arguments = std::env::args_os().skip(1);
    let rustc = arguments.next()?;
    let package = ["CARGO_PKG_NAME", "CARGO_PKG_VERSION"].map(|name| std::env::var(name).unwrap_or_default());
    let arguments = with_stable_metadata(arguments, &package.join("-"));
    let failed = Command::new(&rustc).args(arguments).exec();
    crate::report::error(&anyhow::Error::new(failed).context(format!("start {}", rustc.display())));
    Some(ExitCode::FAILURE)
}

/// The arguments with cargo's `-C metadata=<hash>` replaced by the package's name and version.
fn with_stable_metadata(arguments: impl Iterator<Item = OsString>, package: &str) -> Vec<OsString> {
    arguments
        .map(|argument| match is_metadata(&argument) {
            true => format!("metadata={package}").into(),
            false => argument,
        })
        .collect()
}

fn is_metadata(argument: &OsStr) -> bool {
    argument.as_encoded_bytes().starts_with(b"metadata=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_metadata_is_replaced() {
        let given = ["--crate-name", "core", "-C", "metadata=4f1d", "-C", "extra-filename=-99", "src/lib.rs"];
        let expected = ["--crate-name", "core", "-C", "metadata=core-0.0.0", "-C", "extra-filename=-99", "src/lib.rs"];
        assert_eq!(with_stable_metadata(given.into_iter().map(OsString::from), "core-0.0.0"), expected);
    }
}
