//! §2.1–2: the cluster label, who carries it, and what a peer that names it ranges over.

use policy_core::model::Scope;
use policy_core::testing::build::ClusterSetBuilder;
use policy_core::testing::{namespace, namespaces, pods, pods_in, rule};

use super::*;

fn with_peer(set: ClusterSetBuilder, peer: policy_core::model::Peer) -> ClusterSetBuilder {
    set.with(web_policy().ingress([rule().peer(peer)]))
}

#[test]
fn a_namespace_carries_the_id_of_its_clusters_join_record() {
    let set = with_peer(town(), namespaces("cluster.clusterset.k8s.io=b"));
    admits(&set, SUBJECT, "TCP/80", &[B_WEB, B_CACHE, B_PG], &[A_CACHE, A_PG, C_WEB, C_PG, WORLD]);
}

#[test]
fn a_pod_carries_the_id_of_its_clusters_join_record() {
    let set = with_peer(town(), pods_in("", "cluster.clusterset.k8s.io=b"));
    admits(&set, SUBJECT, "TCP/80", &[B_WEB, B_CACHE, B_PG], &[A_CACHE, A_PG, C_WEB, C_PG, WORLD]);
}

#[test]
fn the_alias_is_on_the_namespace_and_on_the_pod() {
    for peer in [namespaces("io.cilium.k8s.policy.cluster=b"), pods_in("", "io.cilium.k8s.policy.cluster=b")] {
        admits(&with_peer(town(), peer), SUBJECT, "TCP/80", &[B_WEB, B_PG], &[A_CACHE, C_WEB, C_PG]);
    }
}

#[test]
fn what_a_remote_pod_says_of_its_cluster_is_ignored() {
    for key in ["cluster.clusterset.k8s.io", "io.cilium.k8s.policy.cluster"] {
        let spoofing = same_pod("c/shop/web", &format!("app=web,{key}=b"), C_WEB);
        let set = with_peer(town().with(spoofing), pods_in("", &format!("{key}=b")));
        admits(&set, SUBJECT, "TCP/80", &[B_WEB], &[C_WEB]);
        let set = with_peer(set, pods_in("", &format!("{key}=c")));
        admits(&set, SUBJECT, "TCP/80", &[C_WEB], &[B_WEB]);
    }
}

#[test]
fn what_a_remote_namespace_says_of_its_cluster_is_ignored() {
    for key in ["cluster.clusterset.k8s.io", "io.cilium.k8s.policy.cluster"] {
        let spoofing = namespace("c/shop").labels(&format!("team=front,{key}=b"));
        let set = with_peer(town().with(spoofing), namespaces(&format!("{key}=b")));
        admits(&set, SUBJECT, "TCP/80", &[B_WEB], &[C_WEB]);
    }
}

#[test]
fn a_value_on_a_local_object_that_is_not_the_local_id_is_ignored() {
    let set = town().with(namespace("a/db").labels("cluster.clusterset.k8s.io=b")).with(same_pod(
        "a/shop/cache",
        "io.cilium.k8s.policy.cluster=b",
        A_CACHE,
    ));
    admits(&with_peer(set.clone(), namespaces("cluster.clusterset.k8s.io=b")), SUBJECT, "TCP/80", &[B_PG], &[A_PG]);
    admits(&with_peer(set, pods_in("", "cluster.clusterset.k8s.io=a")), SUBJECT, "TCP/80", &[A_CACHE, A_PG], &[B_PG]);
}

#[test]
fn in_admits_only_the_clusters_it_lists() {
    let set = with_peer(town(), namespaces("cluster.clusterset.k8s.io in (b, c)"));
    admits(&set, SUBJECT, "TCP/80", &[B_WEB, B_PG, C_WEB, C_PG], &[A_CACHE, A_PG, WORLD]);
}

#[test]
fn in_with_an_id_that_no_member_has_admits_nobody() {
    let set = with_peer(town(), namespaces("cluster.clusterset.k8s.io=elsewhere"));
    admits(&set, SUBJECT, "TCP/80", &[], &[A_CACHE, B_WEB, C_WEB, WORLD]);
}

