//! The address blocks that live rules name, cut into prefixes whose signatures a longest match finds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::facet::{FacetId, Signature};
use crate::model::IpBlock;

/// All live blocks.
#[derive(Debug, Default)]
pub struct BlockTable {
    blocks: BTreeMap<FacetId, IpBlock>,
    prefixes: HashMap<IpNet, Signature>,
    lengths_v4: BTreeSet<u8>,
    lengths_v6: BTreeSet<u8>,
}

impl BlockTable {
    /// A block has come to live.
    pub fn insert(&mut self, id: FacetId, block: IpBlock) {
        self.blocks.insert(id, block);
    }

    /// A block is gone.
    pub fn remove(&mut self, id: FacetId) {
        self.blocks.remove(&id);
    }

    /// Cuts the blocks into prefixes again; returns those whose signature is another one now, or that are new or gone.
    ///
    /// `cidr`s and `except`s are the only places where the answer can change, so they are the prefixes; the longest one
    /// that covers an address lies inside a block wholly or not at all.
    pub fn cut(&mut self) -> BTreeSet<IpNet> {
        let edges: BTreeSet<IpNet> =
            self.blocks.values().flat_map(|block| block.except.iter().chain([&block.cidr])).copied().collect();
        let prefixes: HashMap<IpNet, Signature> =
            edges.iter().map(|prefix| (*prefix, self.blocks_around(prefix))).collect();
        let changed = |prefix: &&IpNet| prefixes.get(*prefix) != self.prefixes.get(*prefix);
        let moved = edges.iter().chain(self.prefixes.keys()).filter(changed).copied().collect();
        let lengths = |v4: bool| edges.iter().filter(|net| net.addr().is_ipv4() == v4).map(IpNet::prefix_len).collect();
        (self.lengths_v4, self.lengths_v6) = (lengths(true), lengths(false));
        self.prefixes = prefixes;
        moved
    }

    /// The blocks that hold every address of a prefix.
    fn blocks_around(&self, prefix: &IpNet) -> Signature {
        let holds =
            |block: &IpBlock| block.cidr.contains(prefix) && !block.except.iter().any(|except| except.contains(prefix));
        self.blocks.iter().filter(|(_, block)| holds(block)).map(|(id, _)| *id).collect()
    }

    /// The signature of a prefix.
    pub fn prefix(&self, prefix: &IpNet) -> Option<&Signature> {
        self.prefixes.get(prefix)
    }

    /// The blocks that hold an address.
    pub fn covering(&self, address: IpAddr) -> &[FacetId] {
        let lengths = if address.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths.iter().rev().find_map(|length| self.prefixes.get(&prefix_of(address, *length)?)).map_or(&[], |s| s)
    }
}

/// The prefix of this length around an address.
pub fn prefix_of(address: IpAddr, length: u8) -> Option<IpNet> {
    match address {
        IpAddr::V4(address) => Ipv4Net::new(address, length).ok().map(|net| IpNet::V4(net.trunc())),
        IpAddr::V6(address) => Ipv6Net::new(address, length).ok().map(|net| IpNet::V6(net.trunc())),
    }
}
