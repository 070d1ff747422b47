//! Services and EndpointSlices of the local cluster: followed like everything, and waited for by nobody.

use std::fs;

use policy_core::model::Level;
use serde::de::DeserializeSeed as _;

use super::snapshots::Kept;
use super::*;

const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": "u", "labels": {"app": name}, "annotations": {"x": "y"}},
        "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]},
        "status": {"loadBalancer": {}}})
}

fn slice(name: &str, addresses: &[&str]) -> Value {
    let endpoint = |address: &&str| {
        json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": "n",
            "targetRef": {"kind": "Pod", "name": "p", "namespace": "shop", "uid": "1"}})
    };
    json!({"metadata": {"name": name, "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "x"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>()})
}

#[tokio::test]
async fn services_and_slices_are_told_and_then_what_changes() {
    let server = Server::start().await;
    server.apply(SERVICES, service("web"));
    server.apply(SLICES, slice("web-x", &["10.1.0.1"]));
    let mut following = Following::start(&server, Role::Local);
    let mut said = following.until("slices: 1").await;
    if !said.contains(&"services: 1".to_owned()) {
        said.extend(following.until("services: 1").await);
    }
    assert!(said.contains(&"+web 1".to_owned()) && said.contains(&"+web-x 1".to_owned()), "{said:?}");
    server.apply(SLICES, slice("web-x", &["10.1.0.1", "10.1.0.2"]));
    following.until("+web-x 2").await;
    server.apply(SLICES, slice("web-x", &["none"]));
    following
        .issue(|issues| issues.iter().any(|issue| issue.contains("b/EndpointSlice/shop/web-x: endpoints[0]")))
        .await;
    following.said.clear();
    server.delete(SLICES, &slice("web-x", &[]));
    following.issue(<[String]>::is_empty).await;
    assert_eq!(following.said.len(), 1, "{:?}", following.said);
}

#[tokio::test]
async fn who_may_not_ask_for_slices_hears_all_else_and_is_told_what_is_missing() {
    let server = Server::start().await;
    server.state().refuses_only = Some(SLICES);
    server.state().refuses = Some(403);
    server.apply(PODS, pod("p", "1"));
    let mut following = Following::start(&server, Role::Local);
    let said = following.until("synced").await;
    assert!(said.contains(&"+p 1".to_owned()), "{said:?}");
    let needed = "apiGroups: [\"discovery.k8s.io\"], resources: [\"endpointslices\"], verbs: [\"list\", \"watch\"]";
    following.issue(|issues| issues.iter().any(|issue| issue.contains(needed))).await;
    let issues = following.last.issues();
    let [issue] = issues else { panic!("{issues:?}") };
    assert_eq!((issue.code, issue.level), (IssueCode::UnusableSource, Level::Warning));
    server.apply(PODS, pod("q", "2"));
    following.until("+q 2").await;
    assert!(following.last.heard.contains_key(&"b".parse().expect("an id")), "the member is as young as its pods");
    server.state().refuses = None;
    following.until("slices: 0").await;
    following.issue(<[String]>::is_empty).await;
}

#[tokio::test]
async fn a_snapshot_without_services_restores_all_that_verdicts_rest_on() {
    for content in [None, Some("no journal")] {
        let server = Server::start().await;
        server.apply(PODS, pod("p", "1"));
        let kept = Kept::after(&server, Role::Local).await;
        for name in ["services.journal", "endpointslices.journal"] {
            match content {
                Some(content) => fs::write(kept.journal(name), content).expect("ours"),
                // An agent that ended at once may not have written it.
                None => drop(fs::remove_file(kept.journal(name))),
            }
        }
        server.state().refuses = Some(503);
        let mut following = kept.follow(&server, Role::Local, None);
        let said = following.until("synced").await;
        assert!(said.contains(&"+p 1".to_owned()), "{content:?}: {said:?}");
    }
}

#[test]
fn of_a_slice_only_its_backends_are_kept() {
    let keep = |collection: Collection, object: &Value| {
        let kept = collection.keep().deserialize(&mut serde_json::Deserializer::from_str(&object.to_string()));
        kept.expect("it is JSON")
    };
    let expect = json!({"metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": true}}]});
    assert_eq!(keep(Collection::EndpointSlices, &slice("web-x", &["10.1.0.1"])), expect);
    let expect = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1"], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}});
    assert_eq!(keep(Collection::Services, &service("web")), expect);
}

#[tokio::test]
async fn slices_of_a_snapshot_do_not_make_a_member_one_that_was_restored() {
    let server = Server::start().await;
    let kept = Kept::after(&server, Role::Local).await;
    server.state().refuses = Some(503);
    let mut following = kept.follow(&server, Role::Local, None);
    let restored = "namespaces, nodes, networkpolicies, pods, services, endpointslices of b are those of a snapshot";
    following.issue(|issues| issues.iter().any(|issue| issue.contains(restored))).await;
    {
        let mut state = server.state();
        (state.refuses, state.refuses_only) = (Some(403), Some(SLICES));
    }
    let left = "endpointslices of b cannot be followed";
    following.issue(|issues| issues.len() == 1 && issues[0].contains(left) && issues[0].contains("state stays")).await;
    assert_eq!(following.last.issues()[0].level, Level::Warning);
}
