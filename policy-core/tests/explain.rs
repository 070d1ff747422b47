//! What keeps a connection out is said of every rule, and of no rule that lets it in.

use policy_common::reason::Reason;
use policy_core::compile::Compiler;
use policy_core::explain::{Finding, Remedy, denial};
use policy_core::judge::opening_packet;
use policy_core::model::{Direction, NetworkPolicy, PodKey, PolicyKey, PolicyKind, Rule, Selector};
use policy_core::simulate::Simulation;
use policy_core::testing::{
    abc, block, cases, connection, ends, namespace, pod, pods, pods_in, policy, rule, worlds_with_connections,
};
use policy_core::world::World;
use proptest::prelude::*;

fn of_rule<'a>(findings: &'a [Finding], policy: &PolicyKey, direction: Direction, item: usize) -> Vec<&'a Finding> {
    let field = format!("spec.{}[{item}]", direction.as_str());
    findings.iter().filter(|finding| finding.policy == *policy && finding.field.starts_with(&field)).collect()
}

fn has_subject_finding(findings: &[Finding], policy: &PolicyKey) -> bool {
    findings.iter().any(|finding| finding.policy == *policy && finding.field == "spec.podSelector")
}

/// The world in which somebody followed the advice.
fn with(world: &World, remedy: &Remedy) -> World {
    let mut world = world.clone();
    let PodKey { cluster, namespace, .. } = &remedy.subject;
    let key = remedy.policy.clone().unwrap_or_else(|| PolicyKey {
        cluster: cluster.clone(),
        kind: PolicyKind::NetworkPolicy,
        namespace: namespace.clone(),
        name: "remedy".into(),
    });
    let policy = world.policies.entry(key.clone()).or_insert_with(|| NetworkPolicy {
        key,
        peer_scope: None,
        subject: Selector::default(),
        ingress: None,
        egress: None,
    });
    let rules = match remedy.direction {
        Direction::Egress => &mut policy.egress,
        Direction::Ingress => &mut policy.ingress,
    };
    rules.get_or_insert_default().push(Rule::Allow(remedy.rule.clone()));
    world
}

