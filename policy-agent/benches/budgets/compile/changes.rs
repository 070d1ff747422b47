//! Changes of a ClusterSet that was listed: each is applied, planned, and carried out on the modelled tables.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use policy_core::model::{Event, Pod};
use policy_core::node::Node;
use policy_core::plan::{Plan, Step, Write};

use super::listing::attach;
use crate::cluster_set::{self, BULK, ClusterSet, Place, REPLICAS, policies};
use crate::report::{Samples, TimeUnit};
use crate::sys::cpu_time;

/// How many pods change one by one in a round.
const PODS: usize = 256;
/// How many endpoints come and go in a round.
const ENDPOINTS: usize = 16;
/// How many clusters the pods that a policy matches are of: 100,000 of them.
const MATCHED_CLUSTERS: u32 = 10;

/// The cases of [`of_pods`].
pub const POD_CASES: [&str; 7] = [
    "pod_added",
    "pod_removed",
    "pod_relabelled",
    "endpoint_added",
    "endpoint_removed",
    "endpoint_with_policies_added",
    "endpoint_with_policies_removed",
];
/// The cases of [`of_many`].
pub const MANY_CASES: [&str; 3] = ["namespace_of_1000_relabelled", "policy_of_100k_added", "policy_of_100k_removed"];
/// How often a namespace and a policy change in a round.
const REPEATS: usize = 5;

/// Pods that come, change and go one by one.
pub fn of_pods(set: &ClusterSet, node: &mut Node, suffix: &str, samples: &mut Samples) -> Result<()> {
    let case = |name: &str| format!("{name}{suffix}");
    let places = known_signatures(set, node);
    let writes = set.addresses(Place { cluster: 0, deployment: 0, replica: 0 }).len();
    for (event, took, plan) in each(node, places.iter().map(|place| applied(set.pod(new_replica(*place))))) {
        ensure!(writes > 1 || writes_of(&plan) == 1, "{event:?} took {} writes", writes_of(&plan));
        samples.add_time(&case("pod_added"), TimeUnit::US, took);
    }
    for (event, took, plan) in each(node, places.iter().map(|place| removed(set.pod(new_replica(*place))))) {
        ensure!(writes > 1 || writes_of(&plan) == 1, "{event:?} took {} writes", writes_of(&plan));
        samples.add_time(&case("pod_removed"), TimeUnit::US, took);
    }
    let relabelled = |place: &Place| {
        let (mut pod, other) = (set.pod(*place), set.pod(Place { deployment: place.deployment ^ 1, ..*place }));
        pod.labels = other.labels;
        applied(pod)
    };
    for (_, took, _) in each(node, places.iter().map(relabelled)) {
        samples.add_time(&case("pod_relabelled"), TimeUnit::US, took);
    }
    each(node, places.iter().map(|place| applied(set.pod(*place)))).for_each(drop);
    of_endpoints(set, node, suffix, samples)
}

/// Pods of the node itself: under policies that others here live under too, and such as bring policies with them.
fn of_endpoints(set: &ClusterSet, node: &mut Node, suffix: &str, samples: &mut Samples) -> Result<()> {
    let places = |replica| (0..set.deployments(0)).map(move |deployment| Place { cluster: 0, deployment, replica });
    let has_one = |place: &Place| (0..REPLICAS).any(|replica| set.is_endpoint(Place { replica, ..*place }));
    let moved_here = |place| Pod { node: Some(cluster_set::NODE.into()), ..set.pod(place) };
    let known = places(REPLICAS).filter(has_one).map(moved_here).take(ENDPOINTS);
    let new = places(REPLICAS).filter(|place| set.is_endpoint(*place)).map(|place| set.pod(place)).take(ENDPOINTS);
    for (kind, pods) in [("endpoint", known.collect()), ("endpoint_with_policies", new.collect::<Vec<_>>())] {
        for pod in &pods {
            let event = applied(pod.clone());
            let begun = Instant::now();
            node.apply([&event]);
            attach(node);
            let plan = node.settle()?;
            samples.add_time(&format!("{kind}_added{suffix}"), TimeUnit::US, begun.elapsed());
            ensure!(plan.commit().is_some(), "{event:?} changed no table");
        }
        for (event, took, plan) in each(node, pods.into_iter().map(removed)) {
            samples.add_time(&format!("{kind}_removed{suffix}"), TimeUnit::US, took);
            ensure!(plan.commit().is_some(), "{event:?} changed no table");
        }
    }
    Ok(())
}

