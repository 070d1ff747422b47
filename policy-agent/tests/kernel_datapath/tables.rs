//! What plans write is what is read back, by this run and by the next, wherever a plan is cut off.

use aya::maps::{Array, Map, MapData};
use policy_agent::datapath::Datapath;
use policy_common::table::{Answer, Endpoint, RuleEntry, RuleKey, Tagged, nearby_slot};
use policy_core::compile::Subjects;
use policy_core::index::PodEntry;
use policy_core::model::Event;
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Plan, Step, TableState, Write, local_bits};
use policy_core::testing::event_sequences;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::bpffs::{Bpffs, SMALL, TABLES};

fn execute(datapath: &mut Datapath, plan: &Plan, done: impl FnMut(&Step)) {
    datapath.execute(plan, done).unwrap_or_else(|error| panic!("{error}: {error:?}"));
}

#[test]
fn a_first_run_begins_with_empty_tables_and_pins_everything() {
    let bpffs = Bpffs::new();
    let (_datapath, state) = bpffs.open();
    assert_eq!(state, TableState::default());
    let mut pinned = [&TABLES[..], &["links", "programs"]].concat();
    pinned.sort_unstable();
    assert_eq!(bpffs.names(""), pinned);
    assert_eq!(bpffs.names("programs"), ["from_pod", "to_pod"]);
}

/// The endpoints that programs find without a hash: no other than `endpoints` has, and just as it has them.
fn nearby(bpffs: &Bpffs, state: &TableState) -> usize {
    let pinned = Map::from_map_data(MapData::from_pin(bpffs.pin("nearby")).expect("pinned")).expect("a map");
    let array: Array<MapData, Endpoint> = pinned.try_into().expect("an array");
    let mut found = 0;
    for (slot, nearby) in (0..).zip(array.iter()) {
        let nearby = nearby.expect("readable");
        if nearby.endpoint != Tagged::default() {
            let endpoint = state.endpoints.get(&nearby.endpoint.tag).expect("an endpoint");
            assert_eq!((slot, &nearby), (nearby_slot(nearby.endpoint.tag), endpoint));
            found += 1;
        }
    }
    found
}

/// What `local_bits` says of addresses is what the tables have.
fn local_bits_say(bpffs: &Bpffs, state: &TableState) {
    let pinned = Map::from_map_data(MapData::from_pin(bpffs.pin("local_bits")).expect("pinned")).expect("a map");
    let array: Array<MapData, u64> = pinned.try_into().expect("an array");
    let found: Vec<u64> = array.iter().map(|bits| bits.expect("readable")).collect();
    assert_eq!(found, local_bits(state.local.iter().map(|(address, _)| address)));
}

#[test]
fn whatever_is_committed_is_read_back_by_this_run_and_by_the_next() {
    let bpffs = Bpffs::new();
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut elements, mut all_nearby) = (0, 0);
    let (mut datapath, mut state) = bpffs.open();
    for round in 0..10 {
        let history = event_sequences(20).new_tree(&mut runner).expect("a history").current();
        let config = history.batches.iter().flatten().find_map(|event| match event {
            Event::Configured(config) => Some(config.clone()),
            _ => None,
        });
        // Each round goes on from what the last one left, as a restarted agent does.
        let mut node = Node::new(config.expect("configured"), Subjects::All, state.clone(), SMALL.limits());
        let last = history.batches.len() - 1;
        for (number, batch) in history.batches.iter().enumerate() {
            node.apply(batch);
            let keys: Vec<_> = node.detached().map(PodEntry::key).collect();
            for (ifindex, key) in (5000 + 100 * round..).zip(keys) {
                node.attach(&key, Attachment { ifindex, bridge: Some(9) });
            }
            let mut plan = node.plan().expect("it fits");
            if number == last {
                // The agent dies in the middle of its last commit.
                plan.steps.truncate(plan.steps.len() / 2);
            }
            execute(&mut datapath, &plan, |step| node.stepped(step));
            state = datapath.read().expect("the tables can be read");
            assert_eq!(&state, node.tables());
            let found = nearby(&bpffs, &state);
            local_bits_say(&bpffs, &state);
            // Whoever comes into a slot that was another's waits for a grace period.
            let must_be_there = number != last && plan.steps.contains(&Step::Grace);
            assert!(!must_be_there || found == state.endpoints.len(), "{found} of {}", state.endpoints.len());
            all_nearby += usize::from(must_be_there);
            elements = elements.max(state.rules.len() + state.idents.len() + state.nets.len() + state.ports.len());
        }
        drop(datapath);
        let (reopened, found) = bpffs.open();
        assert_eq!(found, state);
        assert_eq!(nearby(&bpffs, &state), state.endpoints.len(), "and nobody is in another's slot");
        local_bits_say(&bpffs, &state);
        datapath = reopened;
    }
    assert!(all_nearby > 10, "{all_nearby} plans");
    assert!(elements > 10, "the histories came to {elements} elements at most");
}

