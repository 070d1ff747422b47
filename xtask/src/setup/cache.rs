//! The cache outside the checkout: what was fetched once serves every clone.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use anyhow::{Context as _, Result};

use crate::report;

/// `$XDG_CACHE_HOME/crosswall`, else `~/.cache/crosswall`.
pub fn root() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set: there is no place to keep what is fetched")?;
    Ok(base.join("crosswall"))
}

/// A directory of the cache, made when absent.
pub fn folder(name: &str) -> Result<PathBuf> {
    let path = root()?.join(name);
    fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

/// Held while something is fetched, so that two commands do not fetch the same thing; the kernel
/// releases it when the process ends.
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

impl Lock {
    /// Waits until no other command fetches.
    pub fn take() -> Result<Self> {
        let path = folder("")?.join("lock");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        if file.try_lock().is_err() {
            report::step("waiting for another `cargo xtask` that fetches the same things");
            file.lock().with_context(|| format!("lock {}", path.display()))?;
        }
        Ok(Self(file))
    }
}
