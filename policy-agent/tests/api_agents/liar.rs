//! A member that says of its pods what they are not gains nothing by it.

use policy_lab::Family;
use policy_lab::traffic::probe::Probe;
use serde_json::json;

use crate::clusters::{API, Clusters, NEIGHBOUR, PG, SOON, TOLD, WEB, pod};

/// Admits whoever is of the own cluster, and the api of cluster-b on another port.
const ADMIT_OWN: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {cluster.clusterset.k8s.io: cluster-a}}}]
    ports: [{port: 80}]
  - from:
    - namespaceSelector: {matchLabels: {cluster.clusterset.k8s.io: cluster-b}}
      podSelector: {matchLabels: {app: liar}}
    ports: [{port: 53, protocol: UDP}]
";

#[test]
fn a_member_that_labels_its_pods_as_another_clusters_gains_nothing() {
    let Some(clusters) = Clusters::start("a label that lies", &[]) else {
        return;
    };
    clusters.a.apply(ADMIT_OWN).expect("applied");
    clusters.becomes_allowed(API, false, SOON);
    clusters.becomes_allowed(NEIGHBOUR, true, SOON);
    for key in ["cluster.clusterset.k8s.io=cluster-a", "io.cilium.k8s.policy.cluster=cluster-a"] {
        clusters.b.kubectl(&["label", "pod", "api-1", "--namespace=shop", key]).expect("labelled");
        clusters.b.kubectl(&["label", "namespace", "shop", key]).expect("labelled");
    }
    clusters.shows_issue(&["spoofed_cluster_label", "cluster-b/Pod/shop/api-1"], TOLD);
    clusters.shows_issue(&["spoofed_cluster_label", "cluster-b/Namespace/shop"], TOLD);
    clusters.becomes_allowed(API, false, SOON);
    clusters.becomes_allowed(NEIGHBOUR, true, SOON);
}

#[test]
fn a_member_that_claims_addresses_of_another_cluster_gains_nothing() {
    let Some(mut clusters) = Clusters::start("an address that lies", &[]) else {
        return;
    };
    // Somebody with an address of cluster-a whom its API server does not know.
    let unknown = pod("shop/unknown", "x").without_manifest();
    let unknown = clusters.lab.add_pod("cluster-a/a1", &unknown).expect("added");
    clusters.a.apply(ADMIT_OWN).expect("applied");
    let asks = |from: &str| [Probe::udp(from, WEB, 53), Probe::udp(from, WEB, 53).v6()];
    clusters.becomes(&asks(&unknown), |_| false, SOON);
    clusters.becomes_allowed(NEIGHBOUR, true, SOON);
    let probes: Vec<Probe> = [PG, NEIGHBOUR, &unknown].into_iter().flat_map(asks).collect();
    // The first is an address of its own, to see that a claim as such counts.
    for (name, victim, code) in [
        ("own", PG, "duplicate_address"),
        ("neighbour", NEIGHBOUR, "address_outside_pod_cidrs"),
        ("unknown", &unknown, "address_outside_pod_cidrs"),
    ] {
        let host = clusters.lab.host(victim).expect("a host");
        let addresses = [Family::V4, Family::V6].map(|family| host.address(family).expect("an address").to_string());
        claim(&clusters, name, &addresses);
        clusters.shows_issue(&[code, &format!("cluster-b/Pod/shop/{name}")], TOLD);
        clusters.becomes(&probes, |probe| probe.from == PG, SOON);
        clusters.becomes_allowed(NEIGHBOUR, true, SOON);
    }
    assert_eq!(clusters.member("cluster-b").addresses_rejected, 4);
}

/// Has cluster-b say that a pod of its own, which the policy admits, has these addresses.
fn claim(clusters: &Clusters, name: &str, addresses: &[String]) {
    let ips: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": "liar"}},
        "spec": {"containers": [{"name": "main", "image": "example.org/x:1"}]},
        "status": {"phase": "Running", "podIP": addresses.first(), "podIPs": ips}});
    clusters.b.apply(&pod.to_string()).expect("applied");
    clusters.b.apply_status(&pod.to_string()).expect("applied");
}
