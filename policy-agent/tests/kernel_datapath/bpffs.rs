//! A BPF file system of a test's own.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use policy_agent::datapath::{Capacities, Datapath, DatapathError, Removed, uninstall};
use policy_core::plan::TableState;
use policy_lab::BpfFs;

use crate::net::PATIENCE;

/// Tables that are made fast.
pub const SMALL: Capacities = Capacities {
    endpoints: 64,
    local: 256,
    addresses: 1024,
    prefixes: 256,
    rules: 4096,
    ports: 1024,
    flows: 4096,
    cuts: 1024,
};

/// A BPF file system of its own, with nothing left in it afterwards.
pub struct Bpffs(BpfFs);

impl Bpffs {
    pub fn new() -> Self {
        Self(BpfFs::mount().expect("root may mount a BPF file system"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The pin of an object.
    pub fn pin(&self, name: &str) -> PathBuf {
        self.path().join("crosswall").join(name)
    }

    pub fn open(&self) -> (Datapath, TableState) {
        let opened = once_free(|| Datapath::open(self.path(), &SMALL));
        opened.unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    pub fn uninstall(&self) -> Removed {
        once_free(|| uninstall(self.path())).unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    /// What is pinned in a directory, sorted.
    pub fn names(&self, directory: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.pin(directory)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("listed").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

/// Other tests start commands meanwhile, and between fork and exec those hold whatever this process had open.
pub fn once_free<T>(mut attempt: impl FnMut() -> Result<T, DatapathError>) -> Result<T, DatapathError> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(DatapathError::Held { .. }) if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(1)),
            outcome => return outcome,
        }
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _removed = uninstall(self.path());
    }
}
