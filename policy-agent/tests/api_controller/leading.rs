//! From the first word to the last leader.

use std::time::{Duration, Instant};

use crate::controllers::{Cluster, Controller, SOON, TAKEOVER};

/// A policy that is well: only its own pods.
const GOOD: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: NAME, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
";
/// One with an error and a warning.
const BAD: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: NAME, namespace: shop, annotations: {crosswall.dev/peer-scope: Everywhere}}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {team: x}}
    - podSelector: {matchLabels: {app: web}}
";

fn apply(cluster: &Cluster, policy: &str, name: &str) {
    cluster.server.apply(&policy.replace("NAME", name)).expect("applied");
}

/// What `BAD` comes to.
fn codes() -> Option<Vec<String>> {
    Some(["unknown_peer_scope", "split_peer"].map(str::to_owned).into())
}

fn event(kind: &str, reason: &str, by: &Controller) -> (String, String, String) {
    (kind.to_owned(), reason.to_owned(), by.identity.clone())
}

/// Waits until the annotation of a policy tells these codes.
fn becomes(cluster: &Cluster, policy: &str, codes: &Option<Vec<String>>, controllers: &[&Controller]) {
    let within = if controllers.is_empty() { TAKEOVER } else { SOON };
    cluster.until(&format!("{policy} tells {codes:?}"), within, controllers, || match cluster.codes(policy) {
        found if found == *codes => Ok(()),
        found => Err(format!("it tells {found:?}")),
    });
}

#[test]
fn one_of_two_says_what_is_wrong_and_the_other_takes_over() {
    let Some(cluster) = Cluster::start("two controllers") else { return };
    apply(&cluster, GOOD, "good");
    let untouched = cluster.version("good");
    apply(&cluster, BAD, "bad");
    let pair = [cluster.controller("controller-1", 9464), cluster.controller("controller-2", 9465)];
    let [one, two] = &pair;
    becomes(&cluster, "bad", &codes(), &[one, two]);
    let (leader, other) = if one.leads() { (one, two) } else { (two, one) };
    assert!(leader.leads() && !other.leads(), "exactly one leads");
    assert_eq!(cluster.leader().as_ref(), Some(&leader.identity));
    for controller in &pair {
        for path in ["/healthz", "/readyz"] {
            assert!(controller.ask(path).starts_with("HTTP/1.1 200"), "{path}: {}", controller.said());
        }
    }
    let mut warnings = cluster.events("bad");
    warnings.sort();
    assert_eq!(warnings, [event("Warning", "SplitPeer", leader), event("Warning", "UnknownPeerScope", leader)]);

    apply(&cluster, GOOD, "bad");
    cluster.server.kubectl(&["annotate", "networkpolicy", "bad", "--namespace=shop", "crosswall.dev/peer-scope-"]).ok();
    becomes(&cluster, "bad", &None, &[one, two]);
    assert_eq!(cluster.events("bad").last(), Some(&event("Normal", "IssuesMended", leader)));
    apply(&cluster, BAD, "bad");
    becomes(&cluster, "bad", &codes(), &[one, two]);

    let [one, two] = pair;
    let (leader, other) = if one.leads() { (one, two) } else { (two, one) };
    takes_over_from_the_dead(&cluster, leader, &other);
    takes_over_at_once(&cluster, other);
    assert_eq!(cluster.version("good"), untouched, "nothing was ever wrong with it");
    assert_eq!(cluster.events("good"), []);
    asks_for_its_rights_and_for_nothing_else(&cluster);
}

/// The leader is killed: nobody leads until its lease is over, then the other does.
fn takes_over_from_the_dead(cluster: &Cluster, leader: Controller, other: &Controller) {
    let before = cluster.events("bad").len();
    let dead = leader.identity.clone();
    leader.kill();
    let killed = Instant::now();
    cluster.until("the other leads", TAKEOVER, &[other], || match other.leads() {
        true => Ok(()),
        false => Err(format!("{:?} holds the Lease", cluster.leader())),
    });
    let taken = killed.elapsed();
    // Its last renewal was at most a pause ago.
    assert!(taken >= Duration::from_secs(12), "before the lease of {dead} was over: {taken:?}");
    eprintln!("the lease of a leader that was killed was taken over after {taken:?}");
    // Of the longest name that a policy can have, too.
    let second = format!("{}.{}", "a".repeat(56), "b".repeat(196));
    apply(cluster, BAD, &second);
    becomes(cluster, &second, &codes(), &[other]);
    assert_eq!(cluster.events(&second).len(), 2);
    assert_eq!(cluster.events("bad").len(), before, "nothing is said twice");
}

