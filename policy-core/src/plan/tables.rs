//! The kernel's tables as ordinary maps: what the agent knows to be in the kernel, and what simulations decide with.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;
use policy_common::family::{Family, V4, V6};
use policy_common::table::{
    Endpoint, Ident, LOCAL_BITS_WORDS, Local, NetIdent, POLICY_HOLD, PortEntry, PortKey, RuleEntry, RuleKey, Tagged,
    live_slot, local_bit,
};

use super::Idents;
use crate::by_address::ByAddress;

/// The content of every table that the agent writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableState {
    /// `control`: the commit.
    pub commit: u64,
    /// `endpoints`, by ifindex.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// `local_v4`, `local_v6`.
    pub local: ByAddress<Local>,
    /// `ident_v4`, `ident_v6`: the identities in the two slots, which [`ident`] makes an element of.
    pub idents: Idents,
    /// `nets_v4`, `nets_v6`.
    pub nets: BTreeMap<IpNet, NetIdent>,
    /// `rules`.
    pub rules: HashMap<RuleKey, RuleEntry>,
    /// `ports`, by port table.
    pub ports: BTreeMap<u32, BTreeMap<PortKey, PortEntry>>,
}

/// One write to one table; `None` deletes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Write {
    /// To `endpoints`.
    Endpoint(u32, Option<Endpoint>),
    /// To `local_v4` or `local_v6`.
    Local(IpAddr, Option<Local>),
    /// To `ident_v4` or `ident_v6`.
    Ident(IpAddr, Option<Ident>),
    /// To `nets_v4` or `nets_v6`.
    Net(IpNet, Option<NetIdent>),
    /// To `rules`.
    Rule(RuleKey, Option<RuleEntry>),
    /// To `ports`.
    Port(PortKey, Option<PortEntry>),
    /// Sets an element of `counters` to zero.
    ClearCounters(u32),
}

impl Write {
    /// Whether it moves what programs find by one slot of two.
    pub(super) fn is_pointer(&self) -> bool {
        match self {
            Self::Endpoint(..) | Self::Ident(..) | Self::Net(..) => true,
            Self::Local(..) | Self::Rule(..) | Self::Port(..) | Self::ClearCounters(_) => false,
        }
    }

    /// Whether it deletes an element that does not say whose it is, or not in all of its parts: elements of a trie carry
    /// no tag. Before the next plan adds one, nobody may still read it.
    pub(super) fn deletes_untagged(&self) -> bool {
        match self {
            Self::Endpoint(_, value) => value.is_none(),
            Self::Net(_, value) => value.is_none(),
            Self::Local(..) | Self::Ident(..) | Self::Rule(..) | Self::Port(..) | Self::ClearCounters(_) => false,
        }
    }
}

impl TableState {
    /// The slot that the programs read.
    pub fn live(&self) -> usize {
        live_slot(self.commit)
    }

    /// Whether the policies of the endpoint behind an interface are not known here, so that nothing passes there but what
    /// always does.
    pub fn is_held(&self, ifindex: u32) -> bool {
        let live = self.live();
        self.endpoints.get(&ifindex).is_none_or(|endpoint| endpoint.policy[live].egress.id == POLICY_HOLD)
    }

    /// Carries out one write.
    pub fn write(&mut self, write: &Write) {
        match *write {
            Write::Endpoint(ifindex, value) => set(&mut self.endpoints, ifindex, value),
            Write::Local(address, value) => drop(self.local.set(address, value)),
            Write::Ident(address, value) => {
                self.idents.set(address, value.map(|ident| ident.slots.map(|slot| slot.id)));
            }
            Write::Net(prefix, value) => set(&mut self.nets, prefix, value),
            Write::Rule(key, value) => set_hashed(&mut self.rules, key, value),
            Write::Port(key, value) => {
                let table = self.ports.entry(key.place.table).or_default();
                set(table, key, value);
                if table.is_empty() {
                    self.ports.remove(&key.place.table);
                }
            }
            Write::ClearCounters(_) => {}
        }
    }

    /// The longest prefix that covers an address, or covers `address/below` without being it.
    pub fn covering(&self, address: IpAddr, below: Option<u8>) -> Option<(&IpNet, &NetIdent)> {
        let longest = match below {
            Some(length) => length.checked_sub(1)?,
            None if address.is_ipv4() => 32,
            None => 128,
        };
        (0..=longest).rev().find_map(|length| self.nets.get_key_value(&crate::compile::prefix_of(address, length)?))
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

fn set_hashed<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// The element of `ident_…` that holds these identities.
pub fn ident(address: IpAddr, identities: [u32; 2]) -> Ident {
    let tag = address_tag(address);
    Ident { slots: identities.map(|id| Tagged { tag, id }) }
}

/// What `local_bits` holds where these addresses have an element of `local_…`.
pub fn local_bits(addresses: impl Iterator<Item = IpAddr>) -> [u64; LOCAL_BITS_WORDS as usize] {
    let mut elements = [0; LOCAL_BITS_WORDS as usize];
    for (element, bit) in addresses.map(|address| local_bit(address_tag(address))) {
        elements[element as usize] |= bit;
    }
    elements
}

/// The tag that an exact address carries in `local_…` and `ident_…`.
pub fn address_tag(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => V4::tag(&address.octets()),
        IpAddr::V6(address) => V6::tag(&address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn addresses_that_differ_in_few_bits_have_tags_of_their_own() {
        let v4 = (0..4096).map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)));
        let v6 = (0..4096)
            .flat_map(|bits: u128| [0, 32, 64, 96].map(|word| IpAddr::from(Ipv6Addr::from_bits(bits << word))));
        assert_eq!(v4.map(address_tag).collect::<HashSet<_>>().len(), 4096);
        // The address of which all words are zero stands four times.
        assert_eq!(v6.map(address_tag).collect::<HashSet<_>>().len(), 4 * 4095 + 1);
    }
}
