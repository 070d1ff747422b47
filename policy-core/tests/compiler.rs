//! The compiled tables decide as the oracle does in every generated world.

use policy_common::reason::Reason;
use policy_core::judge::{End, opening_packet};
use policy_core::model::{Connection, Direction, PodKey};
use policy_core::oracle::{self, Oracle, Verdict};
use policy_core::simulate::Simulation;
use policy_core::testing::{ends, worlds_with_connections};
use policy_core::world::World;
use proptest::prelude::*;
use proptest::test_runner::Config;

/// Cases of a property: `PROPTEST_CASES`, or enough for every change.
fn config(default: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    Config { cases, failure_persistence: None, ..Config::default() }
}

fn same_reason(compiled: Reason, expected: oracle::Reason) -> bool {
    let expected = match expected {
        oracle::Reason::SelfTraffic => Reason::SelfTraffic,
        oracle::Reason::Node => Reason::Node,
        oracle::Reason::NotIsolated => Reason::NotIsolated,
        oracle::Reason::Rule => Reason::Rule,
        oracle::Reason::NoRule => Reason::NoRule,
    };
    compiled == expected
}

/// What is wrong with a compiled verdict; empty: nothing.
fn difference(compiled: &End, expected: &oracle::End) -> String {
    let rule = compiled.rule.as_ref().map(|place| (place.policy.clone(), place.item));
    let told = match &rule {
        Some(rule) => expected.allowed_by.contains(rule),
        None => expected.reason != oracle::Reason::Rule,
    };
    if compiled.allow == (expected.verdict == Verdict::Allow)
        && same_reason(compiled.reason, expected.reason)
        && compiled.isolated_by == expected.isolated_by
        && told
    {
        String::new()
    } else {
        format!("compiled {compiled:?}\nexpected {expected:?}")
    }
}

fn check_end(simulation: &Simulation, world: &World, end: &(PodKey, Direction), connection: &Connection) -> String {
    let (subject, direction) = end;
    let expected = Oracle::new(world).judge(subject, *direction, connection);
    match simulation.end(subject, *direction, connection) {
        Some(compiled) => difference(&compiled, &expected),
        None => format!("{subject} is no endpoint; expected {expected:?}"),
    }
}

proptest! {
    #![proptest_config(config(10_000))]

    #[test]
    fn compiled_tables_decide_as_the_oracle((world, connections) in worlds_with_connections(8)) {
        let Some(cluster_set) = &world.config else { return Ok(()) };
        let simulation = Simulation::new(cluster_set, &world.events());
        for connection in connections.iter().filter(|connection| opening_packet(connection).is_some()) {
            for end in ends(&world, connection) {
                let difference = check_end(&simulation, &world, &end, connection);
                prop_assert!(difference.is_empty(), "{:?} {:?}\n{}\n{:?}", end, connection, difference, world);
            }
        }
    }
}
