//! Documents and what they are read as.

use std::net::IpAddr;

use policy_core::model::{
    Allowance, ContainerPort, IpBlock, Labels, Level, Lifecycle, Operator, Peer, Port, PortSelection, Protocol,
    Requirement, Rule, Scope, ScopeAnnotation, Selector, Timestamp,
};
use proptest::prelude::*;

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
fn a_policy_is_read_whole() {
    let yaml = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, creationTimestamp: null, annotations: {crosswall.dev/peer-scope: ClusterSet, x: y}}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector: {}
    - namespaceSelector: {matchLabels: {cluster.clusterset.k8s.io: b}}
      podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [x, y]}, {key: z, operator: Exists}]}
    ports: [{port: 80}, {protocol: UDP, port: 8000, endPort: 8100}, {port: http}, {protocol: SCTP}]
  - {}
  egress:
  - to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
status: {}
";
    let expect = NetworkPolicy {
        key: PolicyKey {
            cluster: "c".parse().unwrap(),
            kind: PolicyKind::NetworkPolicy,
            namespace: "default".into(),
            name: "web".into(),
        },
        peer_scope: Some(ScopeAnnotation::Known(Scope::ClusterSet)),
        subject: selector(&[("app", is("web"))]),
        ingress: Some(vec![
            allow(
                Some(vec![
                    Peer::Pods { namespaces: None, pods: Some(Selector::default()) },
                    Peer::Pods {
                        namespaces: Some(selector(&[("cluster.clusterset.k8s.io", is("b"))])),
                        pods: Some(selector(&[
                            ("tier", Operator::NotIn(vec!["x".into(), "y".into()])),
                            ("z", Operator::Exists),
                        ])),
                    },
                ]),
                Some(vec![
                    Port { protocol: Protocol::Tcp, selection: PortSelection::Range(80, 80) },
                    Port { protocol: Protocol::Udp, selection: PortSelection::Range(8000, 8100) },
                    Port { protocol: Protocol::Tcp, selection: PortSelection::Named("http".into()) },
                    Port { protocol: Protocol::Sctp, selection: PortSelection::All },
                ]),
            ),
            allow(None, None),
        ]),
        egress: Some(vec![allow(
            Some(vec![Peer::Block(IpBlock {
                cidr: "10.0.0.0/8".parse().unwrap(),
                except: vec!["10.1.0.0/16".parse().unwrap()],
            })]),
            None,
        )]),
    };
    let reading = only(read(yaml));
    assert_eq!(
        reading,
        Reading {
            key: ObjectKey::Policy(expect.key.clone()),
            object: Some(Object::NetworkPolicy(expect)),
            issues: vec![]
        }
    );
}

#[test]
fn policy_types_default_as_the_api_server_defaults_them() {
    let table = [
        ("{podSelector: {}}", true, false),
        ("{}", true, false),
        ("{policyTypes: [], egress: []}", true, false),
        ("{egress: [{}]}", true, true),
        ("{policyTypes: null, ingress: null, egress: [{}]}", true, true),
        ("{policyTypes: [Egress]}", false, true),
        ("{policyTypes: [Egress], ingress: [{}]}", false, true),
        ("{policyTypes: [Ingress], egress: [{}]}", true, false),
        ("{policyTypes: [Ingress, Ingress]}", true, false),
        ("{policyTypes: [Ingress, Egress], egress: null}", true, true),
        ("null", true, false),
    ];
    for (spec, ingress, egress) in table {
        let policy = read_policy(spec);
        assert_eq!((policy.ingress.is_some(), policy.egress.is_some()), (ingress, egress), "{spec}");
        assert_eq!(policy.subject, Selector::default(), "{spec}");
    }
}

#[test]
fn absent_empty_and_null_lists_of_a_rule_mean_everything() {
    for rule in ["{}", "{from: []}", "{from: null, ports: null}", "{ports: []}", "{from: [], ports: []}"] {
        assert_eq!(read_rules(&format!("{{ingress: [{rule}]}}")), [allow(None, None)], "{rule}");
    }
    let own = Peer::Pods { namespaces: None, pods: Some(Selector::default()) };
    let rules = read_rules(
        "{ingress: [{from: [{podSelector: {matchLabels: null}, namespaceSelector: null, ipBlock: null}],
                      ports: [{port: null, protocol: null, endPort: null}]}]}",
    );
    let tcp = Port { protocol: Protocol::Tcp, selection: PortSelection::All };
    assert_eq!(rules, [allow(Some(vec![own]), Some(vec![tcp]))]);
}

