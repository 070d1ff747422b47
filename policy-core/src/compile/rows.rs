//! The live policies, and the row of each for every identity it can tell from the world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use policy_common::table::{Answer, POLICY_HAS_WORLD, POLICY_HOLD, POLICY_OPEN, RULE_NONE, RuleEntry};

use super::content::{Content, Peers, RulePlace};
use super::flatten::{Flat, LiveRule, PortTable, RuleId, flatten};
use super::{Dirty, Identity, PolicyId};
use crate::facet::{Facet, FacetId, FacetTable, NamedPeers};
use crate::intern::{Effect, Interner};
use crate::model::{Protocol, Text};
use crate::shelves::take_from;

impl PolicyId {
    /// That of a content with this number: whether there is a row for the world, programs read from it.
    fn of(content: u32, has_world: bool) -> Self {
        // The highest is POLICY_HOLD.
        assert!(content < u32::MAX / 2, "an agent does not live to see 2^31 new contents");
        Self(content * 2 + if has_world { POLICY_HAS_WORLD } else { 0 })
    }

    /// The number of its content.
    fn content(self) -> u32 {
        self.0 / 2
    }
}

const _: () = assert!(POLICY_HAS_WORLD == 1 && POLICY_OPEN == 0 && POLICY_HOLD == u32::MAX);

/// A policy that some endpoint lives under.
#[derive(Debug)]
struct LivePolicy {
    rules: Vec<LiveRule>,
    facets: Vec<FacetId>,
    names: BTreeSet<(Protocol, Text)>,
    named: BTreeSet<NamedPeers>,
    identities: BTreeSet<Identity>,
}

impl LivePolicy {
    /// Whether it can tell a signature from the world.
    fn concerns(&self, signature: &[FacetId], table: &FacetTable) -> bool {
        signature.iter().any(|facet| {
            self.facets.binary_search(facet).is_ok()
                || !self.names.is_empty()
                    && matches!(table.facet(*facet), Some(Facet::NamedPort { protocol, name, number: _ })
                        if self.names.contains(&(*protocol, name.clone())))
        })
    }
}

/// What a policy that is gone no longer asks for.
#[derive(Debug)]
pub struct Gone {
    /// Its facets.
    pub facets: Vec<FacetId>,
    /// The port names of peers.
    pub named: BTreeSet<NamedPeers>,
}

/// All live policies with their rows.
#[derive(Debug)]
pub struct Rows {
    contents: Interner<Content>,
    policies: BTreeMap<PolicyId, LivePolicy>,
    by_facet: HashMap<FacetId, BTreeSet<PolicyId>>,
    by_name: HashMap<(Protocol, Text), BTreeSet<PolicyId>>,
    by_identity: HashMap<Identity, BTreeSet<PolicyId>>,
    rows: HashMap<(PolicyId, Identity), RuleEntry>,
    tables: Interner<PortTable>,
    places: Interner<RulePlace>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            contents: Interner::starting_at(1),
            policies: BTreeMap::new(),
            by_facet: HashMap::new(),
            by_name: HashMap::new(),
            by_identity: HashMap::new(),
            rows: HashMap::new(),
            tables: Interner::starting_at(1),
            places: Interner::starting_at(RULE_NONE + 1),
        }
    }
}

impl Rows {
    /// See [`super::Compiler::skip_numbers`].
    pub fn skip_numbers(&mut self, policies: u32, port_tables: u32, rules: u32) {
        self.contents.skip_to(PolicyId(policies).content() + 1);
        self.tables.skip_to(port_tables + 1);
        self.places.skip_to(rules + 1);
    }

    /// The row of a policy for an identity; `None`: the one for the world counts, or the policy denies.
    pub fn row(&self, policy: PolicyId, identity: Identity) -> Option<RuleEntry> {
        self.rows.get(&(policy, identity)).copied()
    }

    /// All rows.
    pub fn all(&self) -> impl Iterator<Item = (PolicyId, Identity, RuleEntry)> {
        self.rows.iter().map(|((policy, identity), entry)| (*policy, *identity, *entry))
    }

    /// A port table that rows point at.
    pub fn port_table(&self, number: u32) -> Option<&Arc<PortTable>> {
        self.tables.get(number)
    }

    /// The numbers of all port tables.
    pub fn port_tables(&self) -> Vec<u32> {
        self.tables.numbers()
    }

    /// Where a rule stands.
    pub fn place(&self, rule: u32) -> Option<&RulePlace> {
        self.places.get(rule).map(|place| &**place)
    }

    /// One more user of a policy that is live already.
    pub fn share_policy(&mut self, content: &Content) -> Option<PolicyId> {
        let number = self.contents.find(content)?;
        self.contents.retain(number);
        let either = PolicyId::of(number, false)..=PolicyId::of(number, true);
        self.policies.range(either).next().map(|(policy, _)| *policy)
    }

