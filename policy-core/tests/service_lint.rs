//! The warning of rules that admit the pods behind a Service and not its address: what it is about, and that the oracle
//! agrees.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_core::compile::{Compiler, Subjects};
use policy_core::issues;
use policy_core::model::{
    Allowance, BackendState, Connection, Direction, EndpointSlice, Issue, IssueCode, NetworkPolicy, Peer, Pod, Rule,
    Selector, Service, Transport,
};
use policy_core::oracle::{Oracle, Verdict};
use policy_core::testing::build::{ClusterSetBuilder, PolicyBuilder, RuleBuilder};
use policy_core::testing::{
    abc, block, namespace, namespaces, pod, pods, pods_in, policy, rule, service, slice, worlds,
};
use policy_core::world::World;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::Config;

fn found(set: &ClusterSetBuilder) -> Vec<Issue> {
    let mut compiler = Compiler::new(set.config(), Subjects::Nobody);
    compiler.apply(&set.events());
    let mut issues = issues::of(&compiler);
    issues.retain(|issue| issue.code == IssueCode::ServiceAddressNotAllowed);
    issues
}

/// A pod that asks for names, and two that answer behind a Service: with a rule for DNS as people write it.
fn town() -> ClusterSetBuilder {
    let dns = |name: &str, address: &str| {
        pod(&format!("a/kube-system/{name}")).labels("k8s-app=kube-dns").ip(address).protocol_port("UDP", "dns", 53)
    };
    abc()
        .with(namespace("a/shop"))
        .with(namespace("a/kube-system"))
        .with(pod("a/shop/web").labels("app=web").ip("10.1.0.1"))
        .with(pod("a/shop/api").labels("app=api").ip("10.1.0.2"))
        .with(dns("dns-1", "10.1.0.3"))
        .with(dns("dns-2", "10.1.0.4"))
        .with(service("a/kube-system/kube-dns").ip("10.96.0.10").port("dns", "UDP", 53).port("dns-tcp", "TCP", 53))
        .with(
            slice("a/kube-system/kube-dns-x", "kube-dns")
                .port("dns", "UDP", 53)
                .port("dns-tcp", "TCP", 53)
                .ready("10.1.0.4")
                .ready("10.1.0.3"),
        )
}

fn to_dns() -> RuleBuilder {
    rule().peer(pods_in("kubernetes.io/metadata.name=kube-system", "k8s-app=kube-dns")).ports("UDP/53 TCP/53")
}

fn web(rules: impl IntoIterator<Item = RuleBuilder>) -> PolicyBuilder {
    policy("a/shop/web").select("app=web").egress(rules)
}

/// The fields of the warnings, all on the policy `web`.
#[track_caller]
fn warns(set: &ClusterSetBuilder, expected: &[&str]) {
    let found = found(set);
    assert!(found.iter().all(|issue| issue.object == "a/NetworkPolicy/shop/web"), "{found:#?}");
    let fields: Vec<&str> = found.iter().map(|issue| issue.field.as_str()).collect();
    assert_eq!(fields, expected, "{found:#?}");
}

#[test]
fn dns_by_the_address_of_its_service_is_what_people_miss_first() {
    let found = found(&town().with(web([rule().peer(pods("app=api")), to_dns()])));
    let [issue] = &found[..] else { panic!("{found:#?}") };
    assert_eq!((issue.object.as_str(), issue.field.as_str()), ("a/NetworkPolicy/shop/web", "spec.egress[1]"));
    let named = "admits pods that answer for kube-system/kube-dns (10.96.0.10, UDP/53, TCP/53), but no rule";
    assert!(issue.message.starts_with(named), "{}", issue.message);
    assert!(issue.message.ends_with("to: [{ipBlock: {cidr: 10.96.0.10/32}}]"), "{}", issue.message);
}

#[test]
fn whoever_may_reach_the_address_is_not_warned() {
    let dns = "UDP/53 TCP/53";
    let with = |more: RuleBuilder| town().with(web([to_dns(), more]));
    warns(&with(rule().peer(block("10.96.0.10/32", "")).ports(dns)), &[]);
    warns(&with(rule().peer(block("10.96.0.0/12", ""))), &[]);
    warns(&with(rule().peer(pods("app=none")).peer(block("0.0.0.0/0", ""))), &[]);
    warns(&with(rule().ports(dns)), &[]);
    warns(&with(rule()), &[]);
    // Not all of it.
    warns(&with(rule().peer(block("10.96.0.10/32", "")).ports("UDP/53")), &["spec.egress[0]"]);
    warns(&with(rule().peer(block("10.96.0.0/12", "10.96.0.8/29"))), &["spec.egress[0]"]);
    warns(&with(rule().peer(block("10.97.0.0/16", ""))), &["spec.egress[0]"]);
    warns(&with(rule().peer(block("fd00::/8", ""))), &["spec.egress[0]"]);
    warns(&with(rule().ports("UDP/5353")), &["spec.egress[0]"]);
    // A name is asked of a pod.
    warns(&with(rule().peer(block("10.96.0.10/32", "")).ports("UDP/dns TCP/dns")), &["spec.egress[0]"]);
}

