//! A BPF file system of a test's own.

use std::path::{Path, PathBuf};

use policy_agent::datapath::{Datapath, Removed, uninstall};
use policy_core::plan::TableState;
use policy_lab::BpfFs;

pub use crate::support::{SMALL, once_free};

/// The tables that are pinned, sorted.
pub const TABLES: [&str; 17] = [
    "control",
    "counters",
    "cuts_v4",
    "cuts_v6",
    "endpoints",
    "flows_v4",
    "flows_v6",
    "ident_v4",
    "ident_v6",
    "local_bits",
    "local_v4",
    "local_v6",
    "nearby",
    "nets_v4",
    "nets_v6",
    "ports",
    "rules",
];

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

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _removed = uninstall(self.path());
    }
}
