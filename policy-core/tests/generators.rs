//! The generated worlds are interesting: what tests stand on happens often enough in them.

use std::collections::BTreeMap;

use policy_core::model::{Direction, Lifecycle};
use policy_core::oracle::{Oracle, Reason};
use policy_core::testing::{EventSequence, ends, event_sequences, worlds_with_connections};
use policy_core::world::World;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// The same values on every run.
fn samples<S: Strategy>(how_many: usize, strategy: &S) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..how_many).map(|_| strategy.new_tree(&mut runner).expect("no filters").current()).collect()
}

#[test]
fn every_reason_is_common() {
    let mut seen: BTreeMap<(Direction, Reason), usize> = BTreeMap::new();
    let mut judged = 0;
    for (world, connections) in samples(400, &worlds_with_connections(20)) {
        let oracle = Oracle::new(&world);
        for connection in &connections {
            for (subject, direction) in ends(&world, connection) {
                judged += 1;
                *seen.entry((direction, oracle.judge(&subject, direction, connection).reason)).or_default() += 1;
            }
        }
    }
    assert!(judged > 3_000, "{judged}");
    for direction in Direction::BOTH {
        for reason in [Reason::Rule, Reason::NoRule, Reason::NotIsolated, Reason::SelfTraffic, Reason::Node] {
            let count = seen.get(&(direction, reason)).copied().unwrap_or(0);
            let possible = (direction, reason) != (Direction::Egress, Reason::Node);
            assert_eq!(count * 300 > judged, possible, "{direction:?} {reason:?}: {count} of {judged}; {seen:?}");
        }
    }
}

#[test]
fn contested_addresses_and_unknown_namespaces_are_common() {
    let worlds: Vec<World> = samples(400, &worlds_with_connections(1)).into_iter().map(|(world, _)| world).collect();
    let share = |holds: &dyn Fn(&World) -> bool| worlds.iter().filter(|world| holds(world)).count() * 100 / 400;
    let contested = share(&|world| {
        let mut claims: BTreeMap<_, usize> = BTreeMap::new();
        let workloads = world.pods.values().filter(|pod| !pod.host_network && pod.lifecycle != Lifecycle::Finished);
        workloads.flat_map(|pod| &pod.addresses).for_each(|address| *claims.entry(address).or_default() += 1);
        claims.values().any(|count| *count > 1)
    });
    let unknown = share(&|world| {
        world.pods.keys().any(|pod| {
            !world.namespaces.keys().any(|known| known.cluster == pod.cluster && known.name == pod.namespace)
        })
    });
    assert!((30..=90).contains(&contested), "{contested} % contested");
    assert!((30..=90).contains(&unknown), "{unknown} % unknown");
}

#[test]
fn the_events_of_a_world_make_that_world() {
    for (world, _) in samples(100, &worlds_with_connections(1)) {
        assert_eq!(World::from_events(&world.events()), world);
    }
}

#[test]
fn repeating_the_last_event_changes_nothing() {
    for EventSequence { batches } in samples(100, &event_sequences(40)) {
        let mut world = World::default();
        for event in batches.iter().flatten() {
            world.apply(event);
            let once = world.clone();
            world.apply(event);
            assert_eq!(world, once);
        }
    }
}

#[test]
fn histories_end_with_pods_and_policies() {
    let sequences = samples(200, &event_sequences(40));
    let lively = sequences.iter().map(EventSequence::world).filter(|it| it.pods.len() > 3 && !it.policies.is_empty());
    let lively = lively.count();
    assert!(lively > 120, "{lively} of 200");
}
