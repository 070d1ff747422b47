//! §2.3–6: peers that name no cluster, the default scope, namespace sameness.

use policy_core::model::{Peer, Scope};
use policy_core::testing::build::ClusterSetBuilder;
use policy_core::testing::{block, namespace, namespaces, pod, pods, pods_in, policy, rule};

use super::*;

fn any_namespace() -> Peer {
    namespaces("")
}

fn with_annotations(default: Scope, on_policy: Option<&str>, on_namespace: Option<&str>) -> ClusterSetBuilder {
    let mut policy = web_policy().ingress([rule().peer(any_namespace())]);
    let mut shop = namespace("a/shop").labels("team=front");
    if let Some(value) = on_policy {
        policy = policy.annotated(value);
    }
    if let Some(value) = on_namespace {
        shop = shop.annotated(value);
    }
    town().scope(default).with(shop).with(policy)
}

#[track_caller]
fn ranges_over_all(set: &ClusterSetBuilder) {
    admits(set, SUBJECT, "TCP/80", &[A_PG, B_PG, C_WEB], &[WORLD]);
}

#[track_caller]
fn ranges_over_local(set: &ClusterSetBuilder) {
    admits(set, SUBJECT, "TCP/80", &[A_PG], &[B_PG, C_WEB, WORLD]);
}

#[test]
fn an_unqualified_peer_ranges_over_the_local_cluster_by_default() {
    ranges_over_local(&with_annotations(Scope::default(), None, None));
}

#[test]
fn an_unqualified_peer_ranges_over_all_members_when_the_default_says_so() {
    ranges_over_all(&with_annotations(Scope::ClusterSet, None, None));
}

#[test]
fn the_policys_annotation_overrides_the_default() {
    ranges_over_all(&with_annotations(Scope::Local, Some("ClusterSet"), None));
    ranges_over_local(&with_annotations(Scope::ClusterSet, Some("Local"), None));
}

#[test]
fn the_namespaces_annotation_overrides_the_default() {
    ranges_over_all(&with_annotations(Scope::Local, None, Some("ClusterSet")));
    ranges_over_local(&with_annotations(Scope::ClusterSet, None, Some("Local")));
}

#[test]
fn a_valid_value_on_the_policy_hides_the_namespaces() {
    ranges_over_all(&with_annotations(Scope::Local, Some("ClusterSet"), Some("Local")));
    ranges_over_local(&with_annotations(Scope::ClusterSet, Some("Local"), Some("ClusterSet")));
    ranges_over_all(&with_annotations(Scope::Local, Some("ClusterSet"), Some("nonsense")));
}

#[test]
fn an_unknown_or_empty_value_means_local() {
    for value in ["nonsense", "", "local", "clusterset"] {
        ranges_over_local(&with_annotations(Scope::ClusterSet, Some(value), None));
        ranges_over_local(&with_annotations(Scope::ClusterSet, None, Some(value)));
    }
}

#[test]
fn an_unknown_value_on_the_policy_is_not_mended_by_the_namespaces() {
    ranges_over_local(&with_annotations(Scope::ClusterSet, Some("nonsense"), Some("ClusterSet")));
}

#[test]
fn the_annotation_of_a_remote_namespace_of_that_name_says_nothing() {
    let set = with_annotations(Scope::Local, None, None).with(namespace("b/shop").annotated("ClusterSet"));
    ranges_over_local(&set);
}

#[test]
fn the_annotation_of_one_policy_says_nothing_of_another() {
    let set = town()
        .with(web_policy().annotated("ClusterSet").ingress([rule().peer(pods("app=web"))]))
        .with(policy("a/shop/other").ingress([rule().peer(any_namespace())]));
    admits(&set, SUBJECT, "TCP/80", &[B_WEB, A_PG], &[B_PG, B_CACHE]);
}

#[test]
fn a_pod_selector_alone_means_the_policys_own_namespace() {
    let set = town().with(web_policy().ingress([rule().peer(pods(""))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[A_PG, B_WEB, B_CACHE, C_WEB, WORLD]);
}

#[test]
fn the_own_namespace_is_the_same_by_name_in_every_cluster_of_the_scope() {
    let set = town().scope(Scope::ClusterSet).with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE, B_CACHE, C_CACHE], &[B_WEB, A_PG, B_PG]);
}

#[test]
fn the_own_namespace_need_not_exist_locally() {
    let set = abc()
        .scope(Scope::ClusterSet)
        .with(pod("a/jobs/run").ip("10.1.0.1"))
        .with(namespace("b/jobs"))
        .with(pod("b/jobs/run").ip("10.2.0.1"))
        .with(pod("b/shop/web").ip("10.2.0.2"))
        .with(policy("a/jobs/p").ingress([rule().peer(pods(""))]));
    admits(&set, "a/jobs/run", "TCP/80", &["10.2.0.1"], &["10.2.0.2"]);
}

#[test]
fn a_namespace_selector_ranges_over_the_clusters_of_the_scope() {
    let rules = || [rule().peer(namespaces("team=back"))];
    let set = town().with(web_policy().ingress(rules()));
    admits(&set, SUBJECT, "TCP/80", &[A_PG], &[B_PG, C_PG, A_CACHE, B_WEB]);
    let set = town().scope(Scope::ClusterSet).with(web_policy().ingress(rules()));
    admits(&set, SUBJECT, "TCP/80", &[A_PG, B_PG, C_PG], &[A_CACHE, B_WEB]);
}

#[test]
fn the_labels_of_a_namespace_are_those_of_its_own_cluster() {
    let set = town()
        .scope(Scope::ClusterSet)
        .with(namespace("b/db").labels("team=other"))
        .with(web_policy().ingress([rule().peer(pods_in("team=back", "app=pg"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_PG, C_PG], &[B_PG]);
}

#[test]
fn an_ip_block_has_no_cluster() {
    let set = town().with(web_policy().ingress([rule().peer(block("10.2.0.0/16", "")).peer(block(WORLD_NET, ""))]));
    admits(&set, SUBJECT, "TCP/80", &[B_WEB, B_PG, "10.2.9.9", WORLD], &[A_CACHE, C_WEB]);
}

const WORLD_NET: &str = "203.0.113.0/24";

#[test]
fn a_policy_isolates_only_pods_of_its_own_cluster() {
    for scope in [Scope::Local, Scope::ClusterSet] {
        let set = town().scope(scope).with(policy("a/shop/all").no_ingress().no_egress());
        admits(&set, "a/shop/web", "TCP/80", &[], &[A_CACHE, B_WEB]);
        admits(&set, "b/shop/web", "TCP/80", &[A_WEB, WORLD], &[]);
        reaches(&set, "b/shop/web", "TCP/80", &[A_WEB, WORLD], &[]);
    }
}

#[test]
fn every_member_is_local_to_its_own_policies() {
    let set = town().with(policy("b/shop/own").ingress([rule().peer(namespaces(""))]));
    admits(&set, "b/shop/web", "TCP/80", &[B_CACHE, B_PG], &[A_WEB, C_WEB, WORLD]);
}