#[test]
fn a_rule_with_a_part_that_cannot_be_read_is_lost_alone() {
    // The part's place below the rule, and the rule.
    let table = [
        ("", "5"),
        ("", "null"),
        (".form", "{form: []}"),
        (".to", "{to: [{podSelector: {}}]}"),
        (".from", "{from: {podSelector: {}}}"),
        (".from[0]", "{from: [{}]}"),
        (".from[0]", "{from: [null]}"),
        (".from[0]", "{from: [{podSelector: null}]}"),
        (".from[1]", "{from: [{podSelector: {}}, everybody]}"),
        (".from[0].podselector", "{from: [{podSelector: {}, podselector: {}}]}"),
        (".from[0].podSelector", "{from: [{podSelector: []}]}"),
        (".from[0].podSelector.app", "{from: [{podSelector: {app: web}}]}"),
        (".from[0].podSelector.matchLabels", "{from: [{podSelector: {matchLabels: [app]}}]}"),
        (".from[0].podSelector.matchLabels.app", "{from: [{podSelector: {matchLabels: {app: 5}}}]}"),
        (".from[0].podSelector.matchLabels.app", "{from: [{podSelector: {matchLabels: {app: a b}}}]}"),
        (".from[0].podSelector.matchLabels[a/b/c]", "{from: [{podSelector: {matchLabels: {a/b/c: x}}}]}"),
        (
            ".from[0].podSelector.matchLabels[cluster.clusterset.k8s.io]",
            "{from: [{podSelector: {matchLabels: {cluster.clusterset.k8s.io: B}}}]}",
        ),
        (".from[0].podSelector.matchExpressions", "{from: [{podSelector: {matchExpressions: {}}}]}"),
        (".from[0].podSelector.matchExpressions[0]", "{from: [{podSelector: {matchExpressions: [null]}}]}"),
        (
            ".from[0].podSelector.matchExpressions[0].operator",
            "{from: [{podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}]}",
        ),
        (
            ".from[0].podSelector.matchExpressions[0].operator",
            "{from: [{podSelector: {matchExpressions: [{key: a}]}}]}",
        ),
        (
            ".from[0].podSelector.matchExpressions[0].key",
            "{from: [{podSelector: {matchExpressions: [{operator: Exists}]}}]}",
        ),
        (
            ".from[0].podSelector.matchExpressions[0].values",
            "{from: [{podSelector: {matchExpressions: [{key: a, operator: In, values: []}]}}]}",
        ),
        (
            ".from[0].podSelector.matchExpressions[0].values",
            "{from: [{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]}",
        ),
        (
            ".from[0].podSelector.matchExpressions[0].values[1]",
            "{from: [{podSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b, true]}]}}]}",
        ),
        (
            ".from[0].podSelector.matchExpressions[0].values[0]",
            "{from: [{podSelector: {matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: NotIn, values: ['']}]}}]}",
        ),
        (
            ".from[0].podSelector.matchExpressions[0].value",
            "{from: [{podSelector: {matchExpressions: [{key: a, operator: Exists, value: b}]}}]}",
        ),
        (".from[0].ipBlock.cidr", "{from: [{ipBlock: {}}]}"),
        (".from[0].ipBlock.cidr", "{from: [{ipBlock: {cidr: 10.0.0.0}}]}"),
        (".from[0].ipBlock.cidr", "{from: [{ipBlock: {cidr: 010.0.0.0/8}}]}"),
        (".from[0].ipBlock.cidr", "{from: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]}"),
        (".from[0].ipBlock.ciddr", "{from: [{ipBlock: {cidr: 10.0.0.0/8, ciddr: x}}]}"),
        (".from[0].ipBlock.except", "{from: [{ipBlock: {cidr: 10.0.0.0/8, except: 10.1.0.0/16}}]}"),
        (".from[0].ipBlock.except[0]", "{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}"),
        (".from[0].ipBlock.except[1]", "{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 11.0.0.0/16]}}]}"),
        (".from[0].ipBlock.except[0]", "{from: [{ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/64']}}]}"),
        (".from[0].ipBlock.except[0]", "{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [0.0.0.0/0]}}]}"),
        (".from[0].ipBlock", "{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}"),
        (".ports", "{ports: 80}"),
        (".ports[0]", "{ports: [80]}"),
        (".ports[0]", "{ports: [null]}"),
        (".ports[0].name", "{ports: [{name: http}]}"),
        (".ports[0].port", "{ports: [{port: '80'}]}"),
        (".ports[0].port", "{ports: [{port: 0080}]}"),
        (".ports[0].port", "{ports: [{port: ''}]}"),
        (".ports[0].port", "{ports: [{port: HTTP}]}"),
        (".ports[0].port", "{ports: [{port: 0}]}"),
        (".ports[0].port", "{ports: [{port: 65536}]}"),
        (".ports[0].port", "{ports: [{port: -1}]}"),
        (".ports[0].port", "{ports: [{port: 80.5}]}"),
        (".ports[0].port", "{ports: [{port: [80]}]}"),
        (".ports[0].protocol", "{ports: [{protocol: tcp}]}"),
        (".ports[0].protocol", "{ports: [{protocol: ICMP}]}"),
        (".ports[0].protocol", "{ports: [{protocol: 6}]}"),
        (".ports[0].endPort", "{ports: [{port: 80, endPort: 79}]}"),
        (".ports[0].endPort", "{ports: [{port: http, endPort: 90}]}"),
        (".ports[0].endPort", "{ports: [{endPort: 90}]}"),
        (".ports[0].endPort", "{ports: [{port: 80, endPort: '90'}]}"),
    ];
    for (place, rule) in table {
        let reading = policy(&format!("{{ingress: [{{}}, {rule}]}}"));
        let field = format!("spec.ingress[1]{place}");
        let expect = vec![(IssueCode::UnreadableRule, Level::Error, field.as_str())];
        assert_eq!(told(&reading.issues), expect, "{rule}");
        let Some(Object::NetworkPolicy(policy)) = reading.object else { panic!("{rule}") };
        assert_eq!(policy.ingress, Some(vec![allow(None, None), Rule::Unreadable]), "{rule}");
    }
}