fn unexplained(compiler: &Compiler, isolated_by: &[PolicyKey], direction: Direction, findings: &[Finding]) -> usize {
    let rules = |key: &PolicyKey| compiler.policy(key).and_then(|policy| policy.rules(direction)).map_or(0, <[_]>::len);
    let silent = |key: &&PolicyKey| !has_subject_finding(findings, key);
    let policies = isolated_by.iter().filter(silent);
    policies.map(|key| (0..rules(key)).filter(|item| of_rule(findings, key, direction, *item).is_empty()).count()).sum()
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn every_rule_that_does_not_allow_says_why_and_no_other((world, connections) in worlds_with_connections(8)) {
        let Some(cluster_set) = &world.config else { return Ok(()) };
        let simulation = Simulation::new(cluster_set, &world.events());
        for connection in connections.iter().filter(|connection| opening_packet(connection).is_some()) {
            for (subject, direction) in ends(&world, connection) {
                let Some(end) = simulation.end(&subject, direction, connection) else { continue };
                let Some(member) = simulation.member(&subject.cluster) else { continue };
                let compiler = member.compiler();
                let denial = denial(compiler, &subject, direction, connection);
                let findings = denial.as_ref().map_or(&[][..], |it| &it.findings);
                match (end.reason, &end.rule) {
                    (Reason::NoRule, _) => {
                        prop_assert_eq!(unexplained(compiler, &end.isolated_by, direction, findings), 0);
                        let remedy = &denial.as_ref().expect("it is a subject").remedy;
                        let mended = with(&world, remedy);
                        let simulation = Simulation::new(cluster_set, &mended.events());
                        let end = simulation.end(&subject, direction, connection).expect("it still is one");
                        prop_assert!(end.allow, "{} does not help: {:?}", remedy, end);
                    }
                    (_, Some(place)) => {
                        let said = of_rule(findings, &place.policy, direction, place.item);
                        prop_assert!(said.is_empty(), "{:?}", said);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// What is said of a connection to `a/shop/web` from `source`: `field: message` lines, and the remedy.
fn ingress_lines(source: &str, transport: &str) -> (Vec<String>, String) {
    let cluster_set = abc()
        .with(namespace("a/shop"))
        .with(namespace("b/db").labels("team=data"))
        .with(pod("a/shop/web").labels("app=web").ip("10.1.0.1"))
        .with(pod("b/db/pg").labels("app=pg").ip("10.2.0.5"))
        .with(policy("a/shop/web").ingress([
            rule().peer(pods_in("team=data", "app=pg")),
            rule().peer(pods("app=front")).peer(block("10.0.0.0/8", "10.2.0.0/16")).ports("TCP/80"),
            rule().peer(pods_in("cluster.clusterset.k8s.io=b", "")).ports("TCP/80 UDP/53"),
        ]));
    let simulation = Simulation::new(&cluster_set.config(), &cluster_set.events());
    let subject: PodKey = pod("a/shop/web").build().key;
    let member = simulation.member(&subject.cluster).expect("a is a member");
    let connection = connection(source, "10.1.0.1", transport);
    let denial = denial(member.compiler(), &subject, Direction::Ingress, &connection).expect("web is a subject");
    (denial.findings.iter().map(|it| format!("{}: {}", it.field, it.message)).collect(), denial.remedy.to_string())
}

#[test]
fn without_explicit_labels_no_label_is_said_to_be_there_and_an_address_is_advised() {
    let cluster_set =
        abc()
            .explicit()
            .with(namespace("a/shop"))
            .with(namespace("b/db").labels("team=data"))
            .with(pod("a/shop/web").ip("10.1.0.1"))
            .with(pod("b/db/pg").ip("10.2.0.5"))
            .with(policy("a/shop/web").ingress([
                rule().peer(pods_in("cluster.clusterset.k8s.io=b", "")),
                rule().peer(pods_in("team=data", "")),
            ]));
    let simulation = Simulation::new(&cluster_set.config(), &cluster_set.events());
    let subject: PodKey = pod("a/shop/web").build().key;
    let compiler = simulation.member(&subject.cluster).expect("a is a member").compiler();
    let connection = connection("10.2.0.5", "10.1.0.1", "TCP/5432");
    let denial = denial(compiler, &subject, Direction::Ingress, &connection).expect("web is a subject");
    let messages: Vec<&str> = denial.findings.iter().map(|it| it.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "needs namespace label cluster.clusterset.k8s.io=b (it has none); and namespace db of b carries no label \
             cluster.clusterset.k8s.io=b, so no cluster-qualified peer finds it",
            "would match, but it names no cluster, so it ranges over a only: annotate the policy with \
             crosswall.dev/peer-scope: ClusterSet",
        ]
    );
    let rule = "{from: [{ipBlock: {cidr: 10.2.0.5/32}}], ports: [{protocol: TCP, port: 5432}]}";
    assert!(denial.remedy.to_string().ends_with(rule), "{}", denial.remedy);
}

#[test]
fn a_near_miss_names_what_is_missing() {
    let (lines, remedy) = ingress_lines("10.2.0.5", "TCP/5432");
    assert_eq!(
        lines,
        [
            "spec.ingress[0].from[0]: would match, but it names no cluster, so it ranges over a only: name \
             cluster.clusterset.k8s.io in it (In [b]), or annotate the policy with crosswall.dev/peer-scope: ClusterSet",
            "spec.ingress[1].from[0]: selects pods of namespace shop only, and the peer is in db; needs pod label \
             app=front (it is \"pg\"); and it names no cluster, so it ranges over a only: name \
             cluster.clusterset.k8s.io in it (In [b]), or annotate the policy with crosswall.dev/peer-scope: ClusterSet",
            "spec.ingress[1].from[1]: 10.2.0.5 lies in the exception 10.2.0.0/16",
            "spec.ingress[1].ports: is only for TCP/80, not TCP/5432",
            "spec.ingress[2].ports: admits b/db/pg, but only for TCP/80, UDP/53, not TCP/5432",
        ]
    );
    assert_eq!(
        remedy,
        "to allow it, add to spec.ingress of shop/web (or another policy that selects the pod): {from: \
         [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: db, cluster.clusterset.k8s.io: b}}}], \
         ports: [{protocol: TCP, port: 5432}]}"
    );
}

#[test]
fn an_address_outside_the_cluster_set_is_remedied_by_a_block() {
    let (lines, remedy) = ingress_lines("192.0.2.1", "ICMP");
    assert_eq!(
        lines[0],
        "spec.ingress[0].from[0]: selects pods, and 192.0.2.1 is no pod's address that selectors can find"
    );
    assert_eq!(
        remedy,
        "to allow it, add to spec.ingress of shop/web (or another policy that selects the pod): {from: [{ipBlock: \
         {cidr: 192.0.2.1/32}}]}"
    );
}
