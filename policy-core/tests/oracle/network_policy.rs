//! §3 and §6: isolation, union, peers, ports, blocks, the node and the pod itself.

use policy_core::model::{Protocol, Scope, Transport};
use policy_core::oracle::Reason;
use policy_core::testing::{block, namespace, namespaces, node, pod, pods, pods_in, policy, rule};

use super::*;

#[test]
fn a_pod_that_no_policy_selects_is_not_isolated() {
    let expected =
        End { verdict: Verdict::Allow, reason: Reason::NotIsolated, isolated_by: Vec::new(), allowed_by: Vec::new() };
    let set =
        town().with(policy("a/db/other").no_ingress()).with(policy("a/shop/cache").select("app=cache").no_ingress());
    assert_eq!(judge(&set, SUBJECT, Direction::Ingress, WORLD, "TCP/80"), expected);
    assert_eq!(judge(&set, SUBJECT, Direction::Egress, WORLD, "ICMP"), expected);
}

#[test]
fn the_union_of_all_policies_that_select_a_pod_counts() {
    let set = town()
        .with(policy("a/shop/one").ingress([rule().ports("UDP"), rule().peer(pods("")).ports("TCP/80")]))
        .with(policy("a/shop/three").select("app=cache").ingress([rule()]))
        .with(policy("a/shop/two").ingress([rule().peer(pods("app=cache"))]))
        .with(policy("a/shop/void").no_ingress());
    let expected = End {
        verdict: Verdict::Allow,
        reason: Reason::Rule,
        isolated_by: policies(&["one", "two", "void"]),
        allowed_by: policies(&["one", "two"]).into_iter().zip([1, 0]).collect(),
    };
    assert_eq!(judge(&set, SUBJECT, Direction::Ingress, A_CACHE, "TCP/80"), expected);
}

#[test]
fn a_connection_that_no_rule_allows_is_denied_by_no_rule() {
    let set = town().with(policy("a/shop/one").ingress([rule().peer(pods("app=cache"))]));
    let expected =
        End { verdict: Verdict::Deny, reason: Reason::NoRule, isolated_by: policies(&["one"]), allowed_by: Vec::new() };
    assert_eq!(judge(&set, SUBJECT, Direction::Ingress, WORLD, "TCP/80"), expected);
}

#[test]
fn each_cluster_decides_its_own_end() {
    let set = town()
        .with(web_policy().egress([rule().peer(namespaces("cluster.clusterset.k8s.io=b"))]))
        .with(policy("b/db/closed").no_ingress());
    reaches(&set, SUBJECT, "TCP/5432", &[B_PG], &[]);
    admits(&set, "b/db/pg", "TCP/5432", &[], &[A_WEB]);
}

#[test]
fn an_empty_subject_is_every_pod_of_the_policys_namespace() {
    let set = town().with(policy("a/shop/all").no_ingress());
    admits(&set, "a/shop/web", "TCP/80", &[], &[A_CACHE]);
    admits(&set, "a/shop/cache", "TCP/80", &[], &[A_WEB]);
    admits(&set, "a/db/pg", "TCP/80", &[A_WEB], &[]);
}

#[test]
fn a_policy_isolates_only_the_directions_it_has() {
    let set = town().with(web_policy().no_ingress());
    admits(&set, SUBJECT, "TCP/80", &[], &[A_CACHE]);
    reaches(&set, SUBJECT, "TCP/80", &[A_CACHE, WORLD], &[]);
    let set = town().with(web_policy().no_egress());
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE, WORLD], &[]);
    reaches(&set, SUBJECT, "TCP/80", &[], &[A_CACHE]);
}

#[test]
fn rules_of_one_direction_say_nothing_of_the_other() {
    let set = town().with(web_policy().ingress([rule()]).no_egress());
    admits(&set, SUBJECT, "TCP/80", &[WORLD], &[]);
    reaches(&set, SUBJECT, "TCP/80", &[], &[WORLD, A_CACHE]);
}

