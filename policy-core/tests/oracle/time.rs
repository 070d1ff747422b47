//! §9: what is not known yet, what is gone, and who has an address that several claim.

use policy_core::model::Scope;
use policy_core::oracle::Reason;
use policy_core::testing::build::ClusterSetBuilder;
use policy_core::testing::{abc, block, cluster_set, namespaces, pod, pods, pods_in, policy, rule, unreadable};

use super::*;

/// The cast without one namespace object.
fn town_without(namespace_key: &str) -> ClusterSetBuilder {
    town().with(namespace(namespace_key).deleted())
}

#[test]
fn a_namespace_selector_does_not_match_a_pod_whose_namespace_is_not_known() {
    for peer in [namespaces(""), namespaces("!team"), pods_in("", "app=pg"), namespaces("team notin (x)")] {
        let set = town_without("a/db").with(web_policy().ingress([rule().peer(peer)]));
        admits(&set, SUBJECT, "TCP/80", &[], &[A_PG]);
    }
}

#[test]
fn not_even_the_name_of_an_unknown_namespace_is_a_label() {
    let peer = namespaces("kubernetes.io/metadata.name=db");
    let set = town_without("a/db").with(web_policy().ingress([rule().peer(peer)]));
    admits(&set, SUBJECT, "TCP/80", &[], &[A_PG]);
}

#[test]
fn a_pod_selector_alone_matches_in_a_namespace_whose_object_is_not_known() {
    let set = town_without("a/shop").with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[A_PG]);
    let set =
        town_without("b/shop").scope(Scope::ClusterSet).with(web_policy().ingress([rule().peer(pods("app=web"))]));
    admits(&set, SUBJECT, "TCP/80", &[B_WEB], &[B_CACHE]);
}

#[test]
fn a_pod_is_a_subject_before_its_namespace_is_known() {
    let set = town_without("a/shop").with(web_policy().ingress([rule().peer(namespaces("team=back"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_PG], &[A_CACHE, WORLD]);
}

#[test]
fn a_namespace_that_becomes_known_is_judged_by_its_labels() {
    let set = town_without("a/db").with(web_policy().ingress([rule().peer(namespaces("team=new"))]));
    admits(&set, SUBJECT, "TCP/80", &[], &[A_PG]);
    admits(&set.with(namespace("a/db").labels("team=new")), SUBJECT, "TCP/80", &[A_PG], &[]);
}

#[test]
fn implicit_a_pods_cluster_is_known_before_its_namespace_is() {
    let peer = || pods("cluster.clusterset.k8s.io=b");
    let set = town_without("b/shop").with(web_policy().ingress([rule().peer(peer())]));
    admits(&set, SUBJECT, "TCP/80", &[B_WEB], &[]);
}

#[test]
fn explicit_a_qualified_peer_does_not_match_a_pod_whose_namespace_is_not_known() {
    let key = "cluster.clusterset.k8s.io";
    for selector in [format!("{key}=a"), key.to_owned(), format!("!{key}"), format!("{key}!=b")] {
        let set = town_without("a/shop").explicit().with(web_policy().ingress([rule().peer(pods(&selector))]));
        admits(&set, SUBJECT, "TCP/80", &[], &[A_CACHE]);
    }
}

#[test]
fn explicit_a_subject_that_cannot_be_known_is_isolated_and_allowed_nothing() {
    let set = town_without("a/shop")
        .explicit()
        .with(policy("a/shop/web").select("app=web, cluster.clusterset.k8s.io=a").ingress([rule()]))
        .with(policy("a/shop/other").select("app=cache, cluster.clusterset.k8s.io=a").no_ingress());
    let expected =
        End { verdict: Verdict::Deny, reason: Reason::NoRule, isolated_by: policies(&["web"]), allowed_by: Vec::new() };
    assert_eq!(judge(&set, SUBJECT, Direction::Ingress, A_CACHE, "TCP/80"), expected);
}

#[test]
fn the_address_of_a_finished_pod_loses_its_labels_at_once() {
    let set = town().with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[]);
    let finished = same_pod("a/shop/cache", "app=cache", A_CACHE).finished();
    admits(&set.with(finished), SUBJECT, "TCP/80", &[], &[A_CACHE]);
}

#[test]
fn a_finished_pod_is_nobodys_subject() {
    let set = town().with(web_policy().no_ingress()).with(same_pod(SUBJECT, "app=web", A_WEB).finished());
    admits(&set, SUBJECT, "TCP/80", &[WORLD], &[]);
}

#[test]
fn the_address_of_a_deleted_pod_loses_its_labels_at_once() {
    let set = town().with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set.with(pod("a/shop/cache").deleted()), SUBJECT, "TCP/80", &[], &[A_CACHE]);
}

#[test]
fn an_address_that_lost_its_labels_is_still_matched_by_blocks_and_rules_without_peers() {
    for rules in [[rule()], [rule().peer(block("10.1.0.0/24", ""))]] {
        let set = town().with(web_policy().ingress(rules)).with(pod("a/shop/cache").deleted());
        admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[]);
    }
}

