//! Elements of endpoints are changed in place where programs find them: no plan changes a word that a packet may be reading,
//! wherever the ones before it were cut off.

use std::collections::BTreeSet;

use policy_common::table::{
    Endpoint, EndpointPolicy, IDENTITY_WORLD, POLICY_HAS_WORLD, POLICY_HOLD, POLICY_OPEN, RuleKey, live_slot,
};
use policy_core::compile::Subjects;
use policy_core::model::{ClusterConfig, Event};
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Limits, Plan, Step, Table, TableState, Write};
use policy_core::testing::{PodBuilder, abc, event_sequences, namespace, pod, pods, policy, rule};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseError};

/// What befalls the agent with a batch.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Nothing: the whole plan is carried out.
    None,
    /// A step fails.
    Fails(Index),
    /// It is killed after a step.
    Dies(Index),
}

/// Packets that are being judged: the slots that some may read.
struct Readers(BTreeSet<usize>);

impl Readers {
    /// A step is about to be carried out on these tables.
    fn allow(&mut self, tables: &TableState, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Flip(commit) => drop(self.0.insert(live_slot(*commit))),
            Step::Grace => self.0 = BTreeSet::from([tables.live()]),
            Step::Write(Write::Endpoint(ifindex, Some(new))) => {
                if let Some(old) = tables.endpoints.get(ifindex).filter(|old| old.endpoint == new.endpoint) {
                    let constant = |endpoint: &Endpoint| Endpoint { policy: old.policy, ..*endpoint };
                    prop_assert_eq!(constant(new), *old, "what never changes has changed");
                    for slot in &self.0 {
                        prop_assert_eq!(
                            new.policy[*slot],
                            old.policy[*slot],
                            "slot {} changes under {:?}",
                            slot,
                            self.0
                        );
                    }
                }
            }
            Step::Write(_) => {}
        }
        Ok(())
    }

    /// What the readers find says whether there is a row for the world.
    fn find_the_world(&self, tables: &TableState) -> Result<usize, TestCaseError> {
        let mut found = 0;
        for EndpointPolicy { egress, ingress } in
            tables.endpoints.values().flat_map(|endpoint| self.0.iter().map(|slot| endpoint.policy[*slot]))
        {
            for policy in [egress.id, ingress.id].into_iter().filter(|id| ![POLICY_OPEN, POLICY_HOLD].contains(id)) {
                let has_world = tables.rules.contains_key(&RuleKey { policy, identity: IDENTITY_WORLD });
                prop_assert_eq!(policy & POLICY_HAS_WORLD != 0, has_world, "policy {}", policy);
                found += usize::from(has_world);
            }
        }
        Ok(found)
    }

    /// Carries out the first steps of a plan.
    fn see(&mut self, node: &mut Node, plan: &Plan, steps: usize) -> Result<(), TestCaseError> {
        for step in &plan.steps[..steps] {
            self.allow(node.tables(), step)?;
            node.stepped(step);
            self.find_the_world(node.tables())?;
        }
        Ok(())
    }
}

/// Every address has the identity in the tables that the compiler gives it.
fn says_what_is_known(node: &Node) -> Result<(), TestCaseError> {
    let (tables, compiler) = (node.tables(), node.compiler());
    for (address, identity) in compiler.addresses() {
        prop_assert_eq!(tables.idents.get(&address), Some([identity.0; 2]), "{}", address);
    }
    prop_assert_eq!(tables.idents.len(), compiler.addresses().count());
    Ok(())
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => Just(Fate::None),
        1 => any::<Index>().prop_map(Fate::Fails),
        1 => any::<Index>().prop_map(Fate::Dies),
    ]
}

/// Finds all pods behind few interfaces, so that several share one and one is another's before long.
fn attach_all(node: &mut Node, interfaces: u32) {
    let pods: Vec<_> = node.detached().map(|pod| (pod.key(), pod.uid())).collect();
    for (key, uid) in pods {
        let number: u32 = key.name.bytes().chain(uid.bytes()).map(u32::from).sum();
        node.attach(&key, Attachment { ifindex: 1 + number % interfaces, bridge: None });
    }
}