/// Changes that move many pods at once.
pub fn of_many(set: &ClusterSet, node: &mut Node, suffix: &str, samples: &mut Samples) -> Result<()> {
    let last = set.clusters - 1;
    let namespace = |team| cluster_set::namespace(last, BULK, team);
    let mut events = vec![policies::of_team("analytics"), namespace("nobody")];
    events.extend(cluster_set::bulk(last).map(|place| applied(set.pod(place))));
    change(node, &events);
    let teams = ["analytics", "nobody"].map(namespace);
    for event in teams.iter().cycle().take(2 * REPEATS) {
        let (took, plan) = long_change(node, event);
        ensure!(addresses_of(&plan) == 1_000, "{event:?} moved {} addresses", addresses_of(&plan));
        samples.add_time(&format!("namespace_of_1000_relabelled{suffix}"), TimeUnit::MS, took);
    }
    let policy = policies::of_clusters(1..=MATCHED_CLUSTERS);
    let gone = policies::deletion(&policy);
    let changes = [("policy_of_100k_added", &policy), ("policy_of_100k_removed", &gone)];
    for (case, event) in changes.into_iter().cycle().take(2 * REPEATS) {
        let (took, plan) = long_change(node, event);
        ensure!(addresses_of(&plan) == 100_000, "{case} moved {} addresses", addresses_of(&plan));
        samples.add_time(&format!("{case}{suffix}"), TimeUnit::MS, took);
    }
    Ok(())
}

/// Applies a batch and carries out what it makes needed.
fn change(node: &mut Node, events: &[Event]) -> (Duration, Plan) {
    let begun = Instant::now();
    node.apply(events);
    let plan = node.settle().expect("modelled tables have no limits");
    (begun.elapsed(), plan)
}

/// As [`change`], in the time that a core worked for it: that clock is too slow for microseconds.
fn long_change(node: &mut Node, event: &Event) -> (Duration, Plan) {
    let begun = cpu_time();
    let (_, plan) = change(node, std::slice::from_ref(event));
    (cpu_time() - begun, plan)
}

/// As [`change`], for one event after the other.
fn each(node: &mut Node, events: impl Iterator<Item = Event>) -> impl Iterator<Item = (Event, Duration, Plan)> {
    events.map(move |event| {
        let (took, plan) = change(node, std::slice::from_ref(&event));
        (event, took, plan)
    })
}

/// Pods of other nodes, each of another Deployment, that some policy here can tell from the world.
fn known_signatures(set: &ClusterSet, node: &Node) -> Vec<Place> {
    let first_cluster = 1.min(set.clusters - 1);
    let rounds = (0..set.deployments(first_cluster)).map(|round| (round * 37) % set.deployments(first_cluster));
    let places = rounds.flat_map(|deployment| {
        (first_cluster..set.clusters).map(move |cluster| Place { cluster, deployment, replica: 0 })
    });
    let is_known = |place: &Place| {
        let addresses = set.addresses(*place);
        addresses.iter().all(|address| node.compiler().address(*address).is_some())
    };
    let is_remote = |place: &Place| !set.is_endpoint(*place) && !set.is_endpoint(new_replica(*place));
    places.filter(is_remote).filter(is_known).take(PODS).collect()
}

fn new_replica(place: Place) -> Place {
    Place { replica: REPLICAS, ..place }
}

fn applied(pod: Pod) -> Event {
    Event::PodApplied(pod)
}

fn removed(pod: Pod) -> Event {
    Event::PodDeleted { key: pod.key, uid: pod.uid }
}

/// How many writes of tables a plan has.
fn writes_of(plan: &Plan) -> usize {
    plan.steps.iter().filter(|step| matches!(step, Step::Write(_))).count()
}

/// How many addresses a plan moves.
fn addresses_of(plan: &Plan) -> usize {
    let before_flip = plan.steps.iter().take_while(|step| !matches!(step, Step::Flip(_)));
    before_flip.filter(|step| matches!(step, Step::Write(Write::Ident(..)))).count()
}
