//! What is changed at an API server is seen in real traffic within a second.

use policy_lab::Family;
use policy_lab::traffic::probe::Probe;

use crate::clusters::{ADMIT_API, API, Clusters, NEIGHBOUR, PG, SOON, START, WEB, pod};

/// Admits the neighbours to the api of cluster-a, and lets it open connections to cluster-b's databases alone.
const OTHERS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  podSelector: {matchLabels: {app: api}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {}}], ports: [{port: http}]}]
  egress:
  - to: [{namespaceSelector: {matchLabels: {team: data, cluster.clusterset.k8s.io: cluster-b}}}]
    ports: [{port: 80}, {port: 53, protocol: UDP}]
";

#[test]
fn the_matrix_is_what_the_policies_say_before_and_after_they_are_applied() {
    let Some(mut clusters) = Clusters::start("the matrix", &[]) else {
        return;
    };
    let (open, closed) = clusters.becomes_simulated(START);
    assert_eq!(closed, 0, "without a policy everything passes");
    // The label of the namespace db, which the policies ask for.
    clusters.lab.relabel_namespace("cluster-b", "db", &[("team", "data")]).expect("relabelled");
    clusters.b.kubectl(&["label", "namespace", "db", "team=data"]).expect("relabelled");
    for policy in [ADMIT_API, OTHERS] {
        clusters.a.apply(policy).expect("applied");
    }
    clusters.lab.manifests().write("cluster-a", "policies.yaml", &[ADMIT_API, OTHERS].join("---")).expect("written");
    let (allowed, denied) = clusters.becomes_simulated(START);
    eprintln!("{open} probes without policies; {allowed} allowed and {denied} denied with two");
    assert!(allowed > 0 && denied > 0);
}

#[test]
fn every_change_at_an_api_server_is_seen_in_traffic_within_a_second() {
    let Some(mut clusters) = Clusters::admitting("changes", &[]) else {
        return;
    };
    let b = |arguments: &[&str]| clusters.b.kubectl(arguments).expect("changed");
    b(&["label", "pod", "api-1", "--namespace=shop", "--overwrite", "app=other"]);
    clusters.becomes_allowed(API, false, SOON);
    b(&["label", "pod", "api-1", "--namespace=shop", "--overwrite", "app=api"]);
    clusters.becomes_allowed(API, true, SOON);
    b(&["label", "namespace", "shop", "--overwrite", "team=other"]);
    clusters.becomes_allowed(API, false, SOON);
    b(&["label", "namespace", "shop", "--overwrite", "team=shop"]);
    clusters.becomes_allowed(API, true, SOON);
    let pg = ADMIT_API.replace("{app: api}", "{app: pg}").replace("team: shop, ", "");
    clusters.a.apply(&pg).expect("changed");
    clusters.becomes_allowed(PG, true, SOON);
    clusters.becomes_allowed(API, false, SOON);
    clusters.a.kubectl(&["delete", "networkpolicy", "web", "--namespace=shop"]).expect("deleted");
    clusters.becomes_allowed(API, true, SOON);
    clusters.a.apply(ADMIT_API).expect("applied");
    clusters.becomes_allowed(PG, false, SOON);
    clusters.becomes_allowed(API, true, SOON);

    // A remote pod that is admitted goes, and its address comes to one that is not.
    let other = successor(&mut clusters, API, "shop/other-1", "other");
    clusters.becomes_allowed(&other, false, SOON);
    // And back: the label, not the address, was admitted.
    let api = successor(&mut clusters, &other, "shop/api-2", "api");
    clusters.becomes_allowed(&api, true, SOON);

    // A local pod that is isolated goes, and its address comes to one that is not.
    let free = successor(&mut clusters, WEB, "shop/free-1", "free");
    let probe = |to: &str| [Probe::tcp(PG, to, 80), Probe::tcp(PG, to, 80).v6()];
    clusters.becomes(&probe(&free), |_| true, SOON);
    let closed = successor(&mut clusters, &free, "shop/web-9", "web");
    clusters.becomes(&probe(&closed), |_| false, SOON);
    let admitted = [Probe::tcp(&api, &closed, 80), Probe::tcp(NEIGHBOUR, &closed, 80)];
    clusters.becomes(&admitted, |probe| probe.from == api, SOON);
}

/// Replaces a pod with another one on its node that has its addresses, in the lab and at the API server.
fn successor(clusters: &mut Clusters, gone: &str, name: &str, app: &str) -> String {
    let host = clusters.lab.host(gone).expect("a pod");
    let [v4, v6] = [Family::V4, Family::V6].map(|family| host.address(family).expect("an address").to_string());
    let node = clusters.lab.node_of(gone).expect("its node").to_owned();
    let (cluster, object) = gone.split_once('/').expect("a pod's name");
    let (namespace, pod_name) = object.split_once('/').expect("a pod's name");
    clusters.lab.remove_pod(gone).expect("removed");
    clusters.of(cluster).delete_pod(namespace, pod_name).expect("deleted");
    let spec = pod(name, app).ipv4(v4.parse().expect("IPv4")).ipv6(v6.parse().expect("IPv6"));
    let name = clusters.lab.add_pod(&node, &spec).expect("added");
    clusters.publish(&name);
    // The node hears the new pod's hardware address, as a CNI plugin sees to: the old owner's may still be cached.
    for family in [Family::V4, Family::V6] {
        let _whatever_policy_says = clusters.lab.ping(&name, &node, family, SOON / 4).expect("sent");
    }
    name
}
