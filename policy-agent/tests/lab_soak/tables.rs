//! A look at the tables that the agent has left behind: how far it had come.

use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData};
use policy_common::table::{Control, Endpoint, Ident};

/// How the tables of a node are at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The commit in force.
    pub commit: u64,
    /// Whether the agent is, or was, in the middle of a commit: two slots of an element differ.
    pub is_halfway: bool,
}

impl Look {
    /// At the tables below a BPF file system.
    pub fn at(bpffs: &Path) -> Self {
        let control = Array::<_, Control>::try_from(open(bpffs, "control")).expect("an array");
        let commit = control.get(&0, 0).expect("an array has its elements").commit;
        let endpoints = HashMap::<_, u32, Endpoint>::try_from(open(bpffs, "endpoints")).expect("a hash map");
        let mut endpoints = endpoints.iter().filter_map(Result::ok);
        let is_halfway = endpoints.any(|(_, endpoint)| endpoint.policy[0] != endpoint.policy[1])
            || idents::<[u8; 4]>(bpffs, "ident_v4")
            || idents::<[u8; 16]>(bpffs, "ident_v6");
        Self { commit, is_halfway }
    }
}

/// Whether the two slots of an address differ.
fn idents<A: aya::Pod>(bpffs: &Path, name: &str) -> bool {
    let idents = HashMap::<_, A, Ident>::try_from(open(bpffs, name)).expect("a hash map");
    idents.iter().filter_map(Result::ok).any(|(_, ident)| ident.slots[0] != ident.slots[1])
}

fn open(bpffs: &Path, name: &str) -> Map {
    let data = MapData::from_pin(bpffs.join("crosswall").join(name)).expect("the agent pins its tables");
    Map::from_map_data(data).expect("a map")
}
