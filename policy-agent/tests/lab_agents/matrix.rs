//! Every pod to every pod, over TCP, UDP and ICMP, IPv4 and IPv6: just as the manifests say.

use policy_lab::traffic::probe::{Probe, Timing};
use policy_lab::{PeerScope, Wiring};

use crate::clusters::{Enforced, MODES, START, three_clusters};

/// Policies of all three clusters that use every kind of peer and port.
const POLICIES: [(&str, &str); 3] = [
    (
        "cluster-a",
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: http}]
  - from:
    - namespaceSelector:
        matchExpressions: [{key: cluster.clusterset.k8s.io, operator: In, values: [cluster-c]}]
    ports: [{port: 53, protocol: UDP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  podSelector: {matchLabels: {app: api}}
  policyTypes: [Egress]
  egress:
  - to: [{ipBlock: {cidr: 10.2.0.0/16, except: [10.2.1.10/32]}}, {ipBlock: {cidr: 'fd00:2::/48'}}]
    ports: [{port: 1, endPort: 8999}, {port: 9000}]
  - to: [{podSelector: {}}]
",
    ),
    (
        "cluster-b",
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: db}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {team: shop}}
      podSelector:
        matchExpressions:
        - {key: app, operator: In, values: [api]}
        - {key: io.cilium.k8s.policy.cluster, operator: NotIn, values: [cluster-c]}
    ports: [{port: 5432}]
",
    ),
    (
        "cluster-c",
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
",
    ),
];

/// The matrix in all scopes and label modes.
fn check(name: &str, wiring: Wiring) {
    let mut enforced = Enforced::start(three_clusters(name, wiring));
    for (cluster, yaml) in POLICIES {
        enforced.write(cluster, "policies.yaml", yaml);
    }
    // Explicit labels exist where an administrator has put them: everywhere but in the shop of cluster-c.
    for (cluster, namespace, team) in
        [("cluster-a", "shop", "shop"), ("cluster-b", "shop", "shop"), ("cluster-b", "db", "data")]
    {
        let labels = [("team", team), ("cluster.clusterset.k8s.io", cluster)];
        enforced.lab.relabel_namespace(cluster, namespace, &labels).expect("relabelled");
    }
    for (scope, labels) in MODES {
        enforced.lab.manifests_mut().set_default_peer_scope(scope).expect("written");
        enforced.lab.manifests_mut().set_cluster_labels(labels).expect("written");
        enforced.becomes_simulated(START);
    }
}

#[test]
fn routed_pods_talk_as_the_manifests_say_in_every_scope_and_label_mode() {
    check("matrix-ptp", Wiring::Ptp);
}

#[test]
fn bridged_pods_talk_as_the_manifests_say_in_every_scope_and_label_mode() {
    check("matrix-bridge", Wiring::Bridge);
}

#[test]
fn addresses_outside_the_cluster_set_match_blocks_alone() {
    let builder = three_clusters("outside", Wiring::Ptp).default_peer_scope(PeerScope::ClusterSet);
    let enforced = Enforced::start(builder.outside_host("world").outside_host("other"));
    let world = enforced.lab.host("world").expect("a host").address(policy_lab::Family::V4).expect("IPv4");
    enforced.write(
        "cluster-a",
        "web.yaml",
        &format!(
            "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: web, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  ingress:
  - from: [{{namespaceSelector: {{}}}}, {{ipBlock: {{cidr: {world}/32}}}}]
"
        ),
    );
    let from = |host: &str| Probe::tcp(host, "cluster-a/shop/web-1", 80);
    let probes = [from("world"), from("other"), from("world").v6(), from("cluster-c/shop/web-1")];
    enforced.becomes(&probes, |probe| *probe == from("world") || probe.from.starts_with("cluster"), START);
    let ping = enforced.lab.probe_one(&Probe::ping("world", "cluster-a/shop/web-1"), Timing::default()).expect("sent");
    assert!(ping.is_allowed(), "a rule without ports admits ICMP");
}
