//! The source of `core`: the rustup component, or Debian's package of the same version.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow};

use super::{Rustc, apt, cache};
use crate::{process, report};

/// Debian's package of the required compiler's source, and the suite that has it.
const PACKAGE: apt::Package =
    apt::Package { name: "rust-src", version: "1.95.0+dfsg1-2~bpo13+1", suite: "trixie-backports" };

/// Finds the directory `library`, fetching it when it is absent.
pub fn ensure(rustc: &Rustc) -> Result<PathBuf> {
    if let Some(component) = rustc.source_component() {
        return Ok(component);
    }
    let name = format!("rust-src-{}", rustc.version);
    let library = cache::root()?.join(&name).join("library");
    if is_library(&library) {
        return Ok(library);
    }
    report::step(&format!("fetching the source of core {} (45 MB, once)", rustc.version));
    fetch(rustc, &name).map_err(|error| {
        anyhow!(
            "the source of core {} is absent: run `rustup component add rust-src` (tried Debian's package: {error:#})",
            rustc.version
        )
    })?;
    Ok(library)
}

fn is_library(path: &Path) -> bool {
    path.join("core/src/lib.rs").is_file() && path.join("Cargo.lock").is_file()
}

fn fetch(rustc: &Rustc, name: &str) -> Result<()> {
    let cache = cache::folder("")?;
    let work = tempfile::tempdir_in(&cache).context("make a temporary directory")?;
    let package = apt::download(&PACKAGE, work.path())?;
    // The package has the whole compiler; only the library is kept.
    let inside = format!("./usr/src/rustc-{}/library", rustc.version);
    process::output(
        Command::new("sh").args(["-ec", r#"dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" "$3""#, "sh"]).args([
            package.as_os_str(),
            work.path().as_os_str(),
            inside.as_ref(),
        ]),
    )
    .context("unpack the package")?;
    let unpacked = work.path().join(inside);
    if !is_library(&unpacked) {
        return Err(anyhow!("the package has no core {}", rustc.version));
    }
    let place = cache.join(name);
    fs::create_dir_all(&place).with_context(|| format!("create {}", place.display()))?;
    let library = place.join("library");
    let _absent_is_fine = fs::remove_dir_all(&library);
    fs::rename(&unpacked, &library).with_context(|| format!("move the source to {}", library.display()))
}
