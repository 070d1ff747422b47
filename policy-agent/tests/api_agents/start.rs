//! A member whose API server is down when an agent begins.

use policy_agent::api::types::SyncState;

use crate::agents::all_enforce;
use crate::clusters::{ADMIT_API, API, Clusters, NEIGHBOUR, RETRY, SOON, START, options};

/// Admits the neighbours, and so do all policies of cluster-a that name no cluster.
const ADMIT_NEIGHBOURS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: neighbours, namespace: shop, annotations: {crosswall.dev/peer-scope: Local}}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {}}]}]
";

#[test]
fn a_member_that_is_down_at_the_start_matches_nothing_until_it_is_heard() {
    let Some(mut clusters) = Clusters::prepare("a member that is down") else {
        return;
    };
    clusters.a.apply(&[ADMIT_API, ADMIT_NEIGHBOURS].join("---")).expect("applied");
    clusters.b.stop().expect("stopped");
    let options = options(&["--sync-deadline", "2"]);
    clusters.agents.push(clusters.lab.start_agent(crate::clusters::NODE, options).expect("started"));
    all_enforce(&clusters.agents, START);
    clusters.becomes_allowed(NEIGHBOUR, true, SOON);
    clusters.becomes_allowed(API, false, SOON);
    let member = clusters.member("cluster-b");
    assert_eq!((member.state, member.pods), (SyncState::Waiting, 0), "{member:?}");
    clusters.shows_issue(&["unusable_source", "cluster-b", "nothing is known of them yet"], RETRY);

    // Once, whatever was tried meanwhile.
    let log = clusters.agent().log();
    let told = log.lines().filter(|line| line.contains("cluster-b") && line.contains("cannot be followed")).count();
    assert!(told <= 2 && !log.contains("failed with error"), "{log}");

    clusters.b.start().expect("started");
    clusters.becomes_state("cluster-b", SyncState::Synced, RETRY);
    clusters.becomes_allowed(API, true, SOON);
    assert_eq!(clusters.issues(), Vec::<String>::new());
}