#[test]
fn every_part_of_a_rule_that_cannot_be_read_is_named() {
    let reading =
        policy("{egress: [{x: 1, to: [{}, {ipBlock: {cidr: x, y: 2}}], ports: [{port: '1'}, {endPort: 2}]}]}");
    let fields: Vec<&str> = reading.issues.iter().map(|issue| issue.field.as_str()).collect();
    let rule = "spec.egress[0]";
    let expect = [".x", ".to[0]", ".to[1].ipBlock.y", ".to[1].ipBlock.cidr", ".ports[0].port", ".ports[1].endPort"];
    assert_eq!(fields, expect.map(|place| format!("{rule}{place}")));
    let first = &reading.issues[0];
    assert_eq!(first.object, "c/NetworkPolicy/shop/web");
    assert_eq!(first.message, "is no field that is known here (to, ports)");
}

#[test]
fn what_is_no_list_of_rules_isolates_and_allows_nothing() {
    for (spec, field) in [("{ingress: {}}", "spec.ingress"), ("{ingress: all}", "spec.ingress")] {
        let reading = policy(spec);
        assert_eq!(told(&reading.issues), [(IssueCode::UnreadableRule, Level::Error, field)]);
        let Some(Object::NetworkPolicy(policy)) = reading.object else { panic!("{spec}") };
        assert_eq!((policy.ingress, policy.egress), (Some(vec![Rule::Unreadable]), None), "{spec}");
    }
    let Some(Object::NetworkPolicy(policy)) = policy("{egress: {}}").object else { panic!() };
    assert_eq!((policy.ingress, policy.egress), (Some(vec![]), Some(vec![Rule::Unreadable])));
}

