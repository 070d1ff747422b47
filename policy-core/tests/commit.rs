//! Commits: every prefix of every plan decides like the old state or like the new one, a restart from anywhere
//! converges, and a state reached step by step is the one reached at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_core::compile::Subjects;
use policy_core::judge::Origin;
use policy_core::model::{ClusterConfig, Connection, Direction, Event, PodKey, Protocol, Text, Transport};
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Limits, Plan, Step, TableState};
use policy_core::testing::{
    ClusterSetBuilder, EventSequence, abc, block, cases, connection, event_sequences, namespace, pod, pods, policy,
    rule,
};
use policy_core::world::World;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

/// Gives every pod an interface of its own for as long as it has the same uid and addresses.
#[derive(Default)]
struct Interfaces {
    known: BTreeMap<(PodKey, Text, Vec<IpAddr>), u32>,
}

impl Interfaces {
    fn attach_all(&mut self, node: &mut Node) {
        let pods: Vec<_> = node.detached().map(|pod| (pod.key(), pod.uid(), pod.addresses().into_vec())).collect();
        for pod in pods {
            let next = 1 + u32::try_from(self.known.len()).expect("few pods");
            let ifindex = *self.known.entry(pod.clone()).or_insert(next);
            node.attach(&pod.0, Attachment { ifindex, bridge: None });
        }
    }
}

/// A node that goes through a history.
struct Run {
    node: Node,
    interfaces: Interfaces,
}

impl Run {
    fn new(config: &ClusterConfig, tables: TableState) -> Self {
        let node = Node::new(config.clone(), Subjects::All, tables, Limits::default());
        Self { node, interfaces: Interfaces::default() }
    }

    /// At the beginning of a history; a node always knows its ClusterSet.
    fn of(history: &EventSequence) -> Self {
        Self::new(first_config(history), TableState::default())
    }

    /// Takes a batch; returns the tables before it and after each step.
    fn take(&mut self, batch: &[Event]) -> Vec<TableState> {
        self.node.apply(batch);
        self.interfaces.attach_all(&mut self.node);
        let plan = self.node.plan().expect("there are no limits");
        let mut tables = vec![self.node.tables().clone()];
        for step in &plan.steps {
            self.node.stepped(step);
            tables.push(self.node.tables().clone());
        }
        tables
    }

    /// Takes a batch, but carries out only so many steps of its plan.
    fn cut_off(&mut self, batch: &[Event], steps: impl Fn(&Plan) -> usize) {
        self.node.apply(batch);
        self.interfaces.attach_all(&mut self.node);
        let plan = self.node.plan().expect("there are no limits");
        plan.steps.iter().take(steps(&plan)).for_each(|step| self.node.stepped(step));
        self.node.abandon();
    }

    /// What every interface that ever was decides of the probes that leave or reach its addresses.
    fn verdicts(&self, tables: &TableState, probes: &[Connection]) -> Vec<bool> {
        let mut verdicts = Vec::new();
        for ((_, _, addresses), ifindex) in &self.interfaces.known {
            for probe in probes {
                for (direction, own) in [(Direction::Egress, probe.source), (Direction::Ingress, probe.destination)] {
                    if addresses.contains(&own) {
                        let verdict = tables.judge(*ifindex, direction, probe, Origin::Network);
                        verdicts.push(verdict.is_some_and(|verdict| verdict.allow));
                    }
                }
            }
        }
        verdicts
    }
}

/// The elements whose two slots differ: what they point at changes with the next flip, whatever it is for.
fn torn(tables: &TableState) -> Vec<String> {
    let idents = tables.idents.iter().filter(|(_, [one, other])| one != other).map(|torn| format!("{torn:?}"));
    let nets = tables.nets.iter().filter(|(_, net)| net.slots[0] != net.slots[1]).map(|torn| format!("{torn:?}"));
    let endpoints = tables.endpoints.iter().filter(|(_, endpoint)| endpoint.policy[0] != endpoint.policy[1]);
    idents.chain(nets).chain(endpoints.map(|torn| format!("{torn:?}"))).collect()
}

fn first_config(history: &EventSequence) -> &ClusterConfig {
    let config = history.batches.iter().flatten().find_map(|event| match event {
        Event::Configured(config) => Some(config),
        _ => None,
    });
    config.expect("every history configures the ClusterSet")
}

/// The world at the beginning of a history.
fn first_world(history: &EventSequence) -> World {
    World::from_events([&Event::Configured(first_config(history).clone())])
}

/// The world after a history, and its ClusterSet.
fn last_world(history: &EventSequence) -> (World, ClusterConfig) {
    let mut world = first_world(history);
    history.batches.iter().flatten().for_each(|event| world.apply(event));
    let config = world.config.clone().expect("a world stays configured");
    (world, config)
}

