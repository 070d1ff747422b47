//! Building a plan: compares what tables should hold with what they hold, at the places where they may differ.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use policy_common::table::{
    Endpoint, EndpointPolicy, HAS_V4, HAS_V6, IDENTITY_ABSENT, IDENTITY_WORLD, IFINDEX_HOST, Local, NetIdent,
    POLICY_HOLD, RuleKey, Tagged,
};

use super::early::Early;
use super::tables::{TableState, Write, ident};
use super::{Limits, Plan, Step, TableFull};
use crate::compile::{Compiler, Dirty, Identity, PolicyId};

/// An endpoint as the tables should hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredEndpoint {
    /// Its id.
    pub id: u32,
    /// Its policies: egress, ingress.
    pub policies: [u32; 2],
    /// Its element of `counters`.
    pub counters: u32,
    /// Its IPv4 address.
    pub v4: Option<[u8; 4]>,
    /// Its IPv6 address.
    pub v6: Option<[u8; 16]>,
}

/// What the tables should hold.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    /// Identities, policies and rows.
    pub compiler: &'a Compiler,
    /// The node's own; `None`: its tables say it already.
    pub own: Option<&'a Own>,
}

/// What the tables of a node should hold of the node itself.
#[derive(Clone, Debug)]
pub struct Own {
    /// Endpoints, by ifindex.
    pub endpoints: BTreeMap<u32, DesiredEndpoint>,
    /// Addresses of the node and of its endpoints, in order: a plan is the same whenever it is made.
    pub local: BTreeMap<IpAddr, Local>,
}

/// An element of two slots, as it is and as it should be.
#[derive(Clone, Copy, Debug)]
struct Pointer {
    /// What readers find until the flip.
    live: u32,
    /// What they should find after it.
    wanted: u32,
    /// Whether the element stays, or goes once it says what readers find without it.
    stays: bool,
    /// The element now.
    known: Option<[u32; 2]>,
}

/// A plan in the making.
#[derive(Debug)]
struct Builder<'a> {
    goal: Goal<'a>,
    now: &'a TableState,
    live: usize,
    /// Writes before the flip.
    stage: Vec<Write>,
    /// Writes after the grace period.
    sweep: Vec<Write>,
    /// How many pointers the flip moves.
    moved: usize,
    /// An address among them that is not written early.
    moved_address: Option<IpAddr>,
}

impl Goal<'_> {
    /// The plan that brings `now` to this goal, looking only at the places that `dirty` names.
    pub fn plan(self, now: &TableState, dirty: &Dirty, limits: &Limits) -> Result<Plan, TableFull> {
        let (stage, sweep) = (Vec::new(), Vec::new());
        let mut builder = Builder { goal: self, now, live: now.live(), stage, sweep, moved: 0, moved_address: None };
        builder.rows(&dirty.rows);
        builder.port_tables(&dirty.port_tables);
        builder.addresses(&dirty.addresses);
        builder.prefixes(&dirty.prefixes);
        if let Some(own) = self.own {
            builder.endpoints(&own.endpoints);
            builder.local(&own.local);
        }
        limits.check(now, &builder.stage)?;
        Ok(builder.finish())
    }

    /// Every place at which `now` and this goal can differ.
    pub fn everywhere(self, now: &TableState) -> Dirty {
        let compiler = self.compiler;
        let rows = compiler.rows().all().map(|(policy, identity, _)| (policy, identity));
        let known = now.rules.keys().map(|key| (PolicyId(key.policy), Identity(key.identity)));
        let wanted = compiler.addresses().map(|(address, identity)| (address, Some(identity)));
        let gone = now.idents.keys().filter(|address| compiler.address(*address).is_none());
        let mut everywhere = Dirty {
            addresses: wanted.chain(gone.map(|address| (address, None))).collect(),
            prefixes: compiler.prefixes().keys().chain(now.nets.keys()).copied().collect(),
            subjects: BTreeSet::new(),
            rows: rows.chain(known).collect(),
            port_tables: compiler.rows().port_tables().into_iter().chain(now.ports.keys().copied()).collect(),
        };
        everywhere.settle();
        everywhere
    }
}

