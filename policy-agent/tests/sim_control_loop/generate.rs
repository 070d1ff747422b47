//! Makes scripts: pods that come, change, are replaced and go, on a node whose agent has no quiet hour.

mod pods;
mod services;

use std::collections::BTreeMap;
use std::net::IpAddr;

use policy_core::model::{
    ClusterConfig, ClusterId, ClusterLabels, Event, NamespaceKey, Pod, PolicyKey, Protocol, Scope,
};
use policy_core::plan::Table;
use policy_core::testing::abc;
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::dice::Dice;
use crate::probes;
use crate::script::{Action, Delivery, Refusal, Script};
use pods::PodEvents as _;

/// How many pods the node has room for.
pub const SLOTS: usize = 3;
/// The namespaces of each cluster.
pub const NAMESPACES: [&str; 2] = ["shop", "db"];

/// The addresses of the pods in a place of the node: one after the other has them.
pub fn slot_addresses(slot: usize) -> Vec<IpAddr> {
    let v4 = format!("10.1.0.{}", slot + 1);
    let v6 = format!("fd00:1::{}", slot + 1);
    let texts = if slot == 0 { vec![v4] } else { vec![v4, v6] };
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

/// How often something happens, and what.
type Kind = (usize, fn(&mut Maker));

/// The script of a seed.
pub fn script(seed: u64) -> Script {
    let mut dice = Dice::new(seed);
    let mut words = [0; 32];
    words.chunks_mut(8).for_each(|word| word.copy_from_slice(&dice.roll().to_le_bytes()));
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &words);
    let config = ClusterConfig {
        default_scope: *dice.pick(&[Scope::Local, Scope::ClusterSet]),
        cluster_labels: *dice.pick(&[ClusterLabels::Implicit, ClusterLabels::Implicit, ClusterLabels::Explicit]),
        ..abc().config()
    };
    let (bridged, probes) = (dice.percent(25), probes::choose(&mut dice));
    let limits = limits(&mut dice);
    let mut maker = Maker {
        is_cramped: !limits.is_empty(),
        dice,
        runner: TestRunner::new_with_rng(Config::default(), rng),
        config: config.clone(),
        slots: [const { None }; SLOTS],
        remote: BTreeMap::new(),
        namespaces: Vec::new(),
        policies: Vec::new(),
        interfaces: 10,
        made: 0,
        actions: Vec::new(),
    };
    maker.begin();
    let length = 12 + maker.dice.below(30);
    for _ in 0..length {
        maker.one();
    }
    Script { seed, config, bridged, limits, probes, actions: maker.actions }
}

/// Mostly none.
fn limits(dice: &mut Dice) -> BTreeMap<Table, usize> {
    if !dice.percent(20) {
        return BTreeMap::new();
    }
    let small =
        [(Table::Endpoints, 2), (Table::LocalV4, 3), (Table::IdentV4, 3), (Table::NetsV4, 4), (Table::Rules, 9)];
    let (table, most) = *dice.pick(&small);
    BTreeMap::from([(table, 1 + dice.below(most))])
}

/// A pod of the node.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The pod.
    pub pod: Pod,
    ifindex: u32,
}

/// Knows what there is, so that what happens has something to happen to.
pub struct Maker {
    /// Whether a table has little room.
    is_cramped: bool,
    pub dice: Dice,
    runner: TestRunner,
    pub config: ClusterConfig,
    pub slots: [Option<Placed>; SLOTS],
    /// Pods elsewhere, by address.
    pub remote: BTreeMap<IpAddr, Pod>,
    pub namespaces: Vec<NamespaceKey>,
    pub policies: Vec<PolicyKey>,
    interfaces: u32,
    made: u32,
    actions: Vec<Action>,
}

impl Maker {
    /// A value of a strategy.
    pub fn draw<S: Strategy>(&mut self, strategy: &S) -> S::Value {
        strategy.new_tree(&mut self.runner).expect("no filters").current()
    }