#[test]
fn not_in_admits_every_cluster_but_those_it_lists() {
    let set = with_peer(town(), namespaces("cluster.clusterset.k8s.io notin (b)"));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE, A_PG, C_WEB, C_PG], &[B_WEB, B_PG, WORLD]);
}

#[test]
fn exists_admits_all_clusters() {
    let set = with_peer(town(), namespaces("cluster.clusterset.k8s.io"));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE, A_PG, B_WEB, B_PG, C_WEB], &[WORLD]);
}

#[test]
fn does_not_exist_admits_none() {
    let set = with_peer(town(), namespaces("!cluster.clusterset.k8s.io"));
    admits(&set, SUBJECT, "TCP/80", &[], &[A_CACHE, A_PG, B_WEB, C_WEB, WORLD]);
}

#[test]
fn a_key_in_the_pod_selector_qualifies_the_whole_peer() {
    let set = with_peer(town(), pods_in("team=back", "cluster.clusterset.k8s.io=b"));
    admits(&set, SUBJECT, "TCP/80", &[B_PG], &[A_PG, C_PG, B_WEB]);
}

#[test]
fn a_key_in_the_namespace_selector_qualifies_the_whole_peer() {
    let set = with_peer(town(), pods_in("io.cilium.k8s.policy.cluster!=a", "app=pg"));
    admits(&set, SUBJECT, "TCP/80", &[B_PG, C_PG], &[A_PG, B_WEB]);
}

#[test]
fn a_qualified_pod_selector_alone_means_the_namespace_of_that_name_in_the_clusters_it_names() {
    let set = with_peer(town(), pods("cluster.clusterset.k8s.io=b"));
    admits(&set, SUBJECT, "TCP/80", &[B_WEB, B_CACHE], &[B_PG, A_CACHE, C_WEB]);
}

#[test]
fn a_qualified_peer_does_not_depend_on_the_default_scope() {
    for scope in [Scope::Local, Scope::ClusterSet] {
        let set = with_peer(town().scope(scope), namespaces("cluster.clusterset.k8s.io=b"));
        admits(&set, SUBJECT, "TCP/80", &[B_WEB, B_PG], &[A_CACHE, C_WEB]);
    }
}

#[test]
fn a_qualified_peer_qualifies_only_itself() {
    let set = town().with(
        web_policy()
            .ingress([rule().peer(pods_in("team=back", "cluster.clusterset.k8s.io=b")).peer(pods("app=cache"))]),
    );
    admits(&set, SUBJECT, "TCP/80", &[B_PG, A_CACHE], &[B_CACHE, C_CACHE, A_PG]);
}

#[test]
fn both_keys_of_one_peer_must_hold() {
    let peer = namespaces("cluster.clusterset.k8s.io in (b, c), io.cilium.k8s.policy.cluster!=b");
    admits(&with_peer(town(), peer), SUBJECT, "TCP/80", &[C_WEB], &[A_CACHE, B_WEB]);
}

#[test]
fn qualified_peers_hold_for_egress_too() {
    let set = town().with(web_policy().egress([rule().peer(namespaces("cluster.clusterset.k8s.io=c"))]));
    reaches(&set, SUBJECT, "UDP/53", &[C_WEB, C_PG], &[A_PG, B_PG, WORLD]);
}

/// In `Explicit` mode a/shop, b/shop and c/db carry the label, the others do not.
fn explicit() -> ClusterSetBuilder {
    town()
        .explicit()
        .with(namespace("a/shop").labels("cluster.clusterset.k8s.io=a"))
        .with(namespace("b/shop").labels("cluster.clusterset.k8s.io=b"))
        .with(namespace("c/db").labels("cluster.clusterset.k8s.io=c"))
}