#[test]
fn a_late_delete_does_not_remove_the_address_s_new_owner() {
    let set = town()
        .with(web_policy().ingress([rule().peer(pods("app=cache"))]))
        .with(same_pod("a/shop/cache", "app=cache", A_CACHE).uid("second"))
        .with(pod("a/shop/cache").deleted());
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[]);
}

#[test]
fn an_address_taken_over_has_the_labels_of_its_new_owner() {
    let set = town()
        .with(web_policy().ingress([rule().peer(pods("app=cache"))]))
        .with(pod("a/shop/cache").deleted())
        .with(same_pod("a/shop/new", "app=other", A_CACHE));
    admits(&set, SUBJECT, "TCP/80", &[], &[A_CACHE]);
}

#[test]
fn a_terminating_pod_is_enforced_as_before() {
    let set = town()
        .with(same_pod("a/shop/cache", "app=cache", A_CACHE).terminating())
        .with(same_pod(SUBJECT, "app=web", A_WEB).terminating())
        .with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[A_PG]);
}

#[test]
fn the_addresses_of_a_cluster_that_leaves_are_gone() {
    let set = town().with(web_policy().ingress([rule().peer(namespaces("cluster.clusterset.k8s.io!=a"))]));
    admits(&set, SUBJECT, "TCP/80", &[B_WEB, C_WEB], &[]);
    let without_b = cluster_set("a").member("a", "10.1.0.0/16").member("c", "10.3.0.0/16");
    let left = World::from_events(&set.with(without_b).events());
    assert!(left.pods.keys().all(|key| key.cluster.as_str() != "b"), "{left}");
    let probe = connection(B_WEB, A_WEB, "TCP/80");
    let end = Oracle::new(&left).judge(&pod(SUBJECT).build().key, Direction::Ingress, &probe);
    assert_eq!(end.verdict, Verdict::Deny, "{left}");
}

/// Members whose ranges are all the same, pods `web` that anybody may be, and a policy that admits app=good.
fn shared_ranges() -> ClusterSetBuilder {
    abc()
        .member("a", "10.0.0.0/8")
        .member("b", "10.0.0.0/8")
        .member("c", "10.0.0.0/8")
        .scope(Scope::ClusterSet)
        .with(pod(SUBJECT).labels("app=web").ip(A_WEB))
        .with(pod("b/shop/web").labels("app=web").ip(B_WEB))
        .with(policy("a/shop/web").select("app=web").ingress([rule().peer(pods("app=good"))]))
        .with(policy("b/shop/web").select("app=web").ingress([rule().peer(pods("app=good"))]))
}

const TWICE: &str = "10.7.0.7";

fn good(key: &str) -> PodBuilder {
    pod(key).labels("app=good").ip(TWICE)
}

fn bad(key: &str) -> PodBuilder {
    pod(key).labels("app=bad").ip(TWICE)
}

#[test]
fn the_local_cluster_wins_an_address_over_remote_ones() {
    let set = shared_ranges().with(good("a/shop/x").terminating().created_s(1)).with(bad("b/shop/x").created_s(9));
    admits(&set, SUBJECT, "TCP/80", &[TWICE], &[]);
    let set = shared_ranges().with(bad("a/shop/x").terminating().created_s(1)).with(good("b/shop/x").created_s(9));
    admits(&set, SUBJECT, "TCP/80", &[], &[TWICE]);
}

#[test]
fn each_cluster_is_local_to_itself_when_an_address_is_claimed_twice() {
    let set = shared_ranges().with(good("a/shop/x")).with(bad("b/shop/x"));
    admits(&set, "a/shop/web", "TCP/80", &[TWICE], &[]);
    admits(&set, "b/shop/web", "TCP/80", &[], &[TWICE]);
}

#[test]
fn between_remote_clusters_neither_wins_an_address() {
    let set = shared_ranges().with(good("b/shop/x").created_s(9)).with(good("c/shop/x").terminating().created_s(1));
    admits(&set, SUBJECT, "TCP/80", &[], &[TWICE]);
}

#[test]
fn an_address_that_two_clusters_claim_is_still_matched_by_blocks() {
    let set = shared_ranges()
        .with(good("b/shop/x"))
        .with(good("c/shop/x"))
        .with(policy("a/shop/web").ingress([rule().peer(block("10.7.0.0/16", ""))]));
    admits(&set, SUBJECT, "TCP/80", &[TWICE], &[]);
}