#[test]
fn a_subject_or_type_that_cannot_be_read_loses_the_policy() {
    let table = [
        ("spec", "5"),
        ("spec.podSelector", "{podSelector: web}"),
        ("spec.podSelector.matchlabels", "{podSelector: {matchlabels: {a: b}}}"),
        ("spec.podSelector.matchLabels.a", "{podSelector: {matchLabels: {a: -b}}}"),
        ("spec.policyTypes", "{policyTypes: Ingress}"),
        ("spec.policyTypes[1]", "{policyTypes: [Ingress, egress]}"),
        ("spec.policyTypes[0]", "{policyTypes: [null]}"),
        ("spec.policyTypes", "{policyTypes: [Ingress, Egress, Ingress]}"),
    ];
    for (field, spec) in table {
        let reading = policy(spec);
        assert_eq!(told(&reading.issues), [(IssueCode::UnreadablePolicy, Level::Error, field)], "{spec}");
        assert_eq!(reading.object, None, "{spec}");
    }
}

#[test]
fn unknown_fields_of_a_spec_are_ignored_with_a_warning() {
    let reading = policy("{podSelector: {}, polcyTypes: [Egress], priority: null}");
    assert_eq!(told(&reading.issues), [(IssueCode::UnknownField, Level::Warning, "spec.polcyTypes")]);
    assert!(reading.object.is_some());
}

#[test]
fn a_bad_rule_of_a_direction_that_is_not_isolated_is_a_warning() {
    let reading = policy("{policyTypes: [Ingress], egress: [{to: [{}]}]}");
    assert_eq!(told(&reading.issues), [(IssueCode::UnreadableRule, Level::Warning, "spec.egress[0].to[0]")]);
    let Some(Object::NetworkPolicy(policy)) = reading.object else { panic!() };
    assert_eq!((policy.ingress, policy.egress), (Some(vec![]), None));
}

#[test]
fn values_of_cluster_keys_are_cluster_ids() {
    let long = format!("{}.{}", "a".repeat(63), "b".repeat(63));
    let rules = read_rules(&format!(
        "{{ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{cluster.clusterset.k8s.io: ''}},
           matchExpressions: [{{key: io.cilium.k8s.policy.cluster, operator: In, values: [{long}]}}]}}}}]}}]}}"
    ));
    let namespaces = selector(&[("cluster.clusterset.k8s.io", is("")), ("io.cilium.k8s.policy.cluster", is(&long))]);
    assert_eq!(rules, [allow(Some(vec![Peer::Pods { namespaces: Some(namespaces), pods: None }]), None)]);
}

#[test]
fn an_absent_label_value_is_the_empty_one() {
    assert_eq!(
        read_policy("{podSelector: {matchLabels: {a: , b: ''}}}").subject,
        selector(&[("a", is("")), ("b", is(""))])
    );
}

#[test]
fn host_bits_are_masked_with_a_warning() {
    let reading = policy("{ingress: [{from: [{ipBlock: {cidr: 10.1.2.3/8, except: ['10.5.6.7/16']}}]}]}");
    let place = "spec.ingress[0].from[0].ipBlock";
    let (cidr, except) = (format!("{place}.cidr"), format!("{place}.except[0]"));
    let expect =
        [(IssueCode::MaskedHostBits, Level::Warning, &*cidr), (IssueCode::MaskedHostBits, Level::Warning, &*except)];
    assert_eq!(told(&reading.issues), expect);
    let block = IpBlock { cidr: "10.0.0.0/8".parse().unwrap(), except: vec!["10.5.0.0/16".parse().unwrap()] };
    let Some(Object::NetworkPolicy(policy)) = reading.object else { panic!() };
    assert_eq!(policy.ingress, Some(vec![allow(Some(vec![Peer::Block(block)]), None)]));
}

#[test]
fn scope_annotations_are_read_as_they_are() {
    let known = |scope| Some(ScopeAnnotation::Known(scope));
    let unknown = |text: &str| Some(ScopeAnnotation::Unknown(text.into()));
    let table = [
        ("{}", None),
        ("null", None),
        ("{crosswall.dev/peer-scope: Local}", known(Scope::Local)),
        ("{crosswall.dev/peer-scope: ClusterSet}", known(Scope::ClusterSet)),
        ("{crosswall.dev/peer-scope: clusterset}", unknown("clusterset")),
        ("{crosswall.dev/peer-scope: ''}", unknown("")),
        ("{crosswall.dev/peer-scope: }", unknown("")),
        ("{crosswall.dev/peer-scope: 5}", unknown("5")),
    ];
    for (annotations, expect) in table {
        let yaml = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, annotations: {annotations}}}\n");
        let reading = only(read(&yaml));
        assert_eq!(reading.issues, [], "{annotations}");
        let Some(Object::Namespace(namespace)) = reading.object else { panic!("{annotations}") };
        assert_eq!(namespace.peer_scope, expect, "{annotations}");
    }
}

