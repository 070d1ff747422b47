//! Which addresses can move before the flip: an identity with the same answers under every policy in force can be an
//! address's at once, since no packet sees the difference until policies are in force that make one. Such an address is
//! written once, not twice.

use std::collections::{BTreeSet, btree_map};
use std::iter::Peekable;
use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;
use policy_common::table::{IDENTITY_ABSENT, IDENTITY_WORLD, NetIdent, POLICY_HOLD, POLICY_OPEN, RuleEntry, RuleKey};

use super::tables::{TableState, Write};
use crate::compile::Identity;

/// How many look-ups in tables of the agent's own take as long as one write of the kernel's.
const LOOKUPS_PER_WRITE: usize = 16;

/// Finds out which addresses can move early.
#[derive(Debug)]
pub(super) struct Early<'a> {
    in_force: InForce<'a>,
    covers: Covers<'a>,
    /// How many addresses may get each identity.
    wanted: HashMap<u32, usize>,
}

impl<'a> Early<'a> {
    /// For a plan that brings these addresses to these identities and, before any of them, makes the writes in `stage`.
    /// `None`: there is only one, which is written once anyway.
    pub(super) fn of(now: &'a TableState, stage: &[Write], addresses: &[(IpAddr, Option<Identity>)]) -> Option<Self> {
        if addresses.len() < 2 {
            return None;
        }
        let mut wanted: HashMap<u32, usize> = HashMap::new();
        let identities = addresses.iter().filter_map(|(_, identity)| *identity);
        identities.for_each(|identity| *wanted.entry(identity.0).or_default() += 1);
        Some(Self { in_force: InForce::new(now, stage), covers: Covers::new(now), wanted })
    }

    /// Whether no packet can see before the flip that an address has the identity `wanted`, not `live`. Addresses are
    /// asked for in order.
    pub(super) fn is_unseen(&mut self, address: IpAddr, live: u32, wanted: u32) -> bool {
        // Where it costs more to find out than it can save, nobody asks; what goes is not asked for either.
        let count = self.wanted.get(&wanted).copied().unwrap_or_default();
        if count * LOOKUPS_PER_WRITE <= self.in_force.policies.len() {
            return false;
        }
        let seen = if live == IDENTITY_ABSENT { self.covers.of(address) } else { live };
        !self.in_force.tells_apart(seen, wanted)
    }
}

/// What each identity may do under the policies in force.
#[derive(Debug)]
struct InForce<'a> {
    now: &'a TableState,
    /// The rows that are added before any pointer moves.
    added: HashMap<RuleKey, RuleEntry>,
    /// The policies that packets are judged by until the flip.
    policies: BTreeSet<u32>,
    /// The answers that were seen, each with its number.
    answers: HashMap<Vec<RuleEntry>, usize>,
    /// The number of the answers for each identity that was asked for.
    known: HashMap<u32, usize>,
}

impl<'a> InForce<'a> {
    /// What is in force while `now` holds, with the rows among these writes.
    fn new(now: &'a TableState, stage: &[Write]) -> Self {
        let live = now.live();
        let words = now.endpoints.values().map(|endpoint| &endpoint.policy[live]);
        let policies = words.flat_map(|policy| [policy.egress.id, policy.ingress.id]);
        let policies = policies.filter(|policy| ![POLICY_OPEN, POLICY_HOLD].contains(policy)).collect();
        let added = stage.iter().filter_map(|write| match write {
            Write::Rule(key, Some(row)) => Some((*key, *row)),
            _ => None,
        });
        Self { now, added: added.collect(), policies, answers: HashMap::new(), known: HashMap::new() }
    }

    /// Whether some policy in force answers differently for these two.
    fn tells_apart(&mut self, one: u32, other: u32) -> bool {
        one != other && self.answers(one) != self.answers(other)
    }

    fn answers(&mut self, identity: u32) -> usize {
        if let Some(number) = self.known.get(&identity) {
            return *number;
        }
        let answers = self.policies.iter().map(|policy| self.answer(*policy, identity)).collect();
        let next = self.answers.len();
        let number = *self.answers.entry(answers).or_insert(next);
        self.known.insert(identity, number);
        number
    }

    /// As `Policies::row` of the decision function finds it (`policy-common/src/decide/policy.rs`).
    fn answer(&self, policy: u32, identity: u32) -> RuleEntry {
        let row = |identity| {
            let key = RuleKey { policy, identity };
            self.now.rules.get(&key).or_else(|| self.added.get(&key)).copied()
        };
        row(identity).or_else(|| row(IDENTITY_WORLD)).unwrap_or(RuleEntry::NOTHING)
    }
}

/// The longest prefix around each of many addresses, as packets find it until the flip.
#[derive(Debug)]
struct Covers<'a> {
    live: usize,
    rest: Peekable<btree_map::Iter<'a, IpNet, NetIdent>>,
    /// Those around the last address, a longer one after those around it.
    around: Vec<(&'a IpNet, &'a NetIdent)>,
}

impl<'a> Covers<'a> {
    /// Of the prefixes in `now`.
    fn new(now: &'a TableState) -> Self {
        Self { live: now.live(), rest: now.nets.iter().peekable(), around: Vec::new() }
    }

    /// The identity of an address without an entry of its own. Addresses are asked for in order.
    fn of(&mut self, address: IpAddr) -> u32 {
        while let Some(next) = self.rest.next_if(|(prefix, _)| prefix.network() <= address) {
            self.leave(next.0.network());
            self.around.push(next);
        }
        self.leave(address);
        self.around.last().map_or(IDENTITY_WORLD, |(_, net)| net.slots[self.live])
    }

    fn leave(&mut self, address: IpAddr) {
        while self.around.last().is_some_and(|(prefix, _)| !prefix.contains(&address)) {
            self.around.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn covers_are_the_longest_prefixes(
            nets in prop::collection::btree_map((0u32..64, 26u8..=32), 1u32..9, 0..12),
            addresses in prop::collection::btree_set(0u32..80, 0..40),
        ) {
            let mut now = TableState::default();
            for ((address, length), identity) in nets {
                let prefix = crate::compile::prefix_of(std::net::Ipv4Addr::from(address).into(), length);
                now.nets.insert(prefix.expect("a length"), NetIdent { slots: [identity, 0] });
            }
            let mut covers = Covers::new(&now);
            for address in addresses.into_iter().map(|address| IpAddr::from(std::net::Ipv4Addr::from(address))) {
                let longest = now.covering(address, None).map_or(IDENTITY_WORLD, |(_, net)| net.slots[0]);
                prop_assert_eq!(covers.of(address), longest, "{}", address);
            }
        }
    }
}
