//! Changes are seen in real traffic within a second.

use policy_lab::traffic::probe::Probe;
use policy_lab::{Family, PodSpec, Wiring};

use crate::clusters::{Enforced, SOON, three_clusters, web};

const ADMIT_B_API: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {team: shop, cluster.clusterset.k8s.io: cluster-b}}
      podSelector: {matchLabels: {app: api}}
";
const WEB: &str = "cluster-a/shop/web-1";
const API: &str = "cluster-b/shop/api-1";

fn api_to_web() -> Probe {
    Probe::tcp(API, WEB, 80)
}

fn pg_to_web() -> Probe {
    Probe::tcp("cluster-b/db/pg-0", WEB, 80)
}

fn admitting(name: &str, wiring: Wiring) -> Enforced {
    let enforced = Enforced::start(three_clusters(name, wiring));
    enforced.write("cluster-a", "web.yaml", ADMIT_B_API);
    enforced.becomes_allowed(&pg_to_web(), false, SOON);
    enforced.becomes_allowed(&api_to_web(), true, SOON);
    enforced
}

#[test]
fn a_policy_is_added_changed_and_removed() {
    let enforced = admitting("policy", Wiring::Bridge);
    enforced.write(
        "cluster-a",
        "web.yaml",
        &ADMIT_B_API.replace("{app: api}", "{app: pg}").replace("team: shop, ", ""),
    );
    enforced.becomes_allowed(&pg_to_web(), true, SOON);
    enforced.becomes_allowed(&api_to_web(), false, SOON);
    enforced.delete("cluster-a", "web.yaml");
    enforced.becomes_allowed(&api_to_web(), true, SOON);
}

#[test]
fn pods_and_namespaces_are_relabelled() {
    let mut enforced = admitting("labels", Wiring::Ptp);
    enforced.lab.relabel_pod(API, &[("app", "other")]).expect("relabelled");
    enforced.becomes_allowed(&api_to_web(), false, SOON);
    enforced.lab.relabel_pod(API, &[("app", "api")]).expect("relabelled");
    enforced.becomes_allowed(&api_to_web(), true, SOON);
    enforced.lab.relabel_namespace("cluster-b", "shop", &[("team", "other")]).expect("relabelled");
    enforced.becomes_allowed(&api_to_web(), false, SOON);
    enforced.lab.relabel_namespace("cluster-b", "shop", &[("team", "shop")]).expect("relabelled");
    enforced.becomes_allowed(&api_to_web(), true, SOON);
}

#[test]
fn a_member_leaves_and_joins() {
    let mut enforced = admitting("member", Wiring::Ptp);
    assert!(enforced.lab.leave("cluster-b").expect("left"));
    enforced.becomes_allowed(&api_to_web(), false, SOON);
    enforced.lab.join("cluster-b").expect("joined");
    enforced.becomes_allowed(&api_to_web(), true, SOON);
}

#[test]
fn a_remote_address_that_another_pod_takes_over_loses_what_it_was_allowed() {
    let mut enforced = admitting("reuse-remote", Wiring::Ptp);
    let api = enforced.lab.host(API).expect("a host");
    let (v4, v6) = (ip(api.address(Family::V4)), ip(api.address(Family::V6)));
    enforced.lab.remove_pod(API).expect("removed");
    let spec = PodSpec::new("shop/other-1").label("app", "other").tcp(1);
    let spec = spec.ipv4(v4.parse().expect("IPv4")).ipv6(v6.parse().expect("IPv6"));
    let other = enforced.lab.add_pod("cluster-b/b1", &spec).expect("added");
    enforced.becomes_allowed(&Probe::tcp(&other, WEB, 80), false, SOON);
}

#[test]
fn a_local_address_that_another_pod_takes_over_has_the_new_pods_policies() {
    let mut enforced = admitting("reuse-local", Wiring::Bridge);
    let pod = enforced.lab.host(WEB).expect("a host");
    let (v4, v6) = (ip(pod.address(Family::V4)), ip(pod.address(Family::V6)));
    enforced.lab.remove_pod(WEB).expect("removed");
    let free = web("shop/free-1").label("app", "free").ipv4(v4.parse().expect("IPv4")).ipv6(v6.parse().expect("IPv6"));
    let free = enforced.lab.add_pod("cluster-a/a1", &free).expect("added");
    announce(&enforced, &free);
    enforced.becomes_allowed(&Probe::tcp("cluster-b/db/pg-0", &free, 80), true, SOON);
    enforced.lab.remove_pod(&free).expect("removed");
    let closed = web("shop/web-9").ipv4(v4.parse().expect("IPv4")).ipv6(v6.parse().expect("IPv6"));
    let closed = enforced.lab.add_pod("cluster-a/a1", &closed).expect("added");
    announce(&enforced, &closed);
    enforced.becomes_allowed(&Probe::tcp("cluster-b/db/pg-0", &closed, 80), false, SOON);
    enforced.becomes_allowed(&Probe::tcp(API, &closed, 80), true, SOON);
}

#[test]
fn an_established_connection_lives_through_commits_and_dies_with_its_permission() {
    let mut enforced = admitting("established", Wiring::Ptp);
    for family in [Family::V4, Family::V6] {
        let mut connection = enforced.lab.establish_tcp(API, WEB, 80, family, SOON).expect("established");
        enforced
            .lab
            .relabel_pod("cluster-b/shop/web-1", &[("app", "web"), ("round", &family.to_string())])
            .expect("relabelled");
        assert!(connection.exchange(SOON).is_allowed(), "a commit elsewhere does not cut it");
        enforced.lab.relabel_pod(API, &[("app", "other")]).expect("relabelled");
        enforced.becomes_allowed(&api_to_web(), false, SOON);
        assert!(!connection.exchange(SOON).is_allowed(), "it died with its permission");
        enforced.lab.relabel_pod(API, &[("app", "api")]).expect("relabelled");
        enforced.becomes_allowed(&api_to_web(), true, SOON);
    }
}

/// The node hears the new pod's hardware address, as a CNI plugin sees to: the old owner's may still be cached.
fn announce(enforced: &Enforced, pod: &str) {
    for family in [Family::V4, Family::V6] {
        let _whatever_policy_says = enforced.lab.ping(pod, "cluster-a/a1", family, SOON / 4).expect("sent");
    }
}

fn ip(address: policy_lab::Result<std::net::IpAddr>) -> String {
    address.expect("an address").to_string()
}
