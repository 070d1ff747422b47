//! How many elements each table has room for.

use policy_core::plan::{Limits, Table};

/// How many elements each table has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// Endpoints.
    pub endpoints: u32,
    /// Addresses of this node and of its pods, in each family.
    pub local: u32,
    /// Addresses that some policy here distinguishes, in each family.
    pub addresses: u32,
    /// Prefixes of policies here, in each family.
    pub prefixes: u32,
    /// Rows of policies.
    pub rules: u32,
    /// Prefixes of port tables.
    pub ports: u32,
    /// Connections, in each family; the least recently used ones make room.
    pub flows: u32,
    /// Connections that a policy cut, in each family; they take memory only where there are any.
    pub cuts: u32,
}

impl Default for Capacities {
    fn default() -> Self {
        Self {
            endpoints: 1024,
            local: 4096,
            addresses: 1 << 20,
            prefixes: 1 << 16,
            rules: 1 << 20,
            ports: 1 << 18,
            flows: 1 << 17,
            cuts: 1 << 18,
        }
    }
}

impl Capacities {
    /// The map's sizes, by name.
    ///
    /// Tries have room for one more than is used, because kernels before 6.13 refuse to replace an element of a full
    /// one (`trie_update_elem` in kernel/bpf/lpm_trie.c).
    pub(super) fn by_map(&self) -> [(&'static str, u32); 14] {
        let Self { endpoints, local, addresses, prefixes, rules, ports, flows, cuts } = *self;
        [
            ("endpoints", endpoints),
            ("counters", endpoints),
            ("local_v4", local),
            ("local_v6", local),
            ("ident_v4", addresses),
            ("ident_v6", addresses),
            ("nets_v4", prefixes.saturating_add(1)),
            ("nets_v6", prefixes.saturating_add(1)),
            ("rules", rules),
            ("ports", ports.saturating_add(1)),
            ("flows_v4", flows),
            ("flows_v6", flows),
            ("cuts_v4", cuts),
            ("cuts_v6", cuts),
        ]
    }

    /// What plans have to fit in.
    pub fn limits(&self) -> Limits {
        let room = |table| match table {
            Table::Endpoints => self.endpoints,
            Table::LocalV4 | Table::LocalV6 => self.local,
            Table::IdentV4 | Table::IdentV6 => self.addresses,
            Table::NetsV4 | Table::NetsV6 => self.prefixes,
            Table::Rules => self.rules,
            Table::Ports => self.ports,
        };
        Limits { most: Table::ALL.into_iter().map(|table| (table, room(table) as usize)).collect() }
    }
}