    /// Objects change, however that is told.
    pub fn change(&mut self, events: Vec<Event>) {
        let deliveries = [(65, Delivery::Now), (73, Delivery::Twice), (88, Delivery::Later), (100, Delivery::Lost)];
        let roll = self.dice.below(100);
        let delivery = deliveries.iter().find(|(below, _)| roll < *below).map_or(Delivery::Now, |(_, it)| *it);
        self.actions.push(Action::Change(events, delivery));
    }

    fn pass(&mut self) {
        let ms = *self.dice.pick(&[1, 1, 4, 15, 15, 40, 150, 150, 1000, 1000, 11_000, 6_000]);
        let ms = if self.dice.percent(2) { 200_000 } else { ms };
        self.actions.push(Action::Pass(ms));
    }

    /// What there is before the first agent begins.
    fn begin(&mut self) {
        for cluster in ["a", "b", "c"] {
            for name in NAMESPACES {
                if self.dice.percent(85) {
                    self.usual_namespace(cluster, name);
                }
            }
        }
        for slot in 0..SLOTS {
            if self.dice.percent(70) {
                self.start(slot);
            }
        }
        for _ in 0..self.dice.below(6) {
            self.elsewhere();
        }
        for _ in 0..self.dice.below(4) {
            self.policy();
        }
        self.actions.push(Action::Hosts([probes::HOST].into()));
        self.actions.push(Action::Restart(Vec::new()));
        self.pass();
    }

    fn one(&mut self) {
        if self.is_cramped && self.dice.percent(15) {
            return self.make_room();
        }
        let kinds: [Kind; 14] = [
            (20, Self::local),
            (14, Self::elsewhere),
            (7, Self::namespace),
            (6, Self::service),
            (20, Self::policy),
            (3, Self::configure),
            (7, Self::rewire),
            (10, Self::trouble),
            (8, Self::death),
            (6, Self::retell),
            (18, Self::open),
            (10, Self::talk),
            (14, Self::strike),
            (2, Self::evict),
        ];
        let mut roll = self.dice.below(kinds.iter().map(|(weight, _)| weight).sum());
        for (weight, make) in kinds {
            if roll < weight {
                make(self);
                break;
            }
            roll -= weight;
        }
        if self.dice.percent(70) {
            self.pass();
        }
    }

    fn configure(&mut self) {
        let mut config = self.config.clone();
        match self.dice.below(4) {
            0 => config.default_scope = *self.dice.pick(&[Scope::Local, Scope::ClusterSet]),
            1 => config.cluster_labels = *self.dice.pick(&[ClusterLabels::Implicit, ClusterLabels::Explicit]),
            _ => {
                let all = abc().config().members;
                let number = 1 + self.dice.below(2);
                let is_member = config.members.iter().any(|member| member.id == all[number].id);
                config.members.retain(|member| member.id != all[number].id);
                if !is_member {
                    config.members.push(all[number].clone());
                }
            }
        }
        self.config = config.clone();
        self.actions.push(Action::Configure(config));
    }

    /// Interfaces and addresses of the node, without a pod that comes or goes.
    fn rewire(&mut self) {
        let slot = self.dice.below(SLOTS);
        let ifindex = self.slots[slot].as_ref().map(|placed| placed.ifindex);
        match (self.dice.below(6), ifindex) {
            (0, Some(ifindex)) => self.actions.push(Action::Replug(ifindex)),
            (1, Some(ifindex)) => self.actions.push(Action::Unlink(ifindex)),
            // What it was plugged into is gone; the pod is not.
            (2, Some(ifindex)) => self.unplug(ifindex),
            (_, ifindex) => {
                if ifindex.is_some() {
                    self.actions.push(Action::Greet(probes::HOST, slot_addresses(slot)[0], Protocol::Tcp, 80));
                }
                let hosts = ["192.168.0.1", "192.168.0.2", "fd00:ff::1"].map(|text| text.parse().expect("an address"));
                let hosts = hosts.into_iter().filter(|_| self.dice.percent(50)).collect();
                self.actions.extend([Action::Hosts(hosts), Action::Pass(150), Action::Talk]);
            }
        }
    }