#[test]
fn explicit_the_label_exists_only_where_the_namespace_object_carries_it() {
    let set = with_peer(explicit(), namespaces("cluster.clusterset.k8s.io in (b, c)"));
    admits(&set, SUBJECT, "TCP/80", &[B_WEB, B_CACHE, C_PG], &[B_PG, C_WEB, A_CACHE]);
    let set = with_peer(explicit(), namespaces("cluster.clusterset.k8s.io"));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE, B_WEB, C_PG], &[A_PG, B_PG, C_WEB]);
}

#[test]
fn explicit_the_pods_of_a_labelled_namespace_carry_it_too() {
    let set = with_peer(explicit(), pods_in("", "cluster.clusterset.k8s.io in (b, c)"));
    admits(&set, SUBJECT, "TCP/80", &[B_WEB, B_CACHE, C_PG], &[B_PG, C_WEB]);
}

#[test]
fn explicit_the_alias_follows_the_key() {
    for peer in [namespaces("io.cilium.k8s.policy.cluster=b"), pods_in("", "io.cilium.k8s.policy.cluster=b")] {
        admits(&with_peer(explicit(), peer), SUBJECT, "TCP/80", &[B_WEB], &[B_PG, C_PG]);
    }
}

#[test]
fn explicit_the_alias_alone_on_a_namespace_is_no_label() {
    let set = explicit().with(namespace("b/shop").labels("io.cilium.k8s.policy.cluster=b"));
    for key in ["cluster.clusterset.k8s.io", "io.cilium.k8s.policy.cluster"] {
        admits(&with_peer(set.clone(), namespaces(&format!("{key}=b"))), SUBJECT, "TCP/80", &[], &[B_WEB]);
    }
}

#[test]
fn explicit_another_clusters_id_on_a_namespace_is_no_label() {
    let set = explicit().with(namespace("b/shop").labels("cluster.clusterset.k8s.io=c"));
    for peer in ["cluster.clusterset.k8s.io=c", "cluster.clusterset.k8s.io=b", "cluster.clusterset.k8s.io"] {
        admits(&with_peer(set.clone(), namespaces(peer)), SUBJECT, "TCP/80", &[], &[B_WEB]);
    }
}

#[test]
fn explicit_a_pods_own_label_is_no_label() {
    let set = explicit().with(same_pod("b/db/pg", "cluster.clusterset.k8s.io=b", B_PG)).with(same_pod(
        "a/db/pg",
        "cluster.clusterset.k8s.io=a",
        A_PG,
    ));
    let set = with_peer(set, pods_in("", "cluster.clusterset.k8s.io in (a, b)"));
    admits(&set, SUBJECT, "TCP/80", &[B_WEB, A_CACHE], &[B_PG, A_PG]);
}

#[test]
fn explicit_an_unlabelled_local_namespace_is_judged_as_a_missing_key() {
    let key = "cluster.clusterset.k8s.io";
    for peer in [namespaces(&format!("{key}!=b")), namespaces(&format!("!{key}")), pods_in("", &format!("!{key}"))] {
        admits(&with_peer(explicit(), peer), SUBJECT, "TCP/80", &[A_PG], &[]);
    }
    for peer in [namespaces(&format!("{key}=a")), namespaces(key), pods_in("", key)] {
        admits(&with_peer(explicit(), peer), SUBJECT, "TCP/80", &[], &[A_PG]);
    }
}

#[test]
fn explicit_an_unlabelled_remote_namespace_gains_nothing_by_not_in() {
    let key = "cluster.clusterset.k8s.io";
    for peer in [format!("{key}!=a"), format!("{key} notin (c)"), format!("!{key}"), format!("{key}!=elsewhere")] {
        for peer in [namespaces(&peer), pods_in("", &peer), pods_in(&peer, "app")] {
            admits(&with_peer(explicit(), peer), SUBJECT, "TCP/80", &[], &[B_PG, C_WEB]);
        }
    }
}

#[test]
fn explicit_unqualified_peers_need_no_label() {
    let set = with_peer(explicit().scope(Scope::ClusterSet), namespaces(""));
    admits(&set, SUBJECT, "TCP/80", &[A_PG, B_PG, C_WEB], &[WORLD]);
}