#[test]
fn a_rule_without_peers_covers_everybody_also_outside_the_cluster_set() {
    let set = town().with(web_policy().ingress([rule().ports("TCP/80")]));
    admits(&set, SUBJECT, "TCP/80", &[A_PG, B_PG, C_PG, WORLD, "2001:db8::7"], &[]);
}

#[test]
fn a_rule_without_ports_covers_every_protocol_and_port() {
    let set = town().with(web_policy().ingress([rule().peer(pods(""))]));
    for transport in ["TCP/1", "TCP/65535", "UDP/53", "SCTP/80", "ICMP", "IP/47"] {
        admits(&set, SUBJECT, transport, &[A_CACHE], &[WORLD]);
    }
}

#[test]
fn a_namespace_selector_alone_covers_all_pods_of_those_namespaces() {
    let set = town().with(web_policy().ingress([rule().peer(namespaces("team=front"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[A_PG]);
}

#[test]
fn both_selectors_of_one_peer_must_hold() {
    let set = town()
        .with(same_pod("a/db/web", "app=web", "10.1.0.4"))
        .with(web_policy().ingress([rule().peer(pods_in("team=back", "app=web"))]));
    admits(&set, SUBJECT, "TCP/80", &["10.1.0.4"], &[A_PG, A_CACHE]);
}

#[test]
fn two_peers_of_one_rule_are_alternatives() {
    let set = town().with(web_policy().ingress([rule().peer(namespaces("team=back")).peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_PG, A_CACHE], &[WORLD, B_PG]);
}

#[test]
fn the_empty_namespace_selector_selects_all_namespaces_and_no_other_address() {
    let set = town().with(web_policy().ingress([rule().peer(namespaces(""))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE, A_PG], &["10.1.0.77", WORLD]);
}

#[test]
fn the_empty_pod_selector_selects_all_pods_and_an_absent_one_does_too_where_namespaces_are_selected() {
    for peer in [pods_in("team=back", ""), namespaces("team=back")] {
        let set = town().with(web_policy().ingress([rule().peer(peer)]));
        admits(&set, SUBJECT, "TCP/80", &[A_PG], &[A_CACHE]);
    }
}

#[test]
fn an_empty_namespace_selector_is_not_an_absent_one() {
    let set = town().with(web_policy().ingress([rule().peer(pods_in("", "app"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE, A_PG], &[]);
    let set = town().with(web_policy().ingress([rule().peer(pods("app"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[A_PG]);
}

#[test]
fn selectors_read_labels_as_kubernetes_does() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("app in (cache, web)", &["10.1.0.2"], &["10.1.0.4"]),
        ("app notin (cache)", &["10.1.0.4"], &["10.1.0.2"]),
        ("app", &["10.1.0.2"], &["10.1.0.4"]),
        ("!app", &["10.1.0.4"], &["10.1.0.2"]),
        ("tier=", &["10.1.0.4"], &["10.1.0.2"]),
        ("app=cache, tier", &[], &["10.1.0.2", "10.1.0.4"]),
        ("app=cache, app!=web", &["10.1.0.2"], &["10.1.0.4"]),
    ];
    for (selector, these, not_those) in cases {
        let set = town()
            .with(same_pod("a/shop/bare", "tier=", "10.1.0.4"))
            .with(web_policy().ingress([rule().peer(pods(selector))]));
        admits(&set, SUBJECT, "TCP/80", these, not_those);
    }
}

#[test]
fn a_port_covers_its_number_and_its_protocol_only() {
    for (port, others) in
        [("TCP/80", ["UDP/80", "SCTP/80"]), ("UDP/80", ["TCP/80", "SCTP/80"]), ("SCTP/80", ["TCP/80", "UDP/80"])]
    {
        let set = town().with(web_policy().ingress([rule().ports(port)]));
        admits(&set, SUBJECT, port, &[A_CACHE], &[]);
        let number_off = port.replace("80", "81");
        for other in others.iter().copied().chain([number_off.as_str(), "ICMP", "IP/47"]) {
            admits(&set, SUBJECT, other, &[], &[A_CACHE]);
        }
    }
}

#[test]
fn a_protocol_without_port_covers_all_its_ports() {
    let set = town().with(web_policy().ingress([rule().ports("UDP")]));
    for transport in ["UDP/1", "UDP/53", "UDP/65535"] {
        admits(&set, SUBJECT, transport, &[A_CACHE], &[]);
    }
    for transport in ["TCP/53", "SCTP/53", "ICMP", "IP/47"] {
        admits(&set, SUBJECT, transport, &[], &[A_CACHE]);
    }
}

#[test]
fn both_ends_of_a_range_are_in_it() {
    let set = town().with(web_policy().ingress([rule().ports("TCP/8000-8080 UDP/1-1 UDP/65535")]));
    for transport in ["TCP/8000", "TCP/8042", "TCP/8080", "UDP/1", "UDP/65535"] {
        admits(&set, SUBJECT, transport, &[A_CACHE], &[]);
    }
    for transport in ["TCP/7999", "TCP/8081", "UDP/2", "UDP/65534", "UDP/8000"] {
        admits(&set, SUBJECT, transport, &[], &[A_CACHE]);
    }
}

#[test]
fn the_port_is_the_destinations_in_both_directions() {
    let set = town().with(web_policy().ingress([rule().ports("TCP/80")]).egress([rule().ports("TCP/443")]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[]);
    admits(&set, SUBJECT, "TCP/443", &[], &[A_CACHE]);
    reaches(&set, SUBJECT, "TCP/443", &[A_CACHE], &[]);
    reaches(&set, SUBJECT, "TCP/80", &[], &[A_CACHE]);
}

#[test]
fn icmp_and_other_protocols_pass_by_rules_without_ports_only() {
    for ports in ["TCP", "UDP", "SCTP", "TCP/0-65535 UDP/0-65535 SCTP/0-65535"] {
        let set = town().with(web_policy().ingress([rule().ports(ports)]));
        for transport in ["ICMP", "IP/47", "IP/4"] {
            admits(&set, SUBJECT, transport, &[], &[A_CACHE, "fd00:1::2"]);
        }
    }
    let set = town().with(web_policy().ingress([rule().ports("TCP/80"), rule().peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "ICMP", &[A_CACHE, "fd00:1::2"], &[A_PG]);
}

#[test]
fn ingress_resolves_a_named_port_on_the_subject() {
    let set = town()
        .with(same_pod(SUBJECT, "app=web", A_WEB).port("http", 8080))
        .with(same_pod("a/shop/cache", "app=cache", A_CACHE).port("http", 80))
        .with(web_policy().ingress([rule().ports("TCP/http")]));
    admits(&set, SUBJECT, "TCP/8080", &[A_CACHE, B_WEB, WORLD], &[]);
    admits(&set, SUBJECT, "TCP/80", &[], &[A_CACHE, WORLD]);
}

#[test]
fn a_named_port_is_resolved_for_each_subject() {
    let set = town()
        .with(same_pod(SUBJECT, "app=web", A_WEB).port("http", 8080))
        .with(same_pod("a/shop/cache", "app=cache", A_CACHE).port("http", 80))
        .with(policy("a/shop/all").ingress([rule().ports("TCP/http")]));
    admits(&set, "a/shop/web", "TCP/8080", &[WORLD], &[]);
    admits(&set, "a/shop/web", "TCP/80", &[], &[WORLD]);
    admits(&set, "a/shop/cache", "TCP/80", &[WORLD], &[]);
    admits(&set, "a/shop/cache", "TCP/8080", &[], &[WORLD]);
}

#[test]
fn egress_resolves_a_named_port_on_each_peer_remote_ones_too() {
    let set = town()
        .scope(Scope::ClusterSet)
        .with(same_pod(SUBJECT, "app=web", A_WEB).port("http", 1111))
        .with(same_pod("a/shop/cache", "app=cache", A_CACHE).port("http", 8080))
        .with(same_pod("b/shop/cache", "app=cache", B_CACHE).port("http", 80))
        .with(web_policy().egress([rule().peer(pods("app=cache")).ports("TCP/http")]));
    reaches(&set, SUBJECT, "TCP/8080", &[A_CACHE], &[B_CACHE, C_CACHE]);
    reaches(&set, SUBJECT, "TCP/80", &[B_CACHE], &[A_CACHE, C_CACHE]);
    reaches(&set, SUBJECT, "TCP/1111", &[], &[A_CACHE, B_CACHE]);
}

#[test]
fn egress_resolves_a_named_port_under_rules_without_peers_in_every_cluster() {
    let set = town()
        .with(same_pod("a/shop/cache", "app=cache", A_CACHE).port("http", 8080))
        .with(same_pod("b/db/pg", "app=pg", B_PG).port("http", 81))
        .with(web_policy().egress([rule().ports("TCP/http")]));
    reaches(&set, SUBJECT, "TCP/8080", &[A_CACHE], &[B_PG, A_PG, WORLD]);
    reaches(&set, SUBJECT, "TCP/81", &[B_PG], &[A_CACHE, A_PG, WORLD]);
}

#[test]
fn a_name_means_another_port_in_each_protocol() {
    let dns = same_pod(SUBJECT, "app=web", A_WEB).protocol_port("UDP", "dns", 53).protocol_port("TCP", "dns", 5353);
    let set = town().with(dns).with(web_policy().ingress([rule().ports("UDP/dns")]));
    admits(&set, SUBJECT, "UDP/53", &[WORLD], &[]);
    for transport in ["TCP/5353", "UDP/5353", "TCP/53"] {
        admits(&set, SUBJECT, transport, &[], &[WORLD]);
    }
}

#[test]
fn the_first_port_of_a_name_and_protocol_counts() {
    let pod = same_pod(SUBJECT, "app=web", A_WEB).protocol_port("UDP", "http", 1).port("http", 8080).port("http", 80);
    let set = town().with(pod).with(web_policy().ingress([rule().ports("TCP/http")]));
    admits(&set, SUBJECT, "TCP/8080", &[WORLD], &[]);
    admits(&set, SUBJECT, "TCP/80", &[], &[WORLD]);
    admits(&set, SUBJECT, "UDP/1", &[], &[WORLD]);
}

#[test]
fn a_name_that_the_destination_does_not_declare_matches_no_port() {
    let set = town().with(web_policy().ingress([rule().ports("TCP/http")]).egress([rule().ports("TCP/http")]));
    admits(&set, SUBJECT, "TCP/80", &[], &[A_CACHE]);
    reaches(&set, SUBJECT, "TCP/80", &[], &[A_CACHE, WORLD]);
}

#[test]
fn a_destination_that_is_no_workload_matches_no_named_port() {
    let set = town()
        .with(pod("a/shop/host").ip("192.168.0.1").host_network().port("http", 80))
        .with(pod("a/shop/done").ip("10.1.0.4").finished().port("http", 80))
        .with(pod("b/shop/twice").ip("10.2.0.4").port("http", 80))
        .with(pod("b/shop/again").ip("10.2.0.4").port("http", 80))
        .with(pod("b/shop/stray").ip("10.9.0.4").port("http", 80))
        .with(web_policy().egress([rule().ports("TCP/http"), rule().peer(block("0.0.0.0/0", "")).ports("TCP/http")]));
    reaches(&set, SUBJECT, "TCP/80", &[], &["192.168.0.1", "10.1.0.4", "10.2.0.4", "10.9.0.4", WORLD]);
}

#[test]
fn named_and_numbered_ports_of_one_rule_are_alternatives() {
    let set = town()
        .with(same_pod(SUBJECT, "app=web", A_WEB).port("http", 8080))
        .with(web_policy().ingress([rule().ports("TCP/http TCP/443 UDP/53-60")]));
    for transport in ["TCP/8080", "TCP/443", "UDP/53", "UDP/60"] {
        admits(&set, SUBJECT, transport, &[WORLD], &[]);
    }
}

#[test]
fn peers_and_ports_of_one_rule_must_both_hold() {
    let rules = [rule().peer(pods("app=cache")).ports("TCP/80"), rule().peer(namespaces("team=back")).ports("TCP/443")];
    let set = town().with(web_policy().ingress(rules));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[A_PG]);
    admits(&set, SUBJECT, "TCP/443", &[A_PG], &[A_CACHE]);
}

#[test]
fn an_ip_block_matches_pods_wherever_they_are() {
    let set = town().with(web_policy().egress([rule().peer(block("10.0.0.0/8", ""))]));
    reaches(&set, SUBJECT, "TCP/80", &[A_CACHE, A_PG, B_PG, C_WEB, "10.200.0.1"], &[WORLD]);
}

#[test]
fn an_ip_block_ends_at_its_first_and_last_address() {
    let set = town().with(web_policy().ingress([rule().peer(block("10.2.0.4/30", ""))]));
    admits(&set, SUBJECT, "TCP/80", &["10.2.0.4", "10.2.0.7"], &[B_PG, "10.2.0.8"]);
    let set = town().with(web_policy().ingress([rule().peer(block("10.2.0.3/32", ""))]));
    admits(&set, SUBJECT, "TCP/80", &[B_PG], &[B_CACHE, "10.2.0.4"]);
}

#[test]
fn except_takes_addresses_out_of_its_block() {
    let set = town().with(web_policy().ingress([rule().peer(block("10.0.0.0/8", "10.2.0.0/16 10.1.0.2/32"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_PG, C_WEB], &[A_CACHE, B_WEB, "10.2.9.9"]);
}

#[test]
fn except_takes_nothing_out_of_another_peer_or_rule() {
    let holed = || block("10.0.0.0/8", "10.2.0.0/16");
    for other in [block("10.2.0.0/24", ""), namespaces("cluster.clusterset.k8s.io=b")] {
        let set = town().with(web_policy().ingress([rule().peer(holed()).peer(other.clone())]));
        admits(&set, SUBJECT, "TCP/80", &[A_PG, B_WEB], &["10.2.9.9"]);
        let set = town().with(web_policy().ingress([rule().peer(holed()), rule().peer(other)]));
        admits(&set, SUBJECT, "TCP/80", &[A_PG, B_WEB], &["10.2.9.9"]);
    }
}

#[test]
fn ip_blocks_hold_for_ipv6() {
    let set = town().with(web_policy().ingress([rule().peer(block("fd00::/16", "fd00:2::/48"))]));
    admits(&set, SUBJECT, "TCP/80", &["fd00:1::2", "fd00:3::1"], &["fd00:2::1", "2001:db8::7", A_CACHE]);
}

#[test]
fn selectors_cover_a_pods_addresses_of_both_families() {
    let set = town().with(web_policy().ingress([rule().peer(pods("app=cache"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE, "fd00:1::2"], &[A_PG, "fd00:1::3"]);
}

#[test]
fn a_host_network_pod_is_nobodys_subject() {
    let set = town()
        .with(pod("a/shop/host").labels("app=web").ip("192.168.0.1").host_network())
        .with(policy("a/shop/all").no_ingress().no_egress());
    admits(&set, "a/shop/host", "TCP/80", &[A_WEB, WORLD], &[]);
    reaches(&set, "a/shop/host", "TCP/80", &[A_WEB, WORLD], &[]);
}

#[test]
fn a_host_network_pod_matches_no_selector() {
    let set = town()
        .with(pod("a/shop/host").labels("app=cache").ip("10.1.0.4").host_network())
        .with(web_policy().ingress([rule().peer(pods("app=cache")).peer(namespaces(""))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &["10.1.0.4"]);
}

#[test]
fn a_host_network_pods_address_is_matched_by_blocks_and_rules_without_peers() {
    for rules in [[rule()], [rule().peer(block("192.168.0.0/24", ""))]] {
        let host = pod("a/shop/host").ip("192.168.0.1").host_network();
        let set = town().with(host).with(web_policy().ingress(rules));
        admits(&set, SUBJECT, "TCP/80", &["192.168.0.1"], &[]);
    }
}

#[test]
fn a_host_network_pod_of_the_same_node_is_the_node_itself() {
    let set = town()
        .with(same_pod(SUBJECT, "app=web", A_WEB).node("n1"))
        .with(pod("a/ops/near").ip("192.168.0.1").host_network().node("n1"))
        .with(pod("a/ops/far").ip("192.168.0.2").host_network().node("n2"))
        .with(node("a/n1", "192.168.0.1"))
        .with(node("a/n2", "192.168.0.2"))
        .with(web_policy().no_ingress());
    admits(&set, SUBJECT, "TCP/80", &["192.168.0.1"], &["192.168.0.2"]);
}

#[test]
fn the_own_node_may_always_connect() {
    let set = town()
        .with(same_pod(SUBJECT, "app=web", A_WEB).node("n1"))
        .with(node("a/n1", "192.168.0.1 fd00:ff::1"))
        .with(web_policy().no_ingress().no_egress());
    let expected =
        End { verdict: Verdict::Allow, reason: Reason::Node, isolated_by: policies(&["web"]), allowed_by: Vec::new() };
    assert_eq!(judge(&set, SUBJECT, Direction::Ingress, "192.168.0.1", "TCP/80"), expected);
    reaches(&set, SUBJECT, "TCP/80", &[], &["192.168.0.1"]);
}

#[test]
fn neither_a_neighbour_on_the_node_nor_a_finished_pod_is_the_own_node() {
    let set = town()
        .with(same_pod(SUBJECT, "app=web", A_WEB).node("n1"))
        .with(same_pod("a/shop/cache", "app=cache", A_CACHE).node("n1"))
        .with(pod("a/ops/done").ip("192.168.0.1").host_network().finished().node("n1"))
        .with(web_policy().no_ingress());
    admits(&set, SUBJECT, "TCP/80", &[], &[A_CACHE, "192.168.0.1"]);
}

#[test]
fn what_a_pod_opens_is_not_the_nodes_even_from_the_nodes_address() {
    let set = town()
        .with(same_pod(SUBJECT, "app=web", A_WEB).node("n1"))
        .with(node("a/n1", A_WEB))
        .with(web_policy().no_egress());
    reaches(&set, SUBJECT, "TCP/80", &[], &[A_CACHE]);
}

#[test]
fn another_clusters_node_of_the_same_name_is_not_the_own_node() {
    let set = town()
        .with(same_pod(SUBJECT, "app=web", A_WEB).node("n1"))
        .with(node("b/n1", "192.168.0.1"))
        .with(node("a/n2", "192.168.0.2"))
        .with(web_policy().no_ingress());
    admits(&set, SUBJECT, "TCP/80", &[], &["192.168.0.1", "192.168.0.2"]);
}

#[test]
fn a_pod_may_always_talk_to_itself_on_its_own_address() {
    let set = town().with(web_policy().no_ingress().no_egress());
    let expected = End {
        verdict: Verdict::Allow,
        reason: Reason::SelfTraffic,
        isolated_by: policies(&["web"]),
        allowed_by: Vec::new(),
    };
    for own in [A_WEB, "fd00:1::1"] {
        for direction in Direction::BOTH {
            assert_eq!(judge(&set, SUBJECT, direction, own, "TCP/80"), expected);
        }
    }
}

#[test]
fn a_replica_is_not_the_pod_itself() {
    let set = town().with(same_pod("a/shop/web-2", "app=web", "10.1.0.4")).with(web_policy().no_ingress());
    admits(&set, SUBJECT, "TCP/80", &[A_WEB], &["10.1.0.4"]);
}

#[test]
fn a_peer_is_judged_by_its_own_namespace_not_the_subjects() {
    let set = town()
        .with(namespace("a/shop").labels("team=front,env=prod"))
        .with(web_policy().ingress([rule().peer(namespaces("env=prod"))]));
    admits(&set, SUBJECT, "TCP/80", &[A_CACHE], &[A_PG]);
}

#[test]
fn transports_of_the_builder_are_what_they_say() {
    let built = ["SCTP/9", "ICMP", "IP/47"].map(|text| connection(A_WEB, B_WEB, text).transport);
    assert_eq!(built, [Transport::Port(Protocol::Sctp, 9), Transport::Icmp, Transport::Other(47)]);
}