#[test]
fn policies_of_the_same_pods_are_judged_together() {
    let set = town().with(web([to_dns()]));
    let open = |subject: &str| policy("a/shop/all").select(subject).egress([rule().peer(block("10.96.0.10/32", ""))]);
    warns(&set.clone().with(open("")), &[]);
    warns(&set.clone().with(open("app in (web, db)")), &[]);
    warns(&set.clone().with(open("app=api")), &["spec.egress[0]"]);
    let both = |set: ClusterSetBuilder| set.with(policy("a/shop/web").egress([to_dns()]));
    warns(&both(set.clone()).with(open("app=api")), &["spec.egress[0]"]);
    warns(&both(set.clone()).with(open("app=api")).with(open("app in (web, api)")), &[]);
    warns(&set.with(policy("b/shop/all").egress([rule()])), &["spec.egress[0]"]);
}

#[test]
fn only_rules_that_admit_pods_behind_a_service_are_warned_of() {
    let set = town();
    warns(&set.clone().with(web([to_dns()])), &["spec.egress[0]"]);
    warns(&set.clone().with(web([rule().peer(pods("k8s-app=kube-dns"))])), &[]);
    let in_system = |ports: &str| rule().peer(namespaces("kubernetes.io/metadata.name=kube-system")).ports(ports);
    warns(&set.clone().with(web([in_system("UDP/5353")])), &[]);
    warns(&set.clone().with(web([in_system("UDP/dns")])), &["spec.egress[0]"]);
    warns(&set.clone().with(web([in_system("UDP/metrics")])), &[]);
    warns(
        &set.clone().with(web([rule().peer(pods_in("cluster.clusterset.k8s.io=a", "k8s-app"))])),
        &["spec.egress[0]"],
    );
    warns(&set.clone().with(web([rule().peer(pods_in("cluster.clusterset.k8s.io=b", "k8s-app"))])), &[]);
    warns(&set.clone().with(web([rule().peer(pods_in("", "cluster.clusterset.k8s.io!=a"))])), &[]);
    // Without subjects, or egress, or a word about pods.
    warns(&set.clone().with(policy("a/shop/web").select("app=none").egress([to_dns()])), &[]);
    warns(&set.clone().with(policy("a/shop/web").ingress([to_dns()])), &[]);
    warns(&set.clone().with(web([rule().ports("UDP/5353")])), &[]);
    // Nobody answers, or at no address.
    let gone = |object: policy_core::model::Event| set.clone().with(object).with(web([to_dns()]));
    warns(&gone(service("a/kube-system/kube-dns").deleted()), &[]);
    warns(&gone(service("a/kube-system/kube-dns").port("dns", "UDP", 53).into()), &[]);
    warns(&gone(slice("a/kube-system/kube-dns-x", "kube-dns").deleted()), &[]);
    let draining = slice("a/kube-system/kube-dns-x", "kube-dns").port("dns", "UDP", 53).draining("10.1.0.3");
    warns(&gone(draining.into()), &[]);
    let other_family = slice("a/kube-system/kube-dns-x", "kube-dns").port("dns", "UDP", 53).ready("fd00:1::3");
    warns(&gone(other_family.into()), &[]);
    // The address is that of a pod, which selectors may find.
    warns(&gone(service("a/kube-system/kube-dns").ip("10.1.0.1").port("dns", "UDP", 53).into()), &[]);
}

#[test]
fn a_warning_names_some_of_many_services_in_order() {
    let mut set = town().with(web([rule().peer(namespaces(""))]));
    for number in (0..20).rev() {
        let name = format!("a/kube-system/s-{number:02}");
        set = set
            .with(service(&name).ip(&format!("10.96.1.{number}")).port("", "TCP", 80))
            .with(slice(&name, &format!("s-{number:02}")).port("", "TCP", 80).ready("10.1.0.3"));
    }
    let found = found(&set);
    let [issue] = &found[..] else { panic!("{found:#?}") };
    let named = "admits pods that answer for kube-system/kube-dns (10.96.0.10, UDP/53, TCP/53), \
                 kube-system/s-00 (10.96.1.0, TCP/80), kube-system/s-01 (10.96.1.1, TCP/80) and others, but no rule";
    assert!(issue.message.starts_with(named), "{}", issue.message);
}