/// The policy `shop/web` with these annotations and this spec.
fn annotated_policy(annotations: &str, spec: &str) -> Reading {
    only(read(&format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: web, namespace: shop, annotations: {annotations}}}\nspec: {spec}\n"
    )))
}

#[test]
fn an_unknown_scope_of_a_policy_is_an_issue_whether_the_policy_is_applied_or_not() {
    let place = "metadata.annotations[crosswall.dev/peer-scope]";
    let unknown = (IssueCode::UnknownPeerScope, Level::Error, place);
    for value in ["clusterset", "''", "", "5"] {
        let annotations = format!("{{crosswall.dev/peer-scope: {value}}}");
        let applied = annotated_policy(&annotations, "{}");
        assert_eq!(told(&applied.issues), [unknown], "{value}");
        assert!(applied.object.is_some(), "{value}");
        let refused = annotated_policy(&annotations, "{policyTypes: [X]}");
        let types = (IssueCode::UnreadablePolicy, Level::Error, "spec.policyTypes[0]");
        assert_eq!(told(&refused.issues), [unknown, types], "{value}");
        assert_eq!(refused.object, None, "{value}");
    }
    for annotations in ["{crosswall.dev/peer-scope: Local}", "{crosswall.dev/peer-scope: ClusterSet}", "{x: y}", "null"]
    {
        assert_eq!(annotated_policy(annotations, "{}").issues, [], "{annotations}");
    }
}

#[test]
fn a_subject_that_names_a_cluster_is_a_warning_whether_the_policy_is_applied_or_not() {
    let names = (IssueCode::SubjectNamesCluster, Level::Warning, "spec.podSelector");
    for subject in [
        "{matchLabels: {cluster.clusterset.k8s.io: c}}",
        "{matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}]}",
    ] {
        let applied = policy(&format!("{{podSelector: {subject}}}"));
        assert_eq!(told(&applied.issues), [names], "{subject}");
        assert!(applied.object.is_some(), "{subject}");
        let refused = policy(&format!("{{podSelector: {subject}, policyTypes: [X]}}"));
        let types = (IssueCode::UnreadablePolicy, Level::Error, "spec.policyTypes[0]");
        assert_eq!(told(&refused.issues), [names, types], "{subject}");
        assert_eq!(refused.object, None, "{subject}");
    }
}

#[test]
fn the_enforcement_annotation_is_a_warning_that_it_is_not_heeded() {
    let place = "metadata.annotations[crosswall.dev/enforcement]";
    let ignored = (IssueCode::UnsupportedAnnotation, Level::Warning, place);
    for (value, expect) in [
        ("Enforce", vec![]),
        ("Audit", vec![ignored]),
        ("''", vec![ignored]),
        ("", vec![ignored]),
        ("5", vec![ignored]),
    ] {
        let annotations = format!("{{crosswall.dev/enforcement: {value}}}");
        let policy = annotated_policy(&annotations, "{podSelector: {}}");
        assert_eq!(told(&policy.issues), expect, "{value}");
        assert!(policy.object.is_some(), "{value}");
        let yaml = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, annotations: {annotations}}}\n");
        let namespace = only(read(&yaml));
        assert_eq!(told(&namespace.issues), expect, "{value}");
        assert!(namespace.object.is_some(), "{value}");
    }
}

#[test]
fn a_pod_is_read_whole() {
    let reading = pod("
metadata:
  name: web-1
  namespace: shop
  uid: u-1
  creationTimestamp: '2024-02-29T12:34:56Z'
  labels: {app: web, empty: , any: '/ ?'}
spec:
  nodeName: n1
  initContainers: [{name: i, ports: [{name: sidecar, containerPort: 15000}]}]
  containers:
  - {name: a, ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP}]}
  - {name: b}
status:
  phase: Running
  podIP: 10.1.0.5
  podIPs: [{ip: 10.1.0.5}, {ip: 'fd00:1::5'}]