fn first_config(batches: &[Vec<Event>]) -> ClusterConfig {
    let config = batches.iter().flatten().find_map(|event| match event {
        Event::Configured(config) => Some(config.clone()),
        _ => None,
    });
    config.expect("every history configures the ClusterSet")
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::with_cases(300) })]

    #[test]
    fn no_word_changes_that_a_packet_may_be_reading(
        history in event_sequences(24),
        fates in prop::collection::vec(fate(), 64),
        interfaces in 1..9u32,
        room in prop::option::of(0..6usize),
    ) {
        let limits = Limits { most: room.map(|room| (Table::Rules, room)).into_iter().collect() };
        let new = |tables| Node::new(first_config(&history.batches), Subjects::All, tables, limits.clone());
        let mut node = new(TableState::default());
        let mut readers = Readers(BTreeSet::from([node.tables().live()]));
        let mut known: Vec<Event> = Vec::new();
        for (batch, fate) in history.batches.iter().zip(fates.iter().cycle()) {
            known.extend(batch.iter().cloned());
            node.apply(batch);
            attach_all(&mut node, interfaces);
            let plan = node.plan().unwrap_or_else(|_| node.hold());
            let cut = match fate {
                Fate::None => plan.steps.len(),
                Fate::Fails(at) | Fate::Dies(at) => at.index(plan.steps.len() + 1),
            };
            readers.see(&mut node, &plan, cut)?;
            match fate {
                Fate::None if room.is_none() => says_what_is_known(&node)?,
                Fate::None => {}
                Fate::Fails(_) => node.abandon(),
                Fate::Dies(_) => {
                    node = new(node.tables().clone());
                    node.apply(&known);
                }
            }
        }
    }
}

/// `web` under this policy, and pods of these names and apps, which have no interface of this node's.
fn committed(policy: impl Into<Event>, others: &[Event]) -> Node {
    let web = pod("a/shop/web").labels("app=web").ip("10.1.0.1");
    let set = abc().with(namespace("a/shop")).with(web).with(policy);
    let mut node = Node::new(set.config(), Subjects::All, TableState::default(), Limits::default());
    node.apply(&set.events());
    attach_all(&mut node, 1);
    node.apply(others);
    node.settle().expect("there are no limits");
    node
}

/// A pod of this app with a name of its own.
fn other(number: u8, app: &str) -> PodBuilder {
    pod(&format!("a/shop/other-{number}")).labels(&format!("app={app}")).ip(&format!("10.1.0.{number}"))
}

/// Takes these events, and carries out of the plan what comes before such a step.
fn cut_off(node: &mut Node, events: &[Event], before: impl Fn(&Step) -> bool) {
    node.apply(events);
    let plan = node.plan().expect("there are no limits");
    let cut = plan.steps.iter().position(before).expect("there is such a step");
    plan.steps[..cut].iter().for_each(|step| node.stepped(step));
    node.abandon();
}

#[test]
fn policies_that_were_staged_before_are_flipped_though_one_address_is_all_that_is_left_to_stage() {
    let elsewhere = policy("a/shop/in").select("app=cart").no_ingress();
    let mut node = committed(elsewhere, &[]);
    let isolates = policy("a/shop/in").select("app=web").ingress([rule().peer(pods("app=cart"))]);
    cut_off(&mut node, &[other(2, "cart").into(), isolates.into()], |step| matches!(step, Step::Flip(_)));
    node.apply(&[other(2, "cart").deleted()]);
    let plan = node.plan().expect("there are no limits");
    let mut readers = Readers(BTreeSet::from([node.tables().live()]));
    readers.see(&mut node, &plan, plan.steps.len()).expect("no word changes that a packet may be reading");
}

#[test]
fn an_address_that_moves_early_is_not_taken_for_one_that_only_has_to_go() {
    let rules = [rule().ports("TCP/80"), rule().peer(pods("app=cart")).ports("TCP/80")];
    let [two, three] = [2, 3].map(|number| other(number, "cart"));
    let isolates = policy("a/shop/in").select("app=web").ingress(rules);
    let mut node = committed(isolates, &[two.clone().into(), three.clone().into(), other(4, "list").into()]);
    cut_off(&mut node, &[two.deleted(), three.deleted()], |step| *step == Step::Grace);
    let last = "10.1.0.3".parse().expect("an address");
    cut_off(&mut node, &[], |step| *step == Step::Write(Write::Ident(last, None)));
    node.apply(&[other(4, "cart").into()]);
    node.settle().expect("there are no limits");
    says_what_is_known(&node).expect("the address has its identity");
}
