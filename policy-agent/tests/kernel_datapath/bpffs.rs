//! A directory of a test's own on the machine's BPF file system.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use policy_agent::datapath::{Capacities, Datapath, uninstall};
use policy_core::plan::TableState;

/// Tables that are made fast.
pub const SMALL: Capacities =
    Capacities { endpoints: 64, local: 256, addresses: 1024, prefixes: 256, rules: 4096, ports: 1024, flows: 4096 };

/// A directory of its own on the machine's BPF file system, with nothing left in it afterwards.
pub struct Bpffs(PathBuf);

impl Bpffs {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/sys/fs/bpf/cw-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("root, and a BPF file system at /sys/fs/bpf");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The pin of an object.
    pub fn pin(&self, name: &str) -> PathBuf {
        self.0.join("crosswall").join(name)
    }

    pub fn open(&self) -> (Datapath, TableState) {
        Datapath::open(&self.0, &SMALL).unwrap_or_else(|error| panic!("{error}: {error:?}"))
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

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _removed = uninstall(&self.0);
        let _removed = std::fs::remove_dir(&self.0);
    }
}
