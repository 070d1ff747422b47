//! §11: the small print that concerns NetworkPolicy.

use policy_core::model::Scope;
use policy_core::testing::{block, namespace, namespaces, pod, pods, policy, rule};

use super::*;

#[test]
fn the_name_label_of_a_namespace_is_always_its_name() {
    let key = "kubernetes.io/metadata.name";
    let set = town()
        .scope(Scope::ClusterSet)
        .with(namespace("b/shop").labels(&format!("{key}=db")))
        .with(web_policy().ingress([rule().peer(namespaces(&format!("{key}=db")))]));
    admits(&set, SUBJECT, "TCP/80", &[A_PG, B_PG, C_PG], &[B_WEB, A_CACHE]);
}

#[test]
fn the_block_of_all_ipv4_holds_no_ipv6_address() {
    let set = town().with(web_policy().ingress([rule().peer(block("0.0.0.0/0", ""))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE, B_PG, WORLD], &["fd00:1::2", "2001:db8::7"]);
    let set = town().with(web_policy().ingress([rule().peer(block("::/0", ""))]));
    admits(&set, SUBJECT, "TCP/80", &["fd00:1::2", "2001:db8::7"], &[A_CACHE, B_PG, WORLD]);
}

#[test]
fn a_block_with_a_named_port_resolves_it_on_the_pod_that_has_the_address() {
    let set = town()
        .with(same_pod("b/db/pg", "app=pg", B_PG).port("sql", 5432))
        .with(same_pod("c/db/pg", "app=pg", C_PG).port("sql", 5433))
        .with(web_policy().egress([rule().peer(block("10.0.0.0/8", "")).ports("TCP/sql")]));
    reaches(&set, SUBJECT, "TCP/5432", &[B_PG], &[C_PG, A_PG, "10.9.0.1"]);
    reaches(&set, SUBJECT, "TCP/5433", &[C_PG], &[B_PG, A_PG, "10.9.0.1"]);
}

#[test]
fn a_named_port_holds_only_where_its_block_does() {
    let set = town()
        .with(same_pod("b/db/pg", "app=pg", B_PG).port("sql", 5432))
        .with(same_pod("c/db/pg", "app=pg", C_PG).port("sql", 5432))
        .with(web_policy().egress([rule().peer(block("10.0.0.0/8", "10.3.0.0/16")).ports("TCP/sql")]));
    reaches(&set, SUBJECT, "TCP/5432", &[B_PG], &[C_PG]);
}

#[test]
fn subject_selectors_see_the_cluster_of_local_pods() {
    let set = town().with(policy("a/shop/web").select("cluster.clusterset.k8s.io=a").no_ingress());
    admits(&set, SUBJECT, "TCP/80", &[], &[A_CACHE]);
    let set = town().with(policy("a/shop/web").select("io.cilium.k8s.policy.cluster=b").no_ingress());
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[]);
}

#[test]
fn subject_selectors_do_not_see_a_cluster_that_a_pod_claims() {
    let set = town()
        .with(same_pod(SUBJECT, "cluster.clusterset.k8s.io=b", A_WEB))
        .with(policy("a/shop/web").select("cluster.clusterset.k8s.io=b").no_ingress());
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[]);
}

#[test]
fn explicit_subject_selectors_see_the_cluster_only_where_it_is_labelled() {
    let key = "cluster.clusterset.k8s.io";
    let bare = town().explicit();
    let labelled = town().explicit().with(namespace("a/shop").labels(&format!("{key}=a")));
    let selecting = |selector: &str| policy("a/shop/web").select(selector).no_ingress();
    admits(&bare.clone().with(selecting(key)), SUBJECT, "TCP/80", &[A_CACHE], &[]);
    admits(&bare.with(selecting(&format!("!{key}"))), SUBJECT, "TCP/80", &[], &[A_CACHE]);
    admits(&labelled.clone().with(selecting(key)), SUBJECT, "TCP/80", &[], &[A_CACHE]);
    admits(&labelled.with(selecting(&format!("!{key}"))), SUBJECT, "TCP/80", &[A_CACHE], &[]);
}

#[test]
fn an_empty_value_under_a_cluster_key_matches_nobody() {
    let set = town().with(web_policy().ingress([rule().peer(namespaces("cluster.clusterset.k8s.io="))]));
    admits(&set, SUBJECT, "TCP/80", &[], &[A_CACHE, B_WEB]);
}

#[test]
fn a_cluster_id_of_two_parts_is_a_value_like_any_other() {
    let set = town()
        .member("eu.prod", "10.4.0.0/16")
        .with(namespace("eu.prod/shop"))
        .with(pod("eu.prod/shop/web").ip("10.4.0.1"))
        .with(web_policy().ingress([rule().peer(namespaces("cluster.clusterset.k8s.io=eu.prod"))]));
    admits(&set, SUBJECT, "TCP/80", &["10.4.0.1"], &[A_CACHE, B_WEB]);
}

#[test]
fn a_pod_without_an_address_is_nobodys_subject_or_peer() {
    let set = town()
        .with(pod("a/shop/cache").labels("app=cache"))
        .with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "TCP/80", &[], &[A_CACHE]);
    let end = Oracle::new(&set.with(policy("a/shop/all").no_ingress()).world()).judge(
        &pod("a/shop/cache").build().key,
        Direction::Ingress,
        &connection(WORLD, A_CACHE, "TCP/80"),
    );
    assert_eq!(end.verdict, Verdict::Allow);
}
