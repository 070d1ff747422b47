//! BPF file systems of their own: many machines have none mounted, and what is pinned elsewhere is not ours.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::cleanup::{self, RunId, bpffs_of};
use crate::error::{Error, Result};

/// A BPF file system that goes, with all that is pinned in it, on drop and on signals.
#[derive(Debug)]
pub struct BpfFs {
    run: RunId,
    path: PathBuf,
}

impl BpfFs {
    /// Mounts a new one.
    pub fn mount() -> Result<Self> {
        let run = RunId::new();
        let path = bpffs_of(&run.directory());
        let _permit = cleanup::permit()?;
        mount_at(&path)?;
        Ok(Self { run, path })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        cleanup::sweep(self.run);
    }
}

/// Mounts a BPF file system at a directory, which is made.
pub(crate) fn mount_at(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::path("create", path))?;
    mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), None::<&str>).map_err(Error::path("mount a bpffs at", path))
}