    /// A policy comes to live: its facets have the given numbers, and these identities exist.
    pub fn add_policy<'a>(
        &mut self,
        content: Content,
        facets: &HashMap<Facet, FacetId>,
        identities: impl Iterator<Item = (Identity, &'a [FacetId])>,
        table: &FacetTable,
        dirty: &mut Dirty,
    ) -> PolicyId {
        let mut numbers: Vec<FacetId> = facets.values().copied().collect();
        numbers.sort_unstable();
        let (names, named) = (content.names(), content.named_peers(facets));
        let rules = content.rules.iter().map(|rule| LiveRule {
            id: RuleId(self.places.acquire(rule.place.clone()).0),
            peers: match &rule.peers {
                Peers::Everybody => None,
                Peers::AnyOf(peers) => Some(peers.iter().filter_map(|peer| facets.get(peer).copied()).collect()),
            },
            ports: rule.ports.clone(),
        });
        let live = LivePolicy { rules: rules.collect(), facets: numbers, names, named, identities: BTreeSet::new() };
        let has_world = flat(&live.rules, &[], table) != Flat::Deny;
        let policy = PolicyId::of(self.contents.acquire(content).0, has_world);
        for facet in &live.facets {
            self.by_facet.entry(*facet).or_default().insert(policy);
        }
        for name in &live.names {
            self.by_name.entry(name.clone()).or_default().insert(policy);
        }
        self.policies.insert(policy, live);
        self.write_row(policy, Identity::WORLD, &[], table, dirty);
        for (identity, signature) in identities {
            if self.policies.get(&policy).is_some_and(|live| live.concerns(signature, table)) {
                self.write_row(policy, identity, signature, table, dirty);
            }
        }
        policy
    }

    /// One user less of a policy; returns what it asked for when that was the last.
    pub fn release_policy(&mut self, policy: PolicyId, dirty: &mut Dirty) -> Option<Gone> {
        self.contents.release(policy.content())?;
        let LivePolicy { rules, facets, names, named, identities } = self.policies.remove(&policy)?;
        for identity in identities {
            self.erase_row(policy, identity, dirty);
            take_from(&mut self.by_identity, &identity, &policy);
        }
        for rule in rules {
            self.places.release(rule.id.0);
        }
        for facet in &facets {
            take_from(&mut self.by_facet, facet, &policy);
        }
        for name in &names {
            take_from(&mut self.by_name, name, &policy);
        }
        Some(Gone { facets, named })
    }

    /// An identity comes to be.
    pub fn add_identity(&mut self, identity: Identity, signature: &[FacetId], table: &FacetTable, dirty: &mut Dirty) {
        for policy in self.interested(signature, table) {
            self.write_row(policy, identity, signature, table, dirty);
        }
    }

    /// An identity is gone.
    pub fn remove_identity(&mut self, identity: Identity, dirty: &mut Dirty) {
        for policy in self.by_identity.remove(&identity).unwrap_or_default() {
            if let Some(live) = self.policies.get_mut(&policy) {
                live.identities.remove(&identity);
            }
            self.erase_row(policy, identity, dirty);
        }
    }

    /// The policies that can tell a signature from the world.
    fn interested(&self, signature: &[FacetId], table: &FacetTable) -> BTreeSet<PolicyId> {
        let mut policies = BTreeSet::new();
        for facet in signature {
            policies.extend(self.by_facet.get(facet).into_iter().flatten());
            if let Some(Facet::NamedPort { protocol, name, number: _ }) = table.facet(*facet) {
                policies.extend(self.by_name.get(&(*protocol, name.clone())).into_iter().flatten());
            }
        }
        policies
    }

    fn write_row(
        &mut self,
        policy: PolicyId,
        identity: Identity,
        signature: &[FacetId],
        table: &FacetTable,
        dirty: &mut Dirty,
    ) {
        let Some(live) = self.policies.get_mut(&policy) else { return };
        let entry = match flat(&live.rules, signature, table) {
            Flat::Deny if identity == Identity::WORLD => return,
            Flat::Deny => RuleEntry::NOTHING,
            Flat::Allow(rule) => RuleEntry { answer: Answer::Allow, ports: 0, rule: rule.0 },
            Flat::Ports(ports) => {
                let (number, effect) = self.tables.acquire(ports);
                if effect == Effect::Changed {
                    dirty.port_tables.insert(number);
                }
                RuleEntry { answer: Answer::Ports, ports: number, rule: RULE_NONE }
            }
        };
        let world = self.rows.get(&(policy, Identity::WORLD)).copied().unwrap_or(RuleEntry::NOTHING);
        if identity != Identity::WORLD && entry == world {
            self.release_table(entry, dirty);
            return;
        }
        live.identities.insert(identity);
        self.by_identity.entry(identity).or_default().insert(policy);
        self.rows.insert((policy, identity), entry);
        dirty.rows.insert((policy, identity));
    }

    fn erase_row(&mut self, policy: PolicyId, identity: Identity, dirty: &mut Dirty) {
        if let Some(entry) = self.rows.remove(&(policy, identity)) {
            self.release_table(entry, dirty);
            dirty.rows.insert((policy, identity));
        }
    }

    fn release_table(&mut self, entry: RuleEntry, dirty: &mut Dirty) {
        if entry.answer == Answer::Ports && self.tables.release(entry.ports).is_some() {
            dirty.port_tables.insert(entry.ports);
        }
    }
}

/// What rules say of a signature.
fn flat(rules: &[LiveRule], signature: &[FacetId], table: &FacetTable) -> Flat {
    flatten(rules, signature, |name, signature| table.named_number(name, signature))
}