/// A pod of a policy's namespace whose own addresses nobody else has.
fn bystander(policy: &NetworkPolicy) -> Pod {
    let key = &policy.key;
    pod(&format!("{}/{}/bystander", key.cluster, key.namespace)).ip("10.1.255.254").ip("fd00:1::ffff").build()
}

fn connection(source: &Pod, destination: IpAddr, transport: Transport) -> Connection {
    let own = source.addresses.iter().copied().find(|address| address.is_ipv4() == destination.is_ipv4());
    Connection { source: own.unwrap_or(destination), destination, transport }
}

/// Whether the selectors and ports of a rule admit a destination, by the oracle.
fn admits(world: &World, policy: &NetworkPolicy, rule: &Allowance, destination: IpAddr, transport: Transport) -> bool {
    let selectors = rule.peers.iter().flatten().filter(|peer| matches!(peer, Peer::Pods { .. })).cloned().collect();
    let rule = Rule::Allow(Allowance { peers: Some(selectors), ports: rule.ports.clone() });
    let alone =
        NetworkPolicy { subject: Selector::default(), ingress: None, egress: Some(vec![rule]), ..policy.clone() };
    let subject = bystander(policy);
    let mut world = world.clone();
    world.policies = [(alone.key.clone(), alone)].into();
    world.pods.insert(subject.key.clone(), subject.clone());
    let connection = connection(&subject, destination, transport);
    !Oracle::new(&world).judge(&subject.key, Direction::Egress, &connection).allowed_by.is_empty()
}

/// Whether a policy selects a pod, and its rules count.
fn counts(world: &World, policy: &NetworkPolicy, pod: &Pod, connection: &Connection) -> bool {
    let everybody = Rule::Allow(Allowance { peers: None, ports: None });
    let alone = NetworkPolicy { ingress: None, egress: Some(vec![everybody]), ..policy.clone() };
    let mut world = world.clone();
    world.policies = [(alone.key.clone(), alone)].into();
    !Oracle::new(&world).judge(&pod.key, Direction::Egress, connection).allowed_by.is_empty()
}

/// A port of a Service at one of its addresses.
struct Entry {
    address: IpAddr,
    transport: Transport,
    /// The backends that are ready.
    ready: Vec<(IpAddr, Transport)>,
}

/// The addresses and ports of the local cluster's Services.
fn entries(world: &World) -> Vec<Entry> {
    let mut entries = Vec::new();
    for Service { key, addresses, ports } in world.services.values() {
        let is_of = |slice: &&EndpointSlice| {
            (&slice.key.cluster, &slice.key.namespace, slice.service.as_ref())
                == (&key.cluster, &key.namespace, Some(&key.name))
        };
        for (address, port) in addresses.iter().flat_map(|address| ports.iter().map(move |port| (*address, port))) {
            let mut ready = Vec::new();
            for slice in world.slices.values().filter(is_of) {
                let to = slice.ports.iter().find(|to| to.name == port.name && to.protocol == port.protocol);
                let backends = slice.backends.iter().filter(|backend| backend.state == BackendState::Ready);
                let of_family = backends.filter(|backend| backend.address.is_ipv4() == address.is_ipv4());
                let target = |to: &policy_core::model::TargetPort| Transport::Port(port.protocol, to.number);
                ready.extend(to.iter().flat_map(|to| of_family.clone().map(|it| (it.address, target(to)))));
            }
            entries.push(Entry { address, transport: Transport::Port(port.protocol, port.port), ready });
        }
    }
    entries
}

/// The rules that a warning is due of, found by looking at everything.
fn expected(world: &World) -> BTreeSet<(String, String)> {
    let local = world.config.as_ref().expect("it is configured").local.clone();
    let oracle = Oracle::new(world);
    let entries = entries(world);
    let mut due = BTreeSet::new();
    for policy in world.policies.values().filter(|policy| policy.key.cluster == local) {
        for (item, rule) in policy.egress.iter().flatten().enumerate() {
            let Rule::Allow(rule) = rule else { continue };
            let is_missing = |Entry { address, transport, ready }: &Entry| {
                let is_behind = |(backend, to): &(IpAddr, Transport)| {
                    oracle.owner(&local, *backend).is_some_and(|owner| owner.key.cluster == local)
                        && admits(world, policy, rule, *backend, *to)
                };
                let is_cut = |pod: &&Pod| {
                    let connection = connection(pod, *address, *transport);
                    let end = oracle.judge(&pod.key, Direction::Egress, &connection);
                    pod.key.cluster == local
                        && end.isolated_by.contains(&policy.key)
                        && end.verdict == Verdict::Deny
                        && counts(world, policy, pod, &connection)
                };
                ready.iter().any(is_behind) && world.pods.values().any(|pod| is_cut(&pod))
            };
            if entries.iter().any(is_missing) {
                due.insert((policy.key.to_string(), format!("spec.egress[{item}]")));
            }
        }
    }
    due
}

