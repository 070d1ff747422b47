//! The worlds that may be in force, and what each of them says of a connection: the oracle's word, looked up once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_core::model::{Direction, Pod, Text};
use policy_core::oracle::{Oracle, Verdict};
use policy_core::world::World;
use tokio::time::Instant;

use crate::script::{NODE, Probe};

/// What a world says of a packet at an endpoint that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No pod of this node has the address: no endpoint can be in force with it.
    Nobody,
    /// The one pod that has it, or the one to which it belongs.
    Passes(bool),
    /// Several pods claim it: it depends on whose interface the packet passes.
    Either,
}

/// A world that an agent was told of.
#[derive(Debug)]
pub struct Candidate {
    /// The world.
    pub world: World,
    /// Before this it must not be in force, because the agent had not been told all.
    pub ready_at: Instant,
    known: RefCell<BTreeMap<Probe, Expected>>,
}

impl Candidate {
    /// The pods of this node that claim an address.
    pub fn claimants(&self, address: IpAddr) -> impl Iterator<Item = &Pod> {
        let local = self.world.config.as_ref().map(|config| &config.local);
        self.world.pods.values().filter(move |pod| {
            Some(&pod.key.cluster) == local
                && pod.node.as_deref() == Some(NODE)
                && pod.is_workload()
                && pod.addresses.contains(&address)
        })
    }

    /// What it says of a connection at one end.
    pub fn says(&self, probe: &Probe) -> Expected {
        if let Some(known) = self.known.borrow().get(probe) {
            return *known;
        }
        let said = self.ask(probe);
        self.known.borrow_mut().insert(*probe, said);
        said
    }

    fn ask(&self, probe: &Probe) -> Expected {
        let oracle = Oracle::new(&self.world);
        let said: BTreeSet<bool> = self
            .claimants(probe.own())
            .map(|pod| oracle.judge(&pod.key, probe.direction, &probe.connection).verdict == Verdict::Allow)
            .collect();
        match (said.first(), said.len()) {
            (None, _) => Expected::Nobody,
            (Some(verdict), 1) => Expected::Passes(*verdict),
            _ => Expected::Either,
        }
    }

    /// The uid of the only pod of this node that claims any of these addresses and has them all.
    pub fn only(&self, addresses: &[IpAddr]) -> Option<Text> {
        let mut uids = BTreeSet::new();
        for address in addresses {
            uids.extend(self.claimants(*address).map(|pod| (pod.uid.clone(), pod.addresses.len())));
        }
        match (uids.pop_first(), uids.len()) {
            (Some((uid, count)), 0) if count == addresses.len() => Some(uid),
            _ => None,
        }
    }
}

/// All worlds that the agents of a node were told of, from the oldest that may still be in force.
#[derive(Debug)]
pub struct Worlds {
    worlds: BTreeMap<usize, Candidate>,
    next: usize,
}

impl Worlds {
    /// Before any agent: nothing is known.
    pub fn new() -> Self {
        let nothing =
            Candidate { world: World::default(), ready_at: Instant::now(), known: RefCell::new(BTreeMap::new()) };
        Self { worlds: BTreeMap::from([(0, nothing)]), next: 1 }
    }

    /// An agent was told of another world, or may now act upon the one that it was told of.
    pub fn told(&mut self, world: &World, ready_at: Instant) {
        if let Some(mut last) = self.worlds.last_entry()
            && last.get().world == *world
        {
            let last = last.get_mut();
            last.ready_at = last.ready_at.min(ready_at);
            return;
        }
        let candidate = Candidate { world: world.clone(), ready_at, known: RefCell::new(BTreeMap::new()) };
        self.worlds.insert(self.next, candidate);
        self.next += 1;
    }

    /// A world by its number.
    pub fn get(&self, number: usize) -> Option<&Candidate> {
        self.worlds.get(&number)
    }

    /// Those that may be in force now, from this one on.
    pub fn from(&self, oldest: usize) -> impl Iterator<Item = (usize, &Candidate)> {
        let now = Instant::now();
        let ready = self.worlds.range(oldest..).filter(move |(_, candidate)| candidate.ready_at <= now);
        ready.map(|(number, candidate)| (*number, candidate))
    }

    /// Forgets what is older than this.
    pub fn forget_before(&mut self, oldest: usize) {
        self.worlds = self.worlds.split_off(&oldest);
    }

    /// The newest.
    pub fn newest(&self) -> (usize, &Candidate) {
        let (number, newest) =
            self.worlds.last_key_value().expect("the first is not forgotten before there is another");
        (*number, newest)
    }
}

/// `in` or `out`.
pub fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "out",
        Direction::Ingress => "in",
    }
}
