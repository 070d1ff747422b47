//! What is said of objects that contradict each other or hardly mean what they say, in worlds made by hand.

use policy_core::compile::{Compiler, Subjects};
use policy_core::issues;
use policy_core::model::{Issue, IssueCode, Level, Peer};
use policy_core::testing::build::{ClusterSetBuilder, PolicyBuilder, RuleBuilder};
use policy_core::testing::{abc, block, namespace, namespaces, pod, pods, pods_in, policy, rule};

fn found(set: &ClusterSetBuilder) -> Vec<Issue> {
    let mut compiler = Compiler::new(set.config(), Subjects::All);
    compiler.apply(&set.events());
    issues::of(&compiler)
}

/// The code, the object and the field of each issue.
#[track_caller]
fn says(set: &ClusterSetBuilder, expected: &[(IssueCode, &str, &str)]) {
    let found = found(set);
    let places: Vec<_> = found.iter().map(|issue| (issue.code, issue.object.as_str(), issue.field.as_str())).collect();
    assert_eq!(places, expected, "{found:#?}\n{}", set.world());
}

#[test]
fn an_unknown_scope_of_a_namespace_is_an_issue_of_the_policies_that_inherit_it() {
    let place = "metadata.annotations[crosswall.dev/peer-scope]";
    let set = abc()
        .with(namespace("a/shop").annotated("clusterset"))
        .with(policy("a/shop/heir").no_ingress())
        .with(policy("a/shop/own").no_ingress().annotated("Local"))
        .with(policy("a/shop/wrong").no_ingress().annotated("local"))
        .with(policy("a/db/other").no_ingress())
        .with(policy("b/shop/remote").no_ingress());
    says(&set, &[(IssueCode::UnknownPeerScope, "a/NetworkPolicy/shop/heir", place)]);
}

/// Namespaces `shop` and `db` (team=front, team=back) in each cluster, and in each cluster shop/web (app=web) and db/pg
/// (app=pg).
fn town() -> ClusterSetBuilder {
    let mut set = abc();
    for (cluster, number) in [("a", 1), ("b", 2), ("c", 3)] {
        set = set
            .with(namespace(&format!("{cluster}/shop")).labels("team=front"))
            .with(namespace(&format!("{cluster}/db")).labels("team=back"))
            .with(pod(&format!("{cluster}/shop/web")).labels("app=web").ip(&format!("10.{number}.0.1")))
            .with(pod(&format!("{cluster}/db/pg")).labels("app=pg").ip(&format!("10.{number}.0.3")));
    }
    set
}

/// A policy of a/shop whose ingress admits these peers, annotated so that its scope is no question.
fn admitting(peers: impl IntoIterator<Item = Peer>) -> PolicyBuilder {
    let rule = peers.into_iter().fold(rule(), RuleBuilder::peer);
    policy("a/shop/np").annotated("Local").ingress([rule])
}

