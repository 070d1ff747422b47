//! NetworkPolicies as they should be.

use super::*;

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