impl Builder<'_> {
    fn rows(&mut self, places: &BTreeSet<(PolicyId, Identity)>) {
        for &(policy, identity) in places {
            let key = RuleKey { policy: policy.0, identity: identity.0 };
            match (self.now.rules.get(&key).copied(), self.goal.compiler.rows().row(policy, identity)) {
                (None, Some(row)) => self.stage.push(Write::Rule(key, Some(row))),
                (Some(_), None) => self.sweep.push(Write::Rule(key, None)),
                (Some(old), Some(new)) => debug_assert_eq!(old, new, "rows are never changed"),
                (None, None) => {}
            }
        }
    }

    fn port_tables(&mut self, numbers: &BTreeSet<u32>) {
        for &number in numbers {
            let wanted = self.goal.compiler.rows().port_table(number).map(|table| table.entries(number));
            let known = self.now.ports.get(&number);
            match wanted {
                Some(entries) => self.stage.extend(
                    entries
                        .into_iter()
                        .filter(|(key, _)| !known.is_some_and(|known| known.contains_key(key)))
                        .map(|(key, entry)| Write::Port(key, Some(entry))),
                ),
                None => self.sweep.extend(known.into_iter().flatten().map(|(key, _)| Write::Port(*key, None))),
            }
        }
    }

    fn addresses(&mut self, addresses: &[(IpAddr, Option<Identity>)]) {
        let mut early = Early::of(self.now, &self.stage, addresses);
        for &(address, identity) in addresses {
            let known = self.now.idents.get(&address);
            let live = known.map_or(IDENTITY_ABSENT, |known| known[self.live]);
            let wanted = identity.map_or(IDENTITY_ABSENT, |identity| identity.0);
            if known.is_none() && wanted == IDENTITY_ABSENT {
                continue;
            }
            let write = |ids: Option<[u32; 2]>| Write::Ident(address, ids.map(|ids| ident(address, ids)));
            if live != wanted && early.as_mut().is_some_and(|early| early.is_unseen(address, live, wanted)) {
                self.stage.push(write(Some([wanted; 2])));
                self.moved += 1;
                continue;
            }
            if live != wanted {
                self.moved_address = Some(address);
            }
            self.move_pointer(&Pointer { live, wanted, stays: wanted != IDENTITY_ABSENT, known }, write);
        }
    }

    /// A prefix that is new had, until now, the identity of what covers it; one that goes will have it.
    fn prefixes(&mut self, prefixes: &BTreeSet<IpNet>) {
        for prefix in prefixes {
            let known = self.now.nets.get(prefix);
            let wanted = self.goal.compiler.prefixes().get(prefix);
            if known.is_none() && wanted.is_none() {
                continue;
            }
            let live = match known {
                Some(known) => known.slots[self.live],
                None => self
                    .now
                    .covering(prefix.network(), Some(prefix.prefix_len()))
                    .map_or(IDENTITY_WORLD, |(_, cover)| cover.slots[self.live]),
            };
            let pointer = Pointer {
                live,
                wanted: wanted.map_or_else(|| self.desired_cover(prefix), |identity| identity.0),
                stays: wanted.is_some(),
                known: known.map(|known| known.slots),
            };
            self.move_pointer(&pointer, |ids| Write::Net(*prefix, ids.map(|slots| NetIdent { slots })));
        }
    }

    fn desired_cover(&self, prefix: &IpNet) -> u32 {
        let shorter = (0..prefix.prefix_len()).rev();
        let mut around = shorter.filter_map(|length| crate::compile::prefix_of(prefix.network(), length));
        let cover = around.find_map(|around| self.goal.compiler.prefixes().get(&around));
        cover.map_or(IDENTITY_WORLD, |identity| identity.0)
    }

    /// Moves a pointer from what its live slot says to what is wanted.
    fn move_pointer(&mut self, pointer: &Pointer, write: impl Fn(Option<[u32; 2]>) -> Write) {
        let Pointer { live, wanted, stays, known } = *pointer;
        let mut staged = [wanted; 2];
        staged[self.live] = live;
        if known != Some(staged) {
            self.stage.push(write(Some(staged)));
        }
        self.moved += usize::from(live != wanted);
        if !stays {
            self.sweep.push(write(None));
        } else if live != wanted {
            self.sweep.push(write(Some([wanted; 2])));
        }
    }

    fn endpoints(&mut self, endpoints: &BTreeMap<u32, DesiredEndpoint>) {
        for (&ifindex, wanted) in endpoints {
            let known = self.now.endpoints.get(&ifindex).filter(|known| known.endpoint.id == wanted.id);
            let live = known.map_or([POLICY_HOLD; 2], |known| {
                let EndpointPolicy { egress, ingress } = known.policy[self.live];
                [egress.id, ingress.id]
            });
            if known.is_none() {
                self.stage.push(Write::ClearCounters(wanted.counters));
            }
            let staged = wanted.element(ifindex, self.live, live);
            if known != Some(&staged) {
                self.stage.push(Write::Endpoint(ifindex, Some(staged)));
            }
            if live != wanted.policies {
                self.moved += 1;
                let swept = wanted.element(ifindex, self.live, wanted.policies);
                self.sweep.push(Write::Endpoint(ifindex, Some(swept)));
            }
        }
        let gone = self.now.endpoints.iter().filter(|(ifindex, _)| !endpoints.contains_key(*ifindex));
        for (&ifindex, known) in gone {
            let mut staged = *known;
            for word in [&mut staged.policy[1 - self.live].egress, &mut staged.policy[1 - self.live].ingress] {
                word.id = POLICY_HOLD;
            }
            self.stage.push(Write::Endpoint(ifindex, Some(staged)));
            self.moved += 1;
            self.sweep.push(Write::Endpoint(ifindex, None));
        }
    }

    fn local(&mut self, local: &BTreeMap<IpAddr, Local>) {
        for (address, wanted) in local {
            let known = self.now.local.get(address);
            if known == Some(wanted) {
                continue;
            }
            // Live connections with it may rest on what it was, be it elsewhere; that it is the node's, only new ones do.
            self.moved += usize::from(known.is_some() || wanted.ifindex != IFINDEX_HOST);
            self.stage.push(Write::Local(*address, Some(*wanted)));
        }
        let gone: BTreeMap<IpAddr, &Local> =
            self.now.local.iter().filter(|(address, _)| !local.contains_key(address)).collect();
        for (address, known) in gone {
            self.moved += 1;
            // Nobody may be taken for the node under the new commit who is not.
            let writes = if known.ifindex == IFINDEX_HOST { &mut self.stage } else { &mut self.sweep };
            writes.push(Write::Local(address, None));
        }
    }

    fn finish(self) -> Plan {
        if let Some(plan) = self.single_pointer() {
            return plan;
        }
        let mut steps: Vec<Step> = self.stage.into_iter().map(Step::Write).collect();
        if self.moved > 0 {
            steps.push(Step::Flip(self.now.commit + 1));
        }
        // Without anything to sweep too: the next plan stages the slot that was live until now.
        if self.moved > 0 || !self.sweep.is_empty() {
            steps.extend(after_flip(&self.sweep));
        }
        Plan { steps }
    }

    /// When one exact address is all that moves, its element is replaced whole, which is atomic by itself; the commit
    /// then goes on by two, so that live connections are judged again while the live slot stays. After a plan that was cut
    /// off others may have to be written too that do not move: then all go the long way.
    fn single_pointer(&self) -> Option<Plan> {
        let moved = self.moved_address.filter(|_| self.moved == 1)?;
        let is_ident = |write: &&Write| matches!(write, Write::Ident(..));
        let is_moved = |write: &Write| matches!(write, Write::Ident(address, _) if *address == moved);
        if self.stage.iter().chain(&self.sweep).any(|write| write.is_pointer() && !is_moved(write)) {
            return None;
        }
        let last = self.sweep.iter().find(is_ident)?;
        let before = self.stage.iter().filter(|write| !is_ident(write)).copied();
        let after: Vec<Write> = self.sweep.iter().filter(|write| !is_ident(write)).copied().collect();
        let mut steps: Vec<Step> = before.map(Step::Write).collect();
        steps.push(Step::Write(*last));
        steps.push(Step::Flip(self.now.commit + 2));
        if !after.is_empty() {
            steps.extend(after_flip(&after));
        }
        Some(Plan { steps })
    }
}