#[test]
fn of_two_pods_of_a_cluster_one_that_is_not_terminating_wins() {
    for cluster in ["a", "b"] {
        let (x, y) = (format!("{cluster}/shop/x"), format!("{cluster}/shop/y"));
        let set = shared_ranges().with(good(&x).created_s(1)).with(bad(&y).terminating().created_s(9));
        admits(&set, SUBJECT, "TCP/80", &[TWICE], &[]);
        let set = shared_ranges().with(bad(&x).created_s(1)).with(good(&y).terminating().created_s(9));
        admits(&set, SUBJECT, "TCP/80", &[], &[TWICE]);
    }
}

#[test]
fn of_two_pods_of_a_cluster_the_one_made_later_wins() {
    for cluster in ["a", "b"] {
        let (x, y) = (format!("{cluster}/shop/x"), format!("{cluster}/shop/y"));
        let set = shared_ranges().with(good(&x).created_s(2)).with(bad(&y).created_s(1));
        admits(&set, SUBJECT, "TCP/80", &[TWICE], &[]);
        let set = shared_ranges().with(good(&x).created_s(1)).with(bad(&y).created_s(2));
        admits(&set, SUBJECT, "TCP/80", &[], &[TWICE]);
    }
}

#[test]
fn a_nanosecond_is_later() {
    let set = shared_ranges().with(good("b/shop/x").created(1, 5)).with(bad("b/shop/y").created(1, 4));
    admits(&set, SUBJECT, "TCP/80", &[TWICE], &[]);
    let set = shared_ranges().with(good("b/shop/x").created(1, 999_999_999)).with(bad("b/shop/y").created(2, 0));
    admits(&set, SUBJECT, "TCP/80", &[], &[TWICE]);
}

#[test]
fn of_two_terminating_pods_of_a_cluster_the_one_made_later_wins() {
    let set = shared_ranges()
        .with(good("b/shop/x").terminating().created_s(2))
        .with(bad("b/shop/y").terminating().created_s(1));
    admits(&set, SUBJECT, "TCP/80", &[TWICE], &[]);
}

#[test]
fn of_two_pods_made_at_the_same_time_neither_owns_the_address() {
    let set = shared_ranges().with(good("b/shop/x").created_s(1)).with(good("b/shop/y").created_s(1));
    admits(&set, SUBJECT, "TCP/80", &[], &[TWICE]);
}

#[test]
fn of_two_pods_that_do_not_both_say_when_they_were_made_neither_owns_the_address() {
    let set = shared_ranges().with(good("b/shop/x").created_s(1)).with(good("b/shop/y"));
    admits(&set, SUBJECT, "TCP/80", &[], &[TWICE]);
    let set = shared_ranges().with(good("b/shop/x")).with(good("b/shop/y"));
    admits(&set, SUBJECT, "TCP/80", &[], &[TWICE]);
}

#[test]
fn of_three_pods_the_latest_must_be_alone() {
    let set = shared_ranges().with(bad("b/shop/x").created_s(1)).with(bad("b/shop/y").created_s(1));
    admits(&set.clone().with(good("b/shop/z").created_s(2)), SUBJECT, "TCP/80", &[TWICE], &[]);
    let two_latest = set.with(good("b/shop/z").created_s(2)).with(good("b/shop/w").created_s(2));
    admits(&two_latest, SUBJECT, "TCP/80", &[], &[TWICE]);
}

#[test]
fn pods_that_lose_their_address_stay_subjects() {
    let twin = pod("a/shop/twin").labels("app=web").ip(A_WEB);
    for set in [shared_ranges().with(twin.clone()), shared_ranges().with(twin.created_s(1))] {
        let set = set.with(pod("a/shop/peer").labels("app=good").ip("10.1.0.9"));
        admits(&set, "a/shop/web", "TCP/80", &["10.1.0.9"], &[WORLD]);
        admits(&set, "a/shop/twin", "TCP/80", &["10.1.0.9"], &[WORLD]);
    }
}

#[test]
fn a_subject_that_lost_its_address_still_has_its_named_ports() {
    let set = shared_ranges()
        .with(pod("a/shop/web").labels("app=web").ip(A_WEB).port("http", 8080))
        .with(pod("a/shop/twin").labels("app=web").ip(A_WEB).port("http", 80))
        .with(policy("a/shop/web").ingress([rule().ports("TCP/http")]));
    admits(&set, "a/shop/web", "TCP/8080", &[WORLD], &[]);
    admits(&set, "a/shop/web", "TCP/80", &[], &[WORLD]);
    admits(&set, "a/shop/twin", "TCP/80", &[WORLD], &[]);
}

