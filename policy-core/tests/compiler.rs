//! The compiled tables decide as the oracle does in every generated world, and the compiler tells what it has made.

use policy_common::reason::Reason;
use policy_core::compile::{Compiler, RulePlace, Subjects, facet_of};
use policy_core::index::GroupId;
use policy_core::judge::{End, opening_packet};
use policy_core::model::{Connection, Direction, PodKey, Scope};
use policy_core::oracle::{self, Oracle, Verdict};
use policy_core::simulate::Simulation;
use policy_core::testing::{abc, cases, ends, namespace, pod, pods, policy, rule, worlds_with_connections};
use policy_core::world::World;
use proptest::prelude::*;

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
    #![proptest_config(cases(10_000))]

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

/// What `policyctl` shows of identities and of whom policies admit.
#[test]
fn an_identity_is_known_by_its_facets_and_a_facet_by_its_groups() {
    let set = abc().with(namespace("a/shop")).with(pod("a/shop/web").labels("app=web").ip("10.1.0.1"));
    let set = [("cart", 2), ("cart", 3), ("list", 4)].iter().fold(set, |set, (app, at)| {
        set.with(pod(&format!("a/shop/{app}-{at}")).labels(&format!("app={app}")).ip(&format!("10.1.0.{at}")))
    });
    let admits = policy("a/shop/in").select("app=web").ingress([rule().peer(pods("app=cart")).peer(pods("app=list"))]);
    let mut compiler = Compiler::new(set.config(), Subjects::All);
    compiler.apply(&set.with(admits).events());
    assert_eq!((compiler.identity_count(), compiler.facets().len(), compiler.facets().is_empty()), (2, 2, false));
    let facet = |labels: &str| facet_of(&pods(labels), &"shop".into(), Scope::Local);
    let identity = compiler.address("10.1.0.2".parse().expect("an address")).expect("a rule speaks of it");
    let signature = compiler.signature(identity).expect("it is live").iter();
    let signature: Vec<_> = signature.filter_map(|id| compiler.facets().facet(*id)).collect();
    assert_eq!(signature, [&facet("app=cart")]);
    let pods = |labels: &str| {
        let groups = compiler.facets().groups_of(&facet(labels))?;
        let groups = groups.into_iter().filter_map(|id| compiler.index().group(GroupId(id)));
        Some(groups.map(|group| group.pods.len()).sum::<usize>())
    };
    assert_eq!([pods("app=cart"), pods("app=list"), pods("app=web")], [Some(2), Some(1), None]);
}

#[test]
fn a_rules_place_reads_as_in_its_policy() {
    let policy = policy("a/shop/in").build().key;
    let rule = |direction| RulePlace { policy: policy.clone(), direction, item: 2 }.rule();
    assert_eq!(Direction::BOTH.map(rule), ["egress[2]", "ingress[2]"]);
}
