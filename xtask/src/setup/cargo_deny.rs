//! cargo-deny: one on the PATH, or one compiled into the cache.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::cache;
use crate::{process, report};

const VERSION: &str = "0.20.2";

/// Finds cargo-deny, compiling it when it is absent.
pub fn ensure() -> Result<PathBuf> {
    if let Some(present) = process::which("cargo-deny") {
        return Ok(present);
    }
    let _lock = cache::Lock::take()?;
    let folder = cache::folder(&format!("cargo-deny-{VERSION}"))?;
    let cached = folder.join("bin/cargo-deny");
    if !cached.is_file() {
        report::step(&format!("compiling cargo-deny {VERSION} (2–5 minutes, once)"));
        let build = tempfile::tempdir().context("make a temporary directory")?;
        process::run(
            process::cargo()
                .args(["install", "cargo-deny", "--version", VERSION, "--locked", "--force", "--root"])
                .arg(&folder)
                // It runs for a second: compiling it fast matters more than how fast it is.
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
                .env("CARGO_TARGET_DIR", build.path())
                .env_remove("RUSTFLAGS"),
        )
        .with_context(|| format!("compile cargo-deny {VERSION}"))?;
    }
    Ok(cached)
}