/// Connections between all addresses of a world and some of nobody's, to a few ports.
fn probes(world: &World) -> Vec<Connection> {
    let mut addresses: Vec<IpAddr> = world.pods.values().flat_map(|pod| pod.addresses.iter().copied()).collect();
    addresses
        .extend(["10.1.0.77", "203.0.113.9", "fd00:1::77"].map(|text| text.parse::<IpAddr>().expect("an address")));
    addresses.sort_unstable();
    addresses.dedup();
    let transports = [Transport::Port(Protocol::Tcp, 80), Transport::Port(Protocol::Tcp, 8080), Transport::Icmp];
    let pairs = addresses.iter().flat_map(|source| addresses.iter().map(move |destination| (*source, *destination)));
    pairs
        .filter(|(source, destination)| source != destination && source.is_ipv4() == destination.is_ipv4())
        .flat_map(|(source, destination)| transports.map(|transport| Connection { source, destination, transport }))
        .collect()
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn every_prefix_of_every_plan_decides_like_the_old_or_like_the_new_state(history in event_sequences(20)) {
        let mut run = Run::of(&history);
        let mut world = first_world(&history);
        for batch in &history.batches {
            batch.iter().for_each(|event| world.apply(event));
            let tables = run.take(batch);
            let probes = probes(&world);
            let verdicts: Vec<_> = tables.iter().map(|tables| run.verdicts(tables, &probes)).collect();
            let (old, new) = (&verdicts[0], &verdicts[verdicts.len() - 1]);
            let flip = verdicts.iter().position(|verdicts| verdicts != old).unwrap_or(verdicts.len());
            for (step, verdicts) in verdicts.iter().enumerate().skip(flip) {
                prop_assert!(verdicts == new, "after step {} of {} a mixture decides\n{:?}\n{:?}", step, tables.len() - 1, batch, history);
            }
            let again = run.node.plan().expect("there are no limits");
            prop_assert!(again.is_empty(), "a second plan has something to do: {:?}\n{:?}", again, history);
        }
    }

    #[test]
    fn a_restart_from_any_prefix_converges(history in event_sequences(16), cut in any::<prop::sample::Index>()) {
        let (world, config) = last_world(&history);
        let mut run = Run::of(&history);
        let tables: Vec<_> = history.batches.iter().flat_map(|batch| run.take(batch)).collect();
        let mut restarted = Run::new(&config, tables[cut.index(tables.len())].clone());
        std::mem::swap(&mut restarted.interfaces, &mut run.interfaces);
        restarted.take(&world.events());
        std::mem::swap(&mut restarted.interfaces, &mut run.interfaces);
        let probes = probes(&world);
        prop_assert_eq!(
            run.verdicts(restarted.node.tables(), &probes),
            run.verdicts(run.node.tables(), &probes),
            "{:?}", history
        );
        prop_assert!(restarted.node.plan().expect("there are no limits").is_empty());
    }

    #[test]
    fn step_by_step_reaches_what_from_scratch_reaches(history in event_sequences(40)) {
        let (world, config) = last_world(&history);
        let mut run = Run::of(&history);
        for batch in &history.batches {
            run.take(batch);
        }
        let mut fresh = Run::new(&config, TableState::default());
        std::mem::swap(&mut fresh.interfaces, &mut run.interfaces);
        fresh.take(&world.events());
        std::mem::swap(&mut fresh.interfaces, &mut run.interfaces);
        let probes = probes(&world);
        prop_assert_eq!(
            run.verdicts(run.node.tables(), &probes),
            run.verdicts(fresh.node.tables(), &probes),
            "{:?}", history
        );
        let sizes = |node: &Node| {
            let (tables, compiler) = (node.tables(), node.compiler());
            let elements = [tables.endpoints.len(), tables.idents.len(), tables.nets.len(), tables.rules.len()];
            (elements, tables.ports.len(), compiler.identity_count(), compiler.facets().len())
        };
        prop_assert_eq!(sizes(&run.node), sizes(&fresh.node), "something is left behind: {:?}", history);
    }
}

/// `web` under one policy, with a pod of the other two apps.
fn shop(policy: impl Into<Event>) -> ClusterSetBuilder {
    let set = abc().with(namespace("a/shop")).with(pod("a/shop/web").labels("app=web").ip("10.1.0.1"));
    let others = [("cart", 2), ("list", 3)];
    let others =
        others.map(|(app, at)| pod(&format!("a/shop/{app}")).labels(&format!("app={app}")).ip(&format!("10.1.0.{at}")));
    others.into_iter().fold(set, ClusterSetBuilder::with).with(policy)
}