fn rule(number: u32, entry: Option<RuleEntry>) -> Step {
    Step::Write(Write::Rule(RuleKey { policy: number, identity: 1 }, entry))
}

const ROW: RuleEntry = RuleEntry { answer: Answer::Allow, ports: 0, rule: 7 };

#[test]
fn thousands_of_writes_of_one_kind_arrive_in_batches() {
    let bpffs = Bpffs::new();
    let (mut datapath, mut model) = bpffs.open();
    // More than one batch, and as many as the table holds.
    let all = SMALL.rules;
    let plan = Plan { steps: (0..all).map(|number| rule(number, Some(ROW))).collect() };
    execute(&mut datapath, &plan, |step| model.step(step));
    assert_eq!(model.rules.len(), all as usize);
    assert_eq!(datapath.read().expect("readable"), model);
    let plan = Plan { steps: (0..all).rev().map(|number| rule(number, None)).collect() };
    execute(&mut datapath, &plan, |step| model.step(step));
    assert_eq!(datapath.read().expect("readable"), TableState::default());
}

#[test]
fn a_step_that_fails_ends_the_plan_and_all_before_it_are_told() {
    let bpffs = Bpffs::new();
    let (mut datapath, mut model) = bpffs.open();
    let steps = (0..SMALL.rules + 10).map(|number| rule(number, Some(ROW))).chain([Step::Flip(1)]);
    let plan = Plan { steps: steps.collect() };
    let error = datapath.execute(&plan, |step| model.step(step)).expect_err("the table is full");
    assert!(error.to_string().starts_with("cannot write to RuleKey"), "{error}");
    assert_eq!(model.rules.len(), SMALL.rules as usize);
    assert_eq!(datapath.read().expect("readable"), model);
}

/// An endpoint with this policy in one slot.
fn endpoint(ifindex: u32, slot: usize, policy: u32) -> Step {
    let mut element = Endpoint { endpoint: Tagged { tag: ifindex, id: 100 + ifindex }, ..Endpoint::default() };
    element.policy[slot].egress = Tagged { tag: element.endpoint.id, id: policy };
    Step::Write(Write::Endpoint(ifindex, Some(element)))
}

#[test]
fn what_was_written_before_a_step_that_fails_is_found_nearby_too() {
    let bpffs = Bpffs::new();
    let (mut datapath, mut model) = bpffs.open();
    let all = SMALL.endpoints;
    execute(&mut datapath, &Plan { steps: (1..=all).map(|it| endpoint(it, 0, 1)).collect() }, |step| model.step(step));
    assert_eq!(nearby(&bpffs, &model), all as usize);
    let plan = Plan { steps: vec![endpoint(1, 1, 2), endpoint(2, 1, 2), endpoint(all + 1, 0, 1), endpoint(3, 1, 2)] };
    let error = datapath.execute(&plan, |step| model.step(step)).expect_err("the table is full");
    assert!(error.to_string().contains("endpoints"), "{error}");
    assert_eq!(model.endpoints[&2].policy[1].egress.id, 2);
    assert_eq!(datapath.read().expect("readable"), model);
    assert_eq!(nearby(&bpffs, &model), all as usize);
}

#[test]
fn deleting_what_is_gone_already_is_no_failure() {
    let bpffs = Bpffs::new();
    let (mut datapath, mut model) = bpffs.open();
    let plan = Plan { steps: [1, 3, 5].map(|number| rule(number, Some(ROW))).to_vec() };
    execute(&mut datapath, &plan, |step| model.step(step));
    let plan = Plan { steps: (0..=5).map(|number| rule(number, None)).collect() };
    let mut told = 0;
    execute(&mut datapath, &plan, |_| told += 1);
    assert_eq!(told, 6);
    assert_eq!(datapath.read().expect("readable"), TableState::default());
}