");
    let port = |name: Option<&str>, protocol, number| ContainerPort { name: name.map(Into::into), protocol, number };
    let expect = Pod {
        key: PodKey { cluster: "c".parse().unwrap(), namespace: "shop".into(), name: "web-1".into() },
        uid: "u-1".into(),
        labels: labels(&[("app", "web"), ("empty", ""), ("any", "/ ?")]),
        addresses: addresses(&["10.1.0.5", "fd00:1::5"]),
        ports: vec![
            port(Some("http"), Protocol::Tcp, 8080),
            port(None, Protocol::Udp, 53),
            port(Some("sidecar"), Protocol::Tcp, 15000),
        ],
        node: Some("n1".into()),
        host_network: false,
        lifecycle: Lifecycle::Live,
        created: Some(Timestamp { s: 1_709_210_096, ns: 0 }),
    };
    assert_eq!(
        reading,
        Reading { key: ObjectKey::Pod(expect.key.clone()), object: Some(Object::Pod(expect)), issues: vec![] }
    );
}

#[test]
fn a_pod_needs_little_more_than_a_name() {
    for rest in
        ["{name: p}", "{name: p, namespace: '', labels: null, uid: '', creationTimestamp: null}\nspec: {}\nstatus: {}"]
    {
        let expect = Pod {
            key: PodKey { cluster: "c".parse().unwrap(), namespace: "default".into(), name: "p".into() },
            uid: "c/default/p".into(),
            labels: Labels::new(),
            addresses: vec![],
            ports: vec![],
            node: None,
            host_network: false,
            lifecycle: Lifecycle::Live,
            created: None,
        };
        let reading = pod(&format!("metadata: {rest}\n"));
        assert_eq!((reading.object, reading.issues), (Some(Object::Pod(expect)), vec![]), "{rest}");
    }
}

#[test]
fn phase_and_deletion_tell_where_a_pod_stands() {
    let table = [
        ("null", "{}", Lifecycle::Live),
        ("null", "{phase: Pending, podIP: 10.0.0.1}", Lifecycle::Live),
        ("null", "{phase: Unknown}", Lifecycle::Live),
        ("null", "{phase: Succeeded}", Lifecycle::Finished),
        ("'2024-01-01T00:00:00Z'", "{phase: Failed}", Lifecycle::Finished),
        ("'2024-01-01T00:00:00Z'", "{phase: Running}", Lifecycle::Terminating),
    ];
    for (deleted, status, expect) in table {
        let reading = pod(&format!("metadata: {{name: p, deletionTimestamp: {deleted}}}\nstatus: {status}\n"));
        let Some(Object::Pod(pod)) = reading.object else { panic!("{status}") };
        assert_eq!((pod.lifecycle, reading.issues), (expect, vec![]), "{deleted} {status}");
    }
}

#[test]
fn a_pod_keeps_what_can_be_read_of_its_fields() {
    let reading = pod("
metadata: {name: p, uid: 5, deletionTimestamp: soon}
spec:
  nodeName: [n]
  containers:
  - ports: [{name: a, containerPort: 1}, {name: a, containerPort: 2}, {name: a, containerPort: 3, protocol: UDP}]
  - ports: [{name: b}, {containerPort: http}, {containerPort: 4, protocol: tcp}, {name: B!, containerPort: 5}, 6]
  initContainers: {}
status:
  phase: 1
  podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.1}, {ip: 10.0.0.2}, {ip: 10.0.0.300}, {ip: '::ffff:10.0.0.1'}, {}, {ip: fd00::1}]
");
    let bad = |field| (IssueCode::UnreadableField, Level::Error, field);
    let expect = [
        bad("metadata.uid"),
        bad("spec.nodeName"),
        bad("status.phase"),
        bad("metadata.deletionTimestamp"),
        (IssueCode::ExtraAddress, Level::Warning, "status.podIPs[2].ip"),
        bad("status.podIPs[3].ip"),
        bad("status.podIPs[4].ip"),
        bad("status.podIPs[5].ip"),
        (IssueCode::RepeatedPortName, Level::Warning, "spec.containers[0].ports[1].name"),
        bad("spec.containers[1].ports[0].containerPort"),
        bad("spec.containers[1].ports[1].containerPort"),
        bad("spec.containers[1].ports[2].protocol"),
        bad("spec.containers[1].ports[3].name"),
        bad("spec.containers[1].ports[4]"),
        bad("spec.initContainers"),
    ];
    assert_eq!(told(&reading.issues), expect);
    let Some(Object::Pod(pod)) = reading.object else { panic!() };
    assert_eq!(pod.addresses, addresses(&["10.0.0.1", "fd00::1"]));
    let numbers: Vec<u16> = pod.ports.iter().map(|port| port.number).collect();
    assert_eq!((numbers, pod.lifecycle), (vec![1, 2, 3, 5], Lifecycle::Terminating));
}

