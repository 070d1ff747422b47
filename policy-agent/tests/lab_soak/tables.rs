//! A look at the tables that the agent has left behind: how far it had come.

use std::collections::BTreeSet;
use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData};
use policy_common::table::{Control, Endpoint, Ident};

/// How the tables of a node are at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The commit in force.
    pub commit: u64,
    /// The elements whose two slots differ: the agent is, or was, in the middle of a commit.
    halves: BTreeSet<Vec<u8>>,
}

impl Look {
    /// At the tables below a BPF file system.
    pub fn at(bpffs: &Path) -> Self {
        let control = Array::<_, Control>::try_from(open(bpffs, "control")).expect("an array");
        let commit = control.get(&0, 0).expect("an array has its elements").commit;
        let mut halves = BTreeSet::new();
        let endpoints = HashMap::<_, u32, Endpoint>::try_from(open(bpffs, "endpoints")).expect("a hash map");
        for (ifindex, Endpoint { policy: [one, other], .. }) in endpoints.iter().filter_map(Result::ok) {
            if one != other {
                halves.insert(ifindex.to_ne_bytes().into());
            }
        }
        halves.extend(idents::<[u8; 4]>(bpffs, "ident_v4"));
        halves.extend(idents::<[u8; 16]>(bpffs, "ident_v6"));
        Self { commit, halves }
    }

    /// Whether somebody was in the middle of a commit.
    pub fn is_halfway(&self) -> bool {
        !self.halves.is_empty()
    }
}

/// The addresses whose two slots differ.
fn idents<A: aya::Pod + AsRef<[u8]>>(bpffs: &Path, name: &str) -> Vec<Vec<u8>> {
    let idents = HashMap::<_, A, Ident>::try_from(open(bpffs, name)).expect("a hash map");
    let halves = idents.iter().filter_map(Result::ok).filter(|(_, Ident { slots: [one, other] })| one != other);
    halves.map(|(address, _)| address.as_ref().to_vec()).collect()
}

fn open(bpffs: &Path, name: &str) -> Map {
    let data = MapData::from_pin(bpffs.join("crosswall").join(name)).expect("the agent pins its tables");
    Map::from_map_data(data).expect("a map")
}