/// Addresses that blocks of policies hold.
const SERVICES: [&str; 3] = ["203.0.113.7", "10.9.0.1", "2001:db8::7"];

/// A Service of one port and up to two slices, whose backends are some of the pods that there will be.
fn answered() -> impl Strategy<Value = Answered> {
    let protocol = select(vec!["TCP", "TCP", "UDP"]);
    let number = || select(vec![53, 80, 443, 8080]);
    let address = select(&SERVICES[..]);
    (select(vec!["shop", "db"]), address, protocol, number(), vec((number(), vec(any::<Index>(), 0..3)), 0..3))
}

/// A world whose policies are all local and isolate egress, and whose pods have no address of a Service.
fn apt(mut world: World) -> World {
    let local = world.config.as_ref().expect("it is configured").local.clone();
    for mut policy in std::mem::take(&mut world.policies).into_values() {
        policy.key.cluster = local.clone();
        let ingress = policy.ingress.take();
        policy.egress = policy.egress.or(ingress);
        for rule in policy.egress.iter_mut().flatten() {
            // With any ports few rules would admit the backend that there is.
            if let Rule::Allow(Allowance { peers: Some(peers), ports }) = rule
                && peers.len() > 1
            {
                *ports = None;
            }
        }
        world.policies.insert(policy.key.clone(), policy);
    }
    let is_service = |address: &IpAddr| SERVICES.iter().any(|text| *text == address.to_string());
    world.pods.retain(|_, pod| !pod.addresses.iter().any(is_service));
    world
}

type Answered = (&'static str, &'static str, &'static str, u16, Vec<(u16, Vec<Index>)>);

/// The Service and its slices in a world.
fn add(world: &mut World, number: usize, (namespace, address, protocol, port, targets): Answered) {
    let local = world.config.as_ref().expect("it is configured").local.clone();
    let is_v4 = address.contains('.');
    let own = world.pods.values().filter(|pod| pod.key.cluster == local).flat_map(|pod| &pod.addresses);
    let own: Vec<String> = own.filter(|own| own.is_ipv4() == is_v4).map(ToString::to_string).collect();
    let name = format!("{local}/{namespace}/s{number}");
    world.apply(&service(&name).ip(address).port("", protocol, port).into());
    for (at, (target, backends)) in targets.into_iter().enumerate() {
        let mut slice = slice(&format!("{name}-{at}"), &format!("s{number}")).port("", protocol, target);
        for backend in backends.iter().filter(|_| !own.is_empty()) {
            let address: &String = backend.get(own.as_slice());
            slice = slice.ready(address);
        }
        world.apply(&slice.into());
    }
}

/// More pods behind Services than are looked at one by one.
fn crowd(world: &mut World) {
    let local = world.config.as_ref().expect("it is configured").local.clone();
    let range = match local.as_str() {
        "a" => "10.1.2",
        "b" => "10.2.2",
        _ => "10.3.2",
    };
    for number in 0..10 {
        let namespace = if number % 2 == 0 { "shop" } else { "db" };
        let name = format!("{local}/{namespace}/crowd{number}");
        world.apply(&service(&name).ip(&format!("10.9.1.{number}")).port("", "TCP", 80).into());
        let mut slice = slice(&name, &format!("crowd{number}")).port("", "TCP", 80);
        for at in 0..4 {
            let address = format!("{range}.{}", number * 4 + at);
            let app = if at % 2 == 0 { "web" } else { "db" };
            let member = pod(&format!("{name}-{at}")).labels(&format!("app={app},crowd={number}-{at}")).ip(&address);
            world.apply(&member.into());
            slice = slice.ready(&address);
        }
        world.apply(&slice.into());
    }
}

proptest! {
    #![proptest_config(Config { cases: 3000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_warning_is_due_when_the_oracle_cuts_the_address_and_admits_a_backend(
        world in worlds(),
        services in vec(answered(), 1..4),
        is_crowded in prop::bool::weighted(0.1),
    ) {
        let mut world = apt(world);
        if is_crowded {
            crowd(&mut world);
        }
        // Four backends stand for all: of these Services none has more.
        services.into_iter().enumerate().for_each(|(number, it)| add(&mut world, number, it));
        let mut compiler = Compiler::new(world.config.clone().expect("it is configured"), Subjects::Nobody);
        compiler.apply(&world.events());
        let issues = issues::of(&compiler);
        let told = issues.iter().filter(|issue| issue.code == IssueCode::ServiceAddressNotAllowed);
        let told: BTreeSet<(String, String)> = told.map(|it| (it.object.clone(), it.field.clone())).collect();
        prop_assert_eq!(told, expected(&world), "{}", world);
    }
}
