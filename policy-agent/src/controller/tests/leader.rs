//! What the leader writes on policies, and that nobody else does.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{LEASES, Running, World, until};
use crate::agent::find::find_at;
use crate::agent::options::ClusterSetPlace;
use crate::controller::{Calling, Leader, Pace, Status, Timing};

const NAMESPACES: &str = "/api/v1/namespaces";
const PODS: &str = "/api/v1/pods";
pub(super) const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";
pub(super) const PACE: Pace = Pace {
    delay: Duration::from_millis(100),
    interval: Duration::from_millis(5),
    refill: Duration::from_secs(1),
    silence: Duration::from_secs(60),
};
const FAST: Timing =
    Timing { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_millis(100) };

fn policy(name: &str, rule: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}")},
        "spec": {"podSelector": {}, "ingress": [rule]}})
}

pub(super) fn bad(name: &str) -> Value {
    policy(name, &json!({"from": [{"podSelector": {}, "robots": 7}]}))
}

pub(super) fn good(name: &str) -> Value {
    policy(name, &json!({"from": [{"podSelector": {}}]}))
}

pub(super) async fn world() -> World {
    let world = World::new().await;
    for namespace in ["shop", "other"] {
        let labels = json!({"kubernetes.io/metadata.name": namespace});
        world.server.apply(NAMESPACES, json!({"metadata": {"name": namespace, "labels": labels}}));
    }
    let pod = json!({"metadata": {"name": "p", "namespace": "shop", "uid": "1"}, "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.1.0.1"}]}});
    world.server.apply(PODS, pod);
    std::fs::create_dir(world.path("b")).expect("made");
    let kubeconfig = world.path("kubeconfig");
    let set = format!(
        "{{apiVersion: crosswall.dev/v1alpha1, kind: ClusterSet, spec: {{local: a, members: [
            {{id: a, source: {{kubeconfig: {{path: {}}}}}, podCIDRs: [10.1.0.0/16]}},
            {{id: b, source: {{directory: {{path: b}}}}, podCIDRs: [10.2.0.0/16]}}]}}}}",
        kubeconfig.display()
    );
    std::fs::write(world.path("set.yaml"), set).expect("written");
    world
}

impl World {
    pub(super) fn controller(&self, identity: &'static str) -> (Running, Status) {
        let status = Status::default();
        let (here, told) = (self.here(), status.clone());
        let (place, state_dir) = (ClusterSetPlace::File(self.path("set.yaml")), self.path("state"));
        let running = self.candidate(identity, FAST, status.clone(), move |term| {
            let (here, told, place, state_dir) = (here.clone(), told.clone(), place.clone(), state_dir.clone());
            async move {
                let found = find_at(&place, here, &state_dir).await?;
                let identity = identity.to_owned();
                let calling = Calling { found, access_providers: None, identity, status: told, pace: PACE };
                Leader::lead(calling, term).await
            }
        });
        (running, status)
    }

    /// The annotation of a policy.
    pub(super) fn annotation(&self, name: &str) -> Option<String> {
        let policy = self.server.object(&format!("{POLICIES}/{name}")).expect("there");
        policy["metadata"]["annotations"]["crosswall.dev/issues"].as_str().map(str::to_owned)
    }

    /// Type and reason of the Events about a policy.
    pub(super) fn events(&self, name: &str) -> Vec<(String, String)> {
        let state = self.server.state();
        let made = state.writes.iter().filter(|(method, path, event)| {
            *method == Method::POST && path == EVENTS && event["regarding"]["name"] == name
        });
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        made.map(|(_, _, event)| (text(&event["type"]), text(&event["reason"]))).collect()
    }

    /// How often something was written that is no Lease.
    pub(super) fn written(&self) -> usize {
        self.server.state().writes.iter().filter(|(_, path, _)| !path.contains("/leases")).count()
    }

    /// Puts another version of a policy in place, which keeps its annotations as all clients do.
    pub(super) fn change(&self, mut policy: Value) {
        let path = format!("{POLICIES}/{}", policy["metadata"]["name"].as_str().expect("a name"));
        policy["metadata"]["annotations"] = self.server.object(&path).expect("there")["metadata"]["annotations"].take();
        self.server.apply(POLICIES, policy);
    }
}

pub(super) fn warning() -> (String, String) {
    ("Warning".to_owned(), "UnreadableRule".to_owned())
}

pub(super) fn mended() -> (String, String) {
    ("Normal".to_owned(), "IssuesMended".to_owned())
}

#[tokio::test]
async fn what_is_wrong_is_said_when_it_comes_and_when_it_is_gone() {
    let world = world().await;
    world.server.apply(POLICIES, bad("web"));
    world.server.apply(POLICIES, good("api"));
    let (running, _) = world.controller("one");
    until("an annotation", || world.annotation("web").is_some()).await;
    let said: Value = serde_json::from_str(&world.annotation("web").expect("there")).expect("JSON");
    assert_eq!((&said[0]["code"], &said[0]["level"]), (&json!("unreadable_rule"), &json!("error")), "{said}");
    let field = said[0]["field"].as_str().expect("a field");
    assert!(field.starts_with("spec.ingress[0].from[0]"), "{said}");
    assert_eq!(world.events("web"), [warning()]);
    let event = {
        let state = world.server.state();
        state.writes.iter().find(|(_, path, _)| path == EVENTS).expect("one").2.clone()
    };
    assert_eq!(event["regarding"]["uid"], "uid-of-web");
    assert_eq!(event["reportingInstance"], "one");
    assert!(event["note"].as_str().expect("a note").starts_with(field), "{event}");
    world.change(good("web"));
    until("no annotation", || world.annotation("web").is_none()).await;
    assert_eq!(world.events("web"), [warning(), mended()]);
    // Nothing was ever wrong with the other, and what was written brings nothing more about.
    let written = world.written();
    assert_eq!(written, 4, "{:#?}", world.server.state().writes);
    sleep(PACE.delay * 10).await;
    assert_eq!((world.written(), world.annotation("api")), (written, None));
    running.end().await;
}