#[test]
fn a_pod_whose_labels_or_network_cannot_be_read_is_not_read() {
    let table = [
        ("metadata.labels.app", "metadata: {name: p, labels: {app: 1.10}}"),
        ("metadata.labels", "metadata: {name: p, labels: [app]}"),
        ("spec.hostNetwork", "metadata: {name: p}\nspec: {hostNetwork: 'true'}"),
        ("spec", "metadata: {name: p}\nspec: []"),
    ];
    for (field, yaml) in table {
        let reading = pod(yaml);
        assert_eq!(told(&reading.issues), [(IssueCode::UnreadableObject, Level::Error, field)], "{yaml}");
        assert_eq!(reading.object, None, "{yaml}");
    }
}

#[test]
fn a_node_has_the_addresses_that_are_addresses() {
    let reading = only(read(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 10.0.0.1},
          {type: Hostname, address: n1}, {type: ExternalIP, address: 10.0.0.1}, {type: InternalIP, address: 'fd00::1'}]}\n",
    ));
    let key = NodeKey { cluster: "c".parse().unwrap(), name: "n1".into() };
    let expect = Node { key, addresses: addresses(&["10.0.0.1", "fd00::1"]) };
    assert_eq!((reading.object, reading.issues), (Some(Object::Node(expect)), vec![]));
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

/// Values that often have the names and shapes of Kubernetes' fields, and often do not.
fn any_value() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 34] = [
        "metadata",
        "name",
        "namespace",
        "labels",
        "annotations",
        "spec",
        "status",
        "podSelector",
        "namespaceSelector",
        "matchLabels",
        "matchExpressions",
        "key",
        "operator",
        "values",
        "policyTypes",
        "ingress",
        "egress",
        "from",
        "to",
        "ports",
        "port",
        "endPort",
        "protocol",
        "ipBlock",
        "cidr",
        "except",
        "containers",
        "containerPort",
        "podIPs",
        "ip",
        "items",
        "addresses",
        "hostNetwork",
        "crosswall.dev/peer-scope",
    ];
    const TEXTS: [&str; 12] =
        ["a", "", "In", "Exists", "TCP", "10.0.0.0/8", "10.1.0.0/16", "fd00::1", "Ingress", "InternalIP", "ä", "a/b/c"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u16..=u16::MAX).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(TEXTS.as_slice()).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((proptest::sample::select(NAMES.as_slice()), inner), 0..6).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn arbitrary_values_never_panic_and_never_fail_silently(
        kind in proptest::sample::select(["Pod", "Namespace", "Node", "NetworkPolicy", "List", "PodList"].as_slice()),
        metadata in any_value(),
        spec in any_value(),
        rules in any_value(),
    ) {
        let api_version = if kind == "NetworkPolicy" { "networking.k8s.io/v1" } else { "v1" };
        let named = serde_json::json!({"name": "x", "labels": metadata, "annotations": metadata});
        let documents = [
            spec.clone(),
            serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}),
            serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": named, "spec": spec, "status": rules}),
            serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "items": rules,
                "spec": {"ingress": rules, "egress": [{"to": spec}, {"ports": rules}, {"to": [{"podSelector": rules}]}],
                         "containers": rules}, "status": {"podIPs": rules, "addresses": spec}}),
        ];
        for document in documents {
            let mut readings = Readings::default();
            read_document(&"c".parse().unwrap(), &document, "file", &mut readings);
            for reading in &readings.objects {
                let errors = reading.issues.iter().filter(|issue| issue.level == Level::Error).count();
                prop_assert!(reading.object.is_some() || errors > 0);
                if let Some(Object::NetworkPolicy(policy)) = &reading.object {
                    let rules = policy.ingress.iter().chain(&policy.egress).flatten();
                    let lost = rules.filter(|rule| **rule == Rule::Unreadable).count();
                    prop_assert!(errors >= lost);
                }
            }
        }
    }
}