/// What happens after a flip: nobody may read the old slots any more, and, before the next plan adds any, no element that
/// does not say whose it is.
fn after_flip(writes: &[Write]) -> Vec<Step> {
    let ends_with_grace = writes.iter().any(Write::deletes_untagged);
    let mut steps = vec![Step::Grace];
    steps.extend(writes.iter().copied().map(Step::Write));
    steps.extend(ends_with_grace.then_some(Step::Grace));
    steps
}

impl DesiredEndpoint {
    /// The element of `endpoints` under which nothing passes but what always does.
    pub fn held(&self, ifindex: u32) -> Endpoint {
        Self { policies: [POLICY_HOLD; 2], ..*self }.element(ifindex, 0, [POLICY_HOLD; 2])
    }

    /// The element of `endpoints` with these policies in the live slot, and the wanted ones in the other.
    fn element(&self, ifindex: u32, live: usize, live_policies: [u32; 2]) -> Endpoint {
        let policy = |[egress, ingress]: [u32; 2]| EndpointPolicy {
            egress: Tagged { tag: self.id, id: egress },
            ingress: Tagged { tag: self.id, id: ingress },
        };
        let mut slots = [policy(self.policies); 2];
        slots[live] = policy(live_policies);
        Endpoint {
            endpoint: Tagged { tag: ifindex, id: self.id },
            counters: self.counters,
            flags: self.v4.map_or(0, |_| HAS_V4) | self.v6.map_or(0, |_| HAS_V6),
            v6: self.v6.unwrap_or_default(),
            v4: self.v4.unwrap_or_default(),
            reserved: 0,
            policy: slots,
        }
    }
}