#[test]
fn an_id_of_no_member_is_a_warning_where_a_peer_names_it() {
    let cluster = "cluster.clusterset.k8s.io";
    let set = town().with(admitting([
        pods_in(&format!("{cluster} in (b, zz)"), "app=web"),
        pods_in(&format!("{cluster}=b"), "io.cilium.k8s.policy.cluster notin (yy, c)"),
        pods_in(&format!("{cluster}, !io.cilium.k8s.policy.cluster, team=zz"), ""),
        block("10.0.0.0/8", ""),
        pods(&format!("{cluster}=")),
    ]));
    let np = "a/NetworkPolicy/shop/np";
    says(
        &set,
        &[
            (IssueCode::UnknownClusterId, np, "spec.ingress[0].from[0].namespaceSelector"),
            (IssueCode::UnknownClusterId, np, "spec.ingress[0].from[1].podSelector"),
            (IssueCode::UnknownClusterId, np, "spec.ingress[0].from[4].podSelector"),
        ],
    );
    let messages: Vec<_> = found(&set).into_iter().map(|issue| issue.message).collect();
    assert!(messages[0].contains(r#""zz": it matches nobody"#) && messages[1].contains(r#""yy": it excludes nobody"#));
    assert!(found(&set).iter().all(|issue| issue.level == Level::Warning));
}

#[test]
fn selectors_of_namespaces_and_of_pods_in_two_items_are_a_warning() {
    let split = (IssueCode::SplitPeer, "a/NetworkPolicy/shop/np", "spec.ingress[0].from[1]");
    says(&town().with(admitting([namespaces("team=back"), pods("app=pg")])), &[split]);
    says(
        &town().with(admitting([pods("app=pg"), namespaces("team=back")])),
        &[(split.0, split.1, "spec.ingress[0].from[0]")],
    );
    // The pods of those namespaces that have any labels are all of them: nothing else can have been meant.
    says(&town().with(admitting([namespaces("team=back"), pods("")])), &[]);
    says(&town().with(admitting([pods_in("team=back", "app=pg"), pods("app=pg")])), &[]);
    says(&town().with(admitting([pods_in("team=back", "app=pg"), namespaces("team=back")])), &[]);
    let two_rules = policy("a/shop/np")
        .annotated("Local")
        .ingress([rule().peer(namespaces("team=back")), rule().peer(pods("app=pg"))])
        .egress([rule().peer(pods("app=pg")).peer(pods("app=web")).peer(namespaces("")).peer(namespaces("team=back"))]);
    says(&town().with(two_rules), &[(split.0, split.1, "spec.egress[0].to[0]")]);
}

#[test]
fn an_address_is_contested_as_long_as_two_claim_it() {
    let (one, two, three) =
        (|| pod("b/db/pg-1").ip("10.2.0.5"), || pod("b/db/pg-2").ip("10.2.0.5"), || pod("c/db/pg").ip("10.2.0.5"));
    let set = abc().member("c", "10.2.0.0/16").with(one()).with(two());
    let count = |set: &ClusterSetBuilder| found(set).iter().filter(|it| it.code == IssueCode::DuplicateAddress).count();
    assert_eq!(count(&set), 2);
    assert_eq!(count(&set.clone().with(three())), 3);
    assert_eq!(count(&set.clone().with(three()).with(one().deleted())), 2);
    assert_eq!(count(&set.clone().with(one().deleted())), 0);
    assert_eq!(count(&set.clone().with(one().finished())), 0);
    assert_eq!(count(&set.with(one().deleted()).with(one())), 2);
}

#[test]
fn a_label_of_another_cluster_is_a_warning_on_whatever_carries_it() {
    let set = abc()
        .with(namespace("b/shop").labels("cluster.clusterset.k8s.io=a"))
        .with(namespace("b/db").labels("cluster.clusterset.k8s.io=b"))
        .with(pod("b/db/live-1").labels("io.cilium.k8s.policy.cluster=c").ip("10.2.0.1"))
        .with(pod("b/db/live-2").labels("io.cilium.k8s.policy.cluster=c").ip("10.2.0.2"))
        .with(pod("b/db/true").labels("io.cilium.k8s.policy.cluster=b,cluster.clusterset.k8s.io=b").ip("10.2.0.3"))
        .with(pod("a/db/none").labels("cluster.clusterset.k8s.io=b"))
        .with(pod("a/db/finished").labels("cluster.clusterset.k8s.io=b").ip("10.1.0.1").finished());
    let (key, alias) = ("metadata.labels[cluster.clusterset.k8s.io]", "metadata.labels[io.cilium.k8s.policy.cluster]");
    says(
        &set,
        &[
            (IssueCode::SpoofedClusterLabel, "a/Pod/db/finished", key),
            (IssueCode::SpoofedClusterLabel, "a/Pod/db/none", key),
            (IssueCode::SpoofedClusterLabel, "b/Namespace/shop", key),
            (IssueCode::SpoofedClusterLabel, "b/Pod/db/live-1", alias),
            (IssueCode::SpoofedClusterLabel, "b/Pod/db/live-2", alias),
        ],
    );
}