/// The leader is asked to end, and lets go of the Lease.
fn takes_over_at_once(cluster: &Cluster, leader: Controller) {
    let third = cluster.controller("controller-3", 9466);
    cluster.until("it is ready", SOON, &[&third], || match third.ask("/readyz") {
        ready if ready.starts_with("HTTP/1.1 200") => Ok(()),
        answer => Err(answer),
    });
    assert!(leader.leads() && !third.leads());
    let (weight, idle) = (leader.weight(), third.weight());
    std::thread::sleep(Duration::from_secs(10));
    let (later, idle_later) = (leader.weight(), third.weight());
    eprintln!(
        "the leader has {} KiB and takes {:?} of a processor in 10 s, who waits {} KiB and {:?}",
        later.0,
        later.1.saturating_sub(weight.1),
        idle_later.0,
        idle_later.1.saturating_sub(idle.1)
    );
    let asked = Instant::now();
    assert!(leader.terminate(), "it ends well");
    cluster.until("the third leads", SOON, &[&third], || match third.leads() {
        true => Ok(()),
        false => Err(format!("{:?} holds the Lease", cluster.leader())),
    });
    let taken = asked.elapsed();
    assert!(taken < Duration::from_secs(8), "the Lease was let go: {taken:?}");
    eprintln!("the lease of a leader that ended was taken over after {taken:?}");
    apply(cluster, BAD, "third");
    becomes(cluster, "third", &codes(), &[&third]);
    assert!(third.terminate(), "it ends well");
    assert_eq!(cluster.leader(), None, "the last one lets go too");
}

/// What controllers asked up to now is what `deploy/` lets them, to the last right.
fn asks_for_its_rights_and_for_nothing_else(cluster: &Cluster) {
    let asked = cluster.asked();
    let refused: Vec<_> = asked.iter().filter(|(_, code)| matches!(code, 401 | 403)).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let mut verbs: Vec<&str> = asked.iter().map(|(what, _)| what.as_str()).collect();
    verbs.dedup();
    // A streamed list is a watch; where a server has none, it is listed.
    let is_watched = |what: &str| verbs.contains(&what.replacen("list ", "watch ", 1).as_str());
    let rights = [
        "create coordination.k8s.io/leases",
        "create events.k8s.io/events",
        "get about.k8s.io/clusterproperties cluster.clusterset.k8s.io",
        "get coordination.k8s.io/leases crosswall-controller",
        "list /namespaces",
        "list /nodes",
        "list /pods",
        "list /secrets",
        "list /services",
        "list discovery.k8s.io/endpointslices",
        "list multicluster.x-k8s.io/clusterprofiles",
        "list networking.k8s.io/networkpolicies",
        "patch networking.k8s.io/networkpolicies",
        "update coordination.k8s.io/leases crosswall-controller",
        "watch /namespaces",
        "watch /nodes",
        "watch /pods",
        "watch /secrets",
        "watch /services",
        "watch discovery.k8s.io/endpointslices",
        "watch multicluster.x-k8s.io/clusterprofiles",
        "watch networking.k8s.io/networkpolicies",
    ];
    let beyond: Vec<_> = verbs.iter().filter(|what| !rights.contains(*what)).collect();
    assert!(beyond.is_empty(), "asked for, and in no table: {beyond:?}");
    let unused: Vec<_> = rights.iter().filter(|right| !verbs.contains(*right) && !is_watched(right)).collect();
    assert!(unused.is_empty(), "in the table, and not asked for: {unused:?} of {verbs:#?}");
}
