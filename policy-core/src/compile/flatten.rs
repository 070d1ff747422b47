//! From rules and a signature to the final answer: allow, deny, or a port table, each with the rule that decided.

use std::collections::BTreeSet;

use policy_common::table::{Answer, PORT_KEY_FIXED_BITS, PortEntry, PortKey, PortPlace};

use super::content::{ContentPort, Ports};
use crate::facet::FacetId;
use crate::model::{Protocol, Text};

/// The number of a rule's place, as tables carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// A rule as the flattener sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRule {
    /// The number of its place.
    pub id: RuleId,
    /// Whom it admits; `None`: everybody.
    pub peers: Option<Vec<FacetId>>,
    /// To which ports.
    pub ports: Ports,
}

/// The final answer of a policy for a signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Flat {
    /// Nothing is allowed.
    Deny,
    /// Everything is.
    Allow(RuleId),
    /// What these ranges say; the rest is denied.
    Ports(PortTable),
}

/// Disjoint ranges, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PortTable {
    /// The ranges.
    pub ranges: Vec<PortRange>,
}

/// One range of a port table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The protocol.
    pub protocol: Protocol,
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
    /// What is said of it.
    pub answer: Answer,
    /// The rule that says so.
    pub rule: RuleId,
}

/// The answer of these rules for addresses of a signature; `named` tells the number behind a port name there.
pub fn flatten(
    rules: &[LiveRule],
    signature: &[FacetId],
    named: impl Fn(&(Protocol, Text), &[FacetId]) -> Option<u16>,
) -> Flat {
    let admits = |rule: &&LiveRule| {
        rule.peers.as_ref().is_none_or(|facets| facets.iter().any(|facet| signature.binary_search(facet).is_ok()))
    };
    let mut ranges = Vec::new();
    for rule in rules.iter().filter(admits) {
        match &rule.ports {
            Ports::All => return Flat::Allow(rule.id),
            Ports::Some(ports) => ranges.extend(ports.iter().filter_map(|port| match port {
                ContentPort::Range(protocol, first, last) => Some((*protocol, *first, *last, rule.id)),
                ContentPort::PeerNamed(protocol, name) => {
                    named(&(*protocol, name.clone()), signature).map(|number| (*protocol, number, number, rule.id))
                }
            })),
        }
    }
    let table = disjoint(&ranges);
    if table.ranges.is_empty() { Flat::Deny } else { Flat::Ports(table) }
}

/// Cuts overlapping ranges apart; where several cover a port, the first of the list names its rule.
fn disjoint(ranges: &[(Protocol, u16, u16, RuleId)]) -> PortTable {
    let mut table = PortTable::default();
    for protocol in Protocol::ALL {
        let own: Vec<_> = ranges.iter().filter(|range| range.0 == protocol).collect();
        // Where a range begins or the port after it: between two of these nothing changes.
        let edges: BTreeSet<u32> = own.iter().flat_map(|range| [u32::from(range.1), u32::from(range.2) + 1]).collect();
        let edges: Vec<u32> = edges.into_iter().collect();
        for pair in edges.windows(2) {
            let (first, last) = (pair[0] as u16, (pair[1] - 1) as u16);
            let Some(cover) = own.iter().find(|range| range.1 <= first && last <= range.2) else { continue };
            let range = PortRange { protocol, first, last, answer: Answer::Allow, rule: cover.3 };
            match table.ranges.last_mut() {
                Some(before) if continues(before, &range) => before.last = last,
                _ => table.ranges.push(range),
            }
        }
    }
    table
}

fn continues(before: &PortRange, next: &PortRange) -> bool {
    before.protocol == next.protocol
        && before.answer == next.answer
        && before.rule == next.rule
        && u32::from(before.last) + 1 == u32::from(next.first)
}

impl PortTable {
    /// The elements of `ports` that say this under the number `table`.
    pub fn entries(&self, table: u32) -> Vec<(PortKey, PortEntry)> {
        let mut entries = Vec::new();
        for range in &self.ranges {
            let value = PortEntry { answer: range.answer, rule: range.rule.0 };
            for (port, bits) in prefixes(range.first, range.last) {
                let key = PortKey {
                    prefix_len: PORT_KEY_FIXED_BITS + bits,
                    place: PortPlace {
                        table,
                        protocol: range.protocol.number(),
                        port: port.to_be_bytes(),
                        reserved: 0,
                    },
                };
                entries.push((key, value));
            }
        }
        entries
    }
}

/// The fewest prefixes (first port, leading bits) that cover a range exactly.
fn prefixes(first: u16, last: u16) -> Vec<(u16, u32)> {
    let mut prefixes = Vec::new();
    let (mut next, end) = (u32::from(first), u32::from(last) + 1);
    while next < end {
        let aligned = if next == 0 { 16 } else { next.trailing_zeros() };
        let fitting = (end - next).ilog2();
        let free = aligned.min(fitting);
        prefixes.push((next as u16, 16 - free));
        next += 1 << free;
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_ranges_of_one_protocol_and_one_rule_that_touch_become_one() {
        use Protocol::{Tcp, Udp};
        let [one, other] = [1, 2].map(RuleId);
        let range = |(protocol, first, last, rule)| PortRange { protocol, first, last, answer: Answer::Allow, rule };
        let touching = [(Tcp, 1, 79, one), (Tcp, 80, 90, one)];
        assert_eq!(disjoint(&touching).ranges, [(Tcp, 1, 90, one)].map(range));
        let others = [
            [(Tcp, 1, 79, one), (Tcp, 81, 90, one)],
            [(Tcp, 1, 79, one), (Tcp, 80, 90, other)],
            [(Tcp, 1, 79, one), (Udp, 80, 90, one)],
        ];
        for apart in others {
            assert_eq!(disjoint(&apart).ranges, apart.map(range));
        }
    }

    proptest! {
        #[test]
        fn prefixes_cover_a_range_exactly(a: u16, b: u16, probe: u16) {
            let (first, last) = (a.min(b), a.max(b));
            let covering = prefixes(first, last)
                .into_iter()
                .filter(|(port, bits)| bits == &0 || (port ^ probe) >> (16 - bits) == 0)
                .count();
            prop_assert_eq!(covering, usize::from((first..=last).contains(&probe)));
        }

        #[test]
        fn the_first_range_that_covers_a_port_names_its_rule(
            ranges in prop::collection::vec((0u16..20, 0u16..20), 0..6), probe in 0u16..20,
        ) {
            let ranges: Vec<_> = ranges.iter().enumerate()
                .map(|(rule, (a, b))| (Protocol::Tcp, *a.min(b), *a.max(b), RuleId(rule as u32)))
                .collect();
            let expected = ranges.iter().find(|range| range.1 <= probe && probe <= range.2).map(|range| range.3);
            let table = disjoint(&ranges);
            let found: Vec<_> = table.ranges.iter()
                .filter(|range| range.first <= probe && probe <= range.last)
                .map(|range| range.rule)
                .collect();
            prop_assert_eq!(found, Vec::from_iter(expected));
        }
    }
}
