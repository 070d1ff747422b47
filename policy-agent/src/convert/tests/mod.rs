//! Documents and what they are read as.

mod annotations;
mod arbitrary;
mod pods;
mod policies;
mod services;
mod unreadable;

use std::net::IpAddr;

use policy_core::model::{
    Allowance, ContainerPort, IpBlock, Labels, Level, Lifecycle, Operator, Peer, Port, PortSelection, Protocol,
    Requirement, Rule, Scope, ScopeAnnotation, Selector, Timestamp,
};

use super::*;
use crate::document::{Format, parse};

fn read(yaml: &str) -> Readings {
    let mut readings = Readings::default();
    for document in parse(yaml.as_bytes(), Format::Yaml).unwrap() {
        read_document(&"c".parse().unwrap(), &document, "file.yaml", &mut readings);
    }
    readings
}

/// Code, level and field of each issue.
fn told(issues: &[Issue]) -> Vec<(IssueCode, Level, &str)> {
    issues.iter().map(|issue| (issue.code, issue.level, issue.field.as_str())).collect()
}

fn only(readings: Readings) -> Reading {
    assert_eq!(readings.issues, []);
    let [reading] = <[Reading; 1]>::try_from(readings.objects).unwrap();
    reading
}

/// The policy `shop/web` with this spec, in flow or block style at two spaces.
fn policy(spec: &str) -> Reading {
    only(read(&format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web, namespace: shop}}\nspec:\n  {spec}\n"
    )))
}

#[track_caller]
fn read_policy(spec: &str) -> NetworkPolicy {
    let reading = policy(spec);
    assert_eq!(reading.issues, []);
    let Some(Object::NetworkPolicy(policy)) = reading.object else { panic!("{spec}") };
    policy
}

#[track_caller]
fn read_rules(spec: &str) -> Vec<Rule> {
    read_policy(spec).ingress.unwrap()
}

fn selector(requirements: &[(&str, Operator)]) -> Selector {
    let requirement =
        |(key, operator): &(&str, Operator)| Requirement { key: (*key).into(), operator: operator.clone() };
    Selector { requirements: requirements.iter().map(requirement).collect() }
}

fn is(value: &str) -> Operator {
    Operator::In(vec![value.into()])
}

fn allow(peers: Option<Vec<Peer>>, ports: Option<Vec<Port>>) -> Rule {
    Rule::Allow(Allowance { peers, ports })
}

fn pod(yaml: &str) -> Reading {
    only(read(&format!("apiVersion: v1\nkind: Pod\n{yaml}")))
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

#[test]
fn lists_are_taken_apart_and_other_kinds_passed_over() {
    let readings = read(
        "apiVersion: v1\nkind: List\nitems:
- {apiVersion: v1, kind: Pod, metadata: {name: a}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}
---\napiVersion: v1\nkind: PodList\nmetadata: {}\nitems: [{metadata: {name: b}}, {kind: Pod, metadata: {name: c}}]
---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nitems: [{metadata: {name: d}}]
---\napiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: NamespaceList, items: [{metadata: {name: e}}]}]
---\napiVersion: serving.knative.dev/v1\nkind: Service\n---\napiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy
---\napiVersion: x/v1\nkind: AccessList\nitems: null\n",
    );
    let keys: Vec<String> = readings.objects.iter().map(|reading| reading.key.to_string()).collect();
    let expect =
        ["c/Pod/default/a", "c/Pod/default/b", "c/Pod/default/c", "c/NetworkPolicy/default/d", "c/Namespace/e"];
    assert_eq!((keys, readings.issues), (expect.map(str::to_owned).to_vec(), vec![]));
}

#[test]
fn documents_that_name_no_object_are_reported_with_their_place() {
    let table = [
        ("", "hello"),
        ("kind", "apiVersion: v1"),
        ("kind", "{apiVersion: v1, kind: 5}"),
        ("apiVersion", "{kind: NetworkPolicy, metadata: {name: x}}"),
        ("apiVersion", "{apiVersion: extensions/v1beta1, kind: NetworkPolicy, metadata: {name: x}}"),
        ("apiVersion", "{apiVersion: v2, kind: Pod, metadata: {name: x}}"),
        ("metadata", "{apiVersion: v1, kind: Pod}"),
        ("metadata.name", "{apiVersion: v1, kind: Pod, metadata: {}}"),
        ("metadata.name", "{apiVersion: v1, kind: Pod, metadata: {name: 5}}"),
        ("metadata.name", "{apiVersion: v1, kind: Pod, metadata: {name: a/b}}"),
        ("metadata.namespace", "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: {}}}"),
        ("items", "{apiVersion: v1, kind: List, items: {}}"),
        ("items[1].metadata", "{apiVersion: v1, kind: PodList, items: [{metadata: {name: a}}, {}]}"),
        ("items[0].kind", "{apiVersion: v1, kind: List, items: [{}]}"),
    ];
    for (field, yaml) in table {
        let readings = read(yaml);
        assert_eq!(told(&readings.issues), [(IssueCode::UnreadableObject, Level::Error, field)], "{yaml}");
        assert_eq!(readings.issues[0].object, "file.yaml", "{yaml}");
    }
}

/// What keeps pods has room for no longer names, whoever sends them.
#[test]
fn names_that_are_longer_than_any_objects_are_no_names() {
    for (field, key) in [("metadata.name", "name"), ("metadata.namespace", "name: a, namespace")] {
        let of_length =
            |length| read(&format!("{{apiVersion: v1, kind: Pod, metadata: {{{key}: {}}}}}", "x".repeat(length)));
        assert_eq!(of_length(253).issues, []);
        for length in [254, 70_000] {
            let readings = of_length(length);
            assert_eq!(told(&readings.issues), [(IssueCode::UnreadableObject, Level::Error, field)], "{length}");
            assert!(readings.issues[0].message.len() < 1000, "what is said of it is not as long");
            assert!(readings.objects.is_empty());
        }
    }
}
