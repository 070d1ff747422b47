//! Services and EndpointSlices of a real API server: what an agent tells of them.

use policy_agent::api::services::Service;
use policy_agent::api::types::{Explanation, SyncState, Verdict};
use policy_lab::Family;
use policy_lab::traffic::probe::Probe;

use crate::agents::policyctl;
use crate::clusters::{Clusters, NEIGHBOUR, NODE, RETRY, SOON, START, WEB};

/// A Service of the neighbour.
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {ports: [{name: http, port: 8080, targetPort: 80}]}
";

/// Lets web open connections to the pods that answer for the Service, and to nobody else.
const TO_API: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 80}]}]
";

/// What an agent may read, without the slices.
const WITHOUT_SLICES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: agent}
rules:
- {apiGroups: [""], resources: [pods, namespaces, nodes, services], verbs: [list, watch]}
- {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [list, watch]}
"#;

fn slice(address: &str) -> String {
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: api-x, namespace: shop, labels: {{kubernetes.io/service-name: api}}}}
addressType: IPv4
ports: [{{name: http, port: 80, protocol: TCP}}]
endpoints: [{{addresses: [{address}], conditions: {{ready: true}}}}]
"
    )
}

impl Clusters {
    fn service(&self) -> Option<Service> {
        let answer = policyctl(&self.agents, NODE, &["get", "services", "-o", "json"]);
        let services: Vec<Service> = serde_json::from_str(&answer).expect("JSON");
        services.into_iter().find(|service| service.name == "cluster-a/shop/api")
    }

    fn has_backends(&self, expected: &[Option<&str>], within: std::time::Duration) {
        self.waits_until(within, || {
            let service = self.service();
            let pods: Option<Vec<Option<&str>>> =
                service.as_ref().map(|it| it.backends.iter().map(|backend| backend.pod.as_deref()).collect());
            if pods.as_deref() == Some(expected) { Ok(()) } else { Err(format!("{service:?}")) }
        });
    }

    /// The address of a pod of the lab.
    fn address(&self, pod: &str) -> String {
        self.lab.host(pod).expect("a pod").address(Family::V4).expect("an address").to_string()
    }
}

#[test]
fn services_are_told_as_the_api_server_has_them_and_change_no_verdict() {
    let Some(clusters) = Clusters::start("services", &[]) else {
        return;
    };
    clusters.a.apply(TO_API).expect("applied");
    let to_api = Probe::tcp(WEB, NEIGHBOUR, 80);
    let to_other = Probe::tcp(WEB, "cluster-b/db/pg-0", 80);
    let expected = |probe: &Probe| probe.to == NEIGHBOUR;
    clusters.becomes(&[to_api.clone(), to_other.clone()], expected, START);
    clusters.a.apply(SERVICE).expect("applied");
    clusters.a.apply(&slice(&clusters.address(NEIGHBOUR))).expect("applied");
    clusters.has_backends(&[Some(NEIGHBOUR)], SOON);
    let service = clusters.service().expect("it is told");
    let [port] = &service.ports[..] else { panic!("{service:?}") };
    assert_eq!((port.name.as_deref(), port.protocol.as_str(), port.port), (Some("http"), "TCP", 8080));
    // The API server gave it an address.
    let address = service.addresses.first().expect("an address").to_string();
    let table = policyctl(&clusters.agents, NODE, &["get", "services"]);
    let row = table.lines().find(|line| line.contains("shop/api ")).expect("a row");
    assert!([address.as_str(), "http TCP/8080", "shop/api-1"].iter().all(|word| row.contains(word)), "{table}");
    assert!(table.contains("default/kubernetes"), "the API server has one of its own: {table}");

    clusters.shows_issue(&["service_address_not_allowed", "shop/api", "ipBlock"], SOON);
    let answer = policyctl(&clusters.agents, NODE, &["explain", WEB, &address, "tcp/8080", "-o", "json"]);
    let explanation: Explanation = serde_json::from_str(&answer).expect("JSON");
    let behind = explanation.service.expect("it is one of a Service");
    assert_eq!((explanation.verdict, behind.targets.len()), (Some(Verdict::Deny), 1));
    assert_eq!((behind.targets[0].pod.as_deref(), behind.targets[0].port), (Some(NEIGHBOUR), 80));
    assert_eq!(behind.targets[0].verdicts.egress, Some(Verdict::Allow));

    clusters.a.apply(&slice(&clusters.address("cluster-b/db/pg-0"))).expect("applied");
    clusters.has_backends(&[Some("cluster-b/db/pg-0")], SOON);
    clusters.becomes(&[to_api, to_other], expected, SOON);
    clusters.a.kubectl(&["delete", "endpointslice", "api-x", "--namespace=shop"]).expect("deleted");
    clusters.has_backends(&[], SOON);
}

#[test]
fn without_the_permission_for_slices_it_is_said_and_all_else_is_followed() {
    let Some(mut clusters) = Clusters::admitting("no slices", &[]) else {
        return;
    };
    clusters.a.apply(SERVICE).expect("applied");
    clusters.a.apply(&slice(&clusters.address(NEIGHBOUR))).expect("applied");
    clusters.has_backends(&[Some(NEIGHBOUR)], SOON);
    let role = clusters.a.kubectl(&["get", "clusterrole", "agent", "-o", "json"]).expect("it is there");
    clusters.a.apply(WITHOUT_SLICES).expect("applied");
    // Watches that have begun are not asked again; those that begin are.
    clusters.a.stop().expect("stopped");
    clusters.a.start().expect("started");
    // Quotes in an issue are escaped: it is JSON.
    let missing = r#"apiGroups: [\"discovery.k8s.io\"], resources: [\"endpointslices\"], verbs: [\"list\", \"watch\"]"#;
    let told = ["unusable_source", "warning", "endpointslices of cluster-a cannot", "last known state stays", missing];
    clusters.waits_until(RETRY, || match &clusters.issues()[..] {
        [issue] if told.iter().all(|words| issue.contains(words)) => Ok(()),
        issues => Err(format!("{issues:#?}")),
    });
    clusters.becomes_state("cluster-a", SyncState::Synced, SOON);
    clusters.has_backends(&[Some(NEIGHBOUR)], SOON);
    // Nor does an agent that begins wait for them.
    clusters.agent().restart().expect("restarted");
    clusters.becomes_state("cluster-a", SyncState::Synced, RETRY);
    clusters.becomes_allowed(crate::clusters::API, true, RETRY);
    clusters.becomes_allowed(NEIGHBOUR, false, SOON);
    clusters.has_backends(&[], SOON);
    let mut role: serde_json::Value = serde_json::from_str(&role).expect("JSON");
    for field in ["managedFields", "resourceVersion", "uid", "creationTimestamp"] {
        role["metadata"].as_object_mut().expect("an object").remove(field);
    }
    clusters.a.apply(&role.to_string()).expect("applied");
    clusters.has_backends(&[Some(NEIGHBOUR)], RETRY);
    clusters.waits_until(RETRY, || {
        let issues = clusters.issues();
        if issues.is_empty() { Ok(()) } else { Err(format!("{issues:#?}")) }
    });
}
