//! Rules of which a part cannot be read.

use super::*;

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
fn a_bad_rule_of_a_direction_that_is_not_isolated_is_a_warning() {
    let reading = policy("{policyTypes: [Ingress], egress: [{to: [{}]}]}");
    assert_eq!(told(&reading.issues), [(IssueCode::UnreadableRule, Level::Warning, "spec.egress[0].to[0]")]);
    let Some(Object::NetworkPolicy(policy)) = reading.object else { panic!() };
    assert_eq!((policy.ingress, policy.egress), (Some(vec![]), None));
}