#[test]
fn an_address_is_claimed_for_itself_not_with_the_pods_other_one() {
    let set = shared_ranges()
        .member("b", "10.0.0.0/8 fd00:2::/48")
        .with(pod(SUBJECT).labels("app=web").ip(A_WEB).ip("fd00:1::1"))
        .with(good("b/shop/x").ip("fd00:2::7"))
        .with(good("c/shop/x"));
    admits(&set, SUBJECT, "TCP/80", &["fd00:2::7"], &[TWICE]);
}

#[test]
fn finished_and_host_network_pods_claim_nothing() {
    let set = shared_ranges()
        .with(good("b/shop/x"))
        .with(bad("a/shop/done").finished())
        .with(bad("c/shop/host").host_network());
    admits(&set, SUBJECT, "TCP/80", &[TWICE], &[]);
}

#[test]
fn an_address_outside_the_pod_cidrs_of_its_cluster_is_no_peer() {
    let stray = |key, address| pod(key).labels("app=cache").ip(address);
    let set = town()
        .scope(Scope::ClusterSet)
        .with(stray("b/shop/stray", "10.9.0.1"))
        .with(stray("a/shop/stray", "10.9.0.2"))
        .with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE, B_CACHE], &["10.9.0.1", "10.9.0.2"]);
}

#[test]
fn an_address_outside_the_pod_cidrs_is_still_matched_by_blocks() {
    let set = town()
        .with(pod("b/shop/stray").ip("10.9.0.1"))
        .with(web_policy().ingress([rule().peer(block("10.9.0.0/24", ""))]));
    admits(&set, SUBJECT, "TCP/80", &["10.9.0.1"], &[]);
}

#[test]
fn a_local_pod_outside_the_pod_cidrs_stays_a_subject() {
    let set = town()
        .with(pod("a/shop/stray").labels("app=web").ip("10.9.0.1"))
        .with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set, "a/shop/stray", "TCP/80", &[A_CACHE], &[A_PG, WORLD]);
}

#[test]
fn a_claim_outside_the_pod_cidrs_does_not_contest_a_valid_one() {
    let set = town()
        .scope(Scope::ClusterSet)
        .with(pod("c/shop/thief").labels("app=bad").ip(B_CACHE))
        .with(pod("a/shop/thief").labels("app=bad").ip(B_CACHE))
        .with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "TCP/80", &[B_CACHE], &[]);
}

#[test]
fn members_may_share_ranges() {
    let set = shared_ranges().with(good("b/shop/x")).with(pod("c/shop/y").labels("app=good").ip("10.7.0.8"));
    admits(&set, SUBJECT, "TCP/80", &[TWICE, "10.7.0.8"], &[]);
}

#[test]
fn a_member_without_pod_cidrs_may_claim_what_lies_in_nobody_elses() {
    let set = town()
        .member("b", "")
        .scope(Scope::ClusterSet)
        .with(pod("b/shop/free").labels("app=cache").ip("10.77.0.1"))
        .with(pod("b/shop/thief").labels("app=cache").ip("10.3.0.77"))
        .with(pod("c/shop/stray").labels("app=cache").ip("10.77.0.2"))
        .with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "TCP/80", &["10.77.0.1", B_CACHE], &["10.3.0.77", "10.77.0.2"]);
}

#[test]
fn a_local_cluster_without_pod_cidrs_is_no_exception() {
    let set = town()
        .member("a", "")
        .with(pod("a/shop/thief").labels("app=cache").ip("10.3.0.77"))
        .with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &["10.3.0.77"]);
}

#[test]
fn pod_cidrs_of_one_family_hold_no_address_of_the_other() {
    let set = town().member("a", "10.1.0.0/16").with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &["fd00:1::2"]);
}

#[test]
fn a_rule_that_cannot_be_read_allows_nothing_and_its_policy_still_isolates() {
    let set = town().with(web_policy().ingress([unreadable()]));
    admits(&set, SUBJECT, "TCP/80", &[], &[A_CACHE, WORLD]);
}

#[test]
fn the_other_rules_of_a_policy_with_an_unreadable_one_stand() {
    let set = town()
        .with(web_policy().ingress([unreadable(), rule().peer(pods("app=cache")).into()]))
        .with(policy("a/shop/other").ingress([rule().peer(namespaces("team=back"))]));
    let end = judge(&set, SUBJECT, Direction::Ingress, A_CACHE, "TCP/80");
    assert_eq!(end.allowed_by, policies(&["web"]).into_iter().zip([1]).collect::<Vec<_>>());
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE, A_PG], &[WORLD]);
}