#[test]
fn addresses_of_a_block_that_goes_are_at_once_those_of_the_block_around_it() {
    let outer = || rule().peer(block("10.2.0.0/16", "")).ports("TCP/80");
    let inner = rule().peer(block("10.2.0.0/24", "")).ports("TCP/8080");
    let elsewhere = || rule().peer(block("10.1.9.0/24", "")).ports("TCP/8080");
    let nested = policy("a/shop/blocks").select("app=web").ingress([elsewhere(), outer(), inner]);
    let set = shop(nested);
    let mut run = Run::new(&set.config(), TableState::default());
    run.take(&set.events());
    let probe = connection("10.2.0.1", "10.1.0.1", "TCP/80");
    let steps = run.take(&[policy("a/shop/blocks").select("app=web").ingress([elsewhere(), outer()]).into()]);
    assert!(steps.len() > 1);
    for (step, tables) in steps.iter().enumerate() {
        assert!(run.verdicts(tables, std::slice::from_ref(&probe)).iter().all(|allowed| *allowed), "after step {step}");
    }
}

/// The numbers in tables: identities, policies, port tables, rules.
fn numbers(tables: &TableState) -> [BTreeSet<u32>; 4] {
    let rules = tables.ports.values().flat_map(BTreeMap::values).map(|entry| entry.rule);
    [
        tables.idents.identities().collect(),
        tables.rules.keys().map(|key| key.policy).collect(),
        tables.ports.keys().copied().collect(),
        rules.collect(),
    ]
}

#[test]
fn a_restart_gives_no_number_that_the_tables_hold_another_meaning() {
    // Who is admitted by the one rule is by the other too: the identity has no row of its own.
    let admits = |app: &str, port: &str| {
        let rules = [rule().ports(port), rule().peer(pods(&format!("app={app}"))).ports(port)];
        policy("a/shop/in").select("app=web").ingress(rules)
    };
    let set = shop(admits("cart", "TCP/80"));
    let mut run = Run::new(&set.config(), TableState::default());
    run.take(&set.events());
    let before = numbers(run.node.tables());
    let mut restarted = Run::new(&set.config(), run.node.tables().clone());
    restarted.take(&shop(admits("list", "TCP/81")).events());
    let after = numbers(restarted.node.tables());
    for (before, after) in before.iter().zip(&after) {
        assert!(!before.is_empty() && !after.is_empty() && before.is_disjoint(after), "{before:?} {after:?}");
    }
}

/// A pod that the policies of [`two_ports`] admit to one port, to another, or to none.
fn labelled(app: &str, at: usize) -> Event {
    pod(&format!("a/shop/peer-{at}")).labels(&format!("app={app}")).ip(&format!("10.1.0.1{at}")).into()
}

fn two_ports() -> Run {
    let admit = policy("a/shop/in")
        .select("app=web")
        .ingress([rule().peer(pods("app=cart")).ports("TCP/80"), rule().peer(pods("app=list")).ports("TCP/8080")]);
    let set = shop(admit);
    let mut run = Run::new(&set.config(), TableState::default());
    run.take(&set.events());
    run
}

/// Two addresses were written for a flip that never came, and one of them has gone back to what it was: what moves is the
/// other alone, but both elements say what they should not after a flip.
#[test]
fn an_address_that_goes_back_after_a_plan_was_cut_off_leaves_nothing_for_the_next_flip() {
    let mut run = two_ports();
    run.take(&[labelled("cart", 1), labelled("list", 2)]);
    let flip = |plan: &Plan| plan.steps.iter().position(|step| matches!(step, Step::Flip(_))).expect("it moves two");
    run.cut_off(&[labelled("list", 1), labelled("cart", 2)], flip);
    run.take(&[labelled("list", 2)]);
    assert_eq!(torn(run.node.tables()), Vec::<String>::new());
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn whatever_was_cut_off_a_whole_plan_leaves_nothing_for_a_later_flip(
        history in vec((vec(select(vec!["cart", "list", "none"]), 3), weighted(0.6, any::<prop::sample::Index>())), 1..12),
    ) {
        let mut run = two_ports();
        for (apps, cut) in &history {
            let batch: Vec<Event> = apps.iter().enumerate().map(|(at, app)| labelled(app, at)).collect();
            match cut {
                Some(cut) => run.cut_off(&batch, |plan| cut.index(plan.steps.len() + 1)),
                None => {
                    run.take(&batch);
                    prop_assert_eq!(torn(run.node.tables()), Vec::<String>::new());
                }
            }
        }
    }
}