#[tokio::test]
async fn another_leader_says_nothing_twice() {
    let world = world().await;
    world.server.apply(POLICIES, bad("web"));
    let (first, _) = world.controller("one");
    until("an annotation", || world.annotation("web").is_some()).await;
    first.end().await;
    let (second, _) = world.controller("two");
    // When this is written, the other has been looked at too.
    world.server.apply(POLICIES, bad("zoo"));
    until("the second leads", || world.annotation("zoo").is_some()).await;
    sleep(PACE.delay * 5).await;
    assert_eq!(world.events("web"), [warning()]);
    // What somebody took away comes back, without a word.
    world.server.apply(POLICIES, bad("web"));
    until("it comes back", || world.annotation("web").is_some()).await;
    assert_eq!(world.events("web"), [warning()]);
    // It knows of a policy that was mended while nobody led.
    second.end().await;
    world.change(good("web"));
    let (third, _) = world.controller("three");
    until("no annotation", || world.annotation("web").is_none()).await;
    assert_eq!(world.events("web"), [warning(), mended()]);
    third.end().await;
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing() {
    let world = world().await;
    world.server.apply(POLICIES, bad("web"));
    let other = json!({"metadata": {"name": "crosswall-controller", "namespace": "crosswall-system"},
        "spec": {"holderIdentity": "other", "leaseDurationSeconds": 3600}});
    world.server.apply(LEASES, other);
    let (running, _) = world.controller("one");
    until("it looks at the Lease", || {
        world.server.state().requests.iter().filter(|it| it.contains("/leases/")).count() > 3
    })
    .await;
    let writes = world.server.state().writes.len();
    assert_eq!((writes, world.annotation("web")), (0, None));
    running.end().await;
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later() {
    let world = world().await;
    world.server.state().refuses_writes = Some(403);
    world.server.apply(POLICIES, bad("web"));
    world.server.apply(POLICIES, bad("zoo"));
    let (running, _) = world.controller("one");
    until("it tries again and again", || world.written() > 3).await;
    assert_eq!(world.annotation("web"), None);
    world.server.state().writes.clear();
    world.server.state().refuses_writes = None;
    until("it can", || world.annotation("web").is_some() && world.annotation("zoo").is_some()).await;
    assert_eq!((world.events("web"), world.events("zoo")), (vec![warning()], vec![warning()]));
    running.end().await;
}

#[tokio::test]
async fn while_a_member_is_not_known_nothing_counts_as_mended() {
    let world = world().await;
    let lint = r#"[{"code":"peer_would_widen","level":"warning","field":"spec.ingress[0].from","message":"m"}]"#;
    let mut known = good("web");
    known["metadata"]["annotations"] = json!({"crosswall.dev/issues": lint});
    world.server.apply(POLICIES, known);
    world.server.apply(POLICIES, bad("zoo"));
    // A member whose API server nobody reaches.
    let set = std::fs::read_to_string(world.path("set.yaml")).expect("there");
    let nowhere = world.path("nowhere");
    let set = set.replace("directory: {path: b}", &format!("kubeconfig: {{path: {}}}", nowhere.display()));
    std::fs::write(world.path("set.yaml"), set).expect("written");
    let (running, _) = world.controller("one");
    until("what is new is said", || world.annotation("zoo").is_some()).await;
    sleep(PACE.delay * 5).await;
    assert_eq!(world.annotation("web").as_deref(), Some(lint));
    std::fs::write(&nowhere, world.server.kubeconfig()).expect("written");
    until("it is mended", || world.annotation("web").is_none()).await;
    assert_eq!(world.events("web"), [mended()]);
    running.end().await;
}

#[tokio::test]
async fn before_slices_are_told_nothing_about_services_comes_or_goes() {
    const SERVICES: &str = "/api/v1/services";
    const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
    let world = world().await;
    let lint = r#"[{"code":"service_address_not_allowed","level":"warning","field":"spec.egress[0]","message":"m"}]"#;
    let mut known = good("web");
    known["metadata"]["annotations"] = json!({"crosswall.dev/issues": lint});
    world.server.apply(POLICIES, known);
    world.server.apply(POLICIES, bad("zoo"));
    let egress = json!({"metadata": {"name": "out", "namespace": "shop", "uid": "o"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}]}, {"ports": [{"port": 53}]}]}});
    world.server.apply(POLICIES, egress);
    let spec = json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
    world.server.apply(SERVICES, json!({"metadata": {"name": "s", "namespace": "shop"}, "spec": spec}));
    let labels = json!({"kubernetes.io/service-name": "s"});
    let slice = json!({"metadata": {"name": "s-x", "namespace": "shop", "labels": labels}, "addressType": "IPv4",
        "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.1.0.1"]}]});
    world.server.apply(SLICES, slice);
    {
        let mut state = world.server.state();
        (state.refuses, state.refuses_only) = (Some(403), Some(SLICES));
    }
    let (running, _) = world.controller("one");
    until("what is certain is said", || world.annotation("zoo").is_some()).await;
    sleep(PACE.delay * 5).await;
    assert_eq!((world.annotation("web").as_deref(), world.annotation("out")), (Some(lint), None));
    world.server.state().refuses = None;
    until("it is mended", || world.annotation("web").is_none()).await;
    until("it is said", || world.annotation("out").is_some()).await;
    assert!(world.annotation("out").expect("there").contains("service_address_not_allowed"));
    running.end().await;
}