    fn trouble(&mut self) {
        if self.dice.percent(70) {
            let after = self.dice.below(14);
            return self.actions.push(Action::Fail(after));
        }
        let refusals = [Refusal::Locate, Refusal::Attach, Refusal::Prune, Refusal::Hosts, Refusal::Sweep];
        let refusal = *self.dice.pick(&refusals);
        let times = 1 + self.dice.below(4);
        self.actions.push(Action::Refuse(refusal, times));
    }

    /// The agent dies, now or at some step; things happen meanwhile; another one begins.
    fn death(&mut self) {
        if self.dice.percent(75) {
            let after = self.dice.below(20);
            self.actions.push(Action::Die(after));
            for _ in 0..1 + self.dice.below(2) {
                if self.dice.percent(50) {
                    self.policy();
                } else {
                    self.local();
                }
                self.pass();
            }
            if self.dice.percent(50) {
                self.talk();
                self.local();
            }
        }
        let remote: Vec<ClusterId> =
            self.config.members.iter().map(|member| member.id.clone()).filter(|id| *id != self.config.local).collect();
        let mut late: Vec<ClusterId> = remote.into_iter().filter(|_| self.dice.percent(20)).collect();
        if self.dice.percent(8) {
            late.push(self.config.local.clone());
        }
        self.actions.push(Action::Restart(late));
    }

    /// What was lost, or waits, is told.
    fn retell(&mut self) {
        let members: Vec<ClusterId> = self.config.members.iter().map(|member| member.id.clone()).collect();
        let action = if self.dice.percent(50) {
            Action::Relist(self.dice.pick(&members).clone())
        } else {
            Action::Deliver(1 + self.dice.below(3))
        };
        self.actions.push(action);
    }

    fn open(&mut self) {
        for _ in 0..1 + self.dice.below(3) {
            let own: Vec<IpAddr> =
                self.slots.iter().flatten().flat_map(|placed| placed.pod.addresses.clone()).collect();
            let remote: Vec<IpAddr> = self.remote.keys().copied().collect();
            let (own, peer, outbound, protocol, port) = probes::connection(&mut self.dice, &own, &remote);
            self.actions.push(match (&own, probes::HOST) {
                (IpAddr::V4(_), host) if self.dice.percent(15) => Action::Greet(host, own, protocol, port),
                _ => Action::Open(own, peer, outbound, protocol, port),
            });
        }
    }

    fn talk(&mut self) {
        self.actions.push(Action::Talk);
    }

    /// A change is cut off while connections live; it must come into force all the same, for them too.
    fn strike(&mut self) {
        for _ in 0..2 {
            self.open();
        }
        let after = *self.dice.pick(&[0, 1, 1, 1, 2, 3, 5, 8]);
        let is_death = self.dice.percent(30);
        self.actions.push(if is_death { Action::Die(after) } else { Action::Fail(after) });
        match self.dice.below(8) {
            0..4 => self.elsewhere(),
            4..6 => self.policy(),
            6 => self.local(),
            _ => self.namespace(),
        }
        self.actions.push(Action::Pass(*self.dice.pick(&[1, 15, 150])));
        if is_death {
            self.actions.push(Action::Restart(Vec::new()));
        }
        self.actions.push(Action::Rest);
    }

    /// A pod goes and makes room, but the agent dies of it; more come than there is room for.
    fn make_room(&mut self) {
        let slot = self.dice.below(SLOTS);
        let Some(placed) = self.slots[slot].take() else { return self.start(slot) };
        let after = 4 + self.dice.below(8);
        self.actions.push(Action::Die(after));
        self.actions.push(Action::Change(vec![placed.pod.gone()], Delivery::Now));
        self.actions.push(Action::Pass(15));
        self.unplug(placed.ifindex);
        for slot in 0..SLOTS {
            if self.slots[slot].is_none() {
                self.start(slot);
            }
        }
        self.actions.extend([Action::Restart(Vec::new()), Action::Pass(150)]);
    }

    fn evict(&mut self) {
        self.actions.push(Action::Evict);
    }
}
