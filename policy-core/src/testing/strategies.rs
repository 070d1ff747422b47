//! Generated objects and worlds: few names, labels, ports and addresses, so that everything meets everything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option::{self, weighted};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use super::parse;
use crate::model::{
    Allowance, CLUSTER_KEY, CLUSTER_KEY_ALIAS, ClusterConfig, ClusterId, ClusterLabels, ContainerPort, Event, IpBlock,
    Labels, Lifecycle, METADATA_NAME_KEY, Member, Namespace, NamespaceKey, NetworkPolicy, Node, NodeKey, Operator,
    Peer, Pod, PodKey, PolicyKey, PolicyKind, Port, PortSelection, Protocol, Requirement, Rule, Scope, ScopeAnnotation,
    Selector, Text, Timestamp,
};
use crate::world::World;

/// The clusters that can be members, by the number in their addresses.
const CLUSTERS: [(&str, u16); 3] = [("a", 1), ("b", 2), ("c", 3)];
const NAMESPACES: [&str; 3] = ["shop", "db", "ops"];
/// Numbers at which ranges begin and end, and their neighbours.
pub(super) const PORTS: [u16; 10] = [0, 1, 53, 79, 80, 81, 443, 8080, 65534, 65535];
/// Ranges of pods, parts of them, single pods, and the world.
const CIDRS: [&str; 24] = [
    "0.0.0.0/0",
    "0.0.0.0/1",
    "10.0.0.0/8",
    "10.0.0.0/14",
    "10.1.0.0/16",
    "10.1.0.0/30",
    "10.1.0.2/31",
    "10.1.0.1/32",
    "10.1.0.3/32",
    "10.2.0.0/16",
    "10.2.0.0/31",
    "10.2.0.2/32",
    "10.3.0.0/16",
    "10.3.0.1/32",
    "10.9.0.0/24",
    "192.168.0.0/16",
    "192.168.0.1/32",
    "203.0.113.0/24",
    "::/0",
    "fd00::/16",
    "fd00:1::/48",
    "fd00:1::1/128",
    "fd00:2::/64",
    "fd00:2::2/128",
];

/// A ClusterSet of `a` and mostly `b` and `c`; mostly `a` is local, mostly each has its own ranges.
pub fn configs() -> impl Strategy<Value = ClusterConfig> {
    let ranges = || prop_oneof![6 => Just(Ranges::Own), 1 => Just(Ranges::None), 1 => Just(Ranges::Shared)];
    let members = (ranges(), weighted(0.85, ranges()), weighted(0.6, ranges()));
    (members, scopes(), cluster_labels(), prop_oneof![6 => Just(None), 1 => any::<Index>().prop_map(Some)]).prop_map(
        |((a, b, c), default_scope, cluster_labels, local)| {
            let ranges = [Some(a), b, c];
            let joined = CLUSTERS.iter().zip(ranges).filter_map(|(cluster, ranges)| Some((cluster, ranges?)));
            let members: Vec<Member> = joined.map(|((id, number), ranges)| member(id, *number, ranges)).collect();
            let local = local.map_or(0, |index| index.index(members.len()));
            ClusterConfig { local: members[local].id.clone(), default_scope, cluster_labels, members }
        },
    )
}

#[derive(Clone, Copy, Debug)]
enum Ranges {
    Own,
    None,
    Shared,
}

fn member(id: &str, number: u16, ranges: Ranges) -> Member {
    let net = |text: &str| text.parse::<IpNet>().expect("written right here");
    let pod_cidrs = match ranges {
        Ranges::Own => vec![net(&format!("10.{number}.0.0/16")), net(&format!("fd00:{number}::/48"))],
        Ranges::None => Vec::new(),
        Ranges::Shared => vec![net("10.0.0.0/14"), net("fd00::/30")],
    };
    Member { id: parse::cluster(id), pod_cidrs, labels: Labels::new() }
}

/// Both scopes.
pub fn scopes() -> impl Strategy<Value = Scope> {
    select(vec![Scope::Local, Scope::ClusterSet])
}

/// Both label modes.
pub fn cluster_labels() -> impl Strategy<Value = ClusterLabels> {
    select(vec![ClusterLabels::Implicit, ClusterLabels::Explicit])
}

/// A cluster that is mostly a member, as its id and the number in its addresses.
fn clusters() -> impl Strategy<Value = (ClusterId, u16)> {
    prop_oneof![5 => Just(("a", 1)), 4 => Just(("b", 2)), 2 => Just(("c", 3))]
        .prop_map(|(id, number)| (parse::cluster(id), number))
}

fn names(of: &'static [&'static str]) -> impl Strategy<Value = Text> {
    select(of).prop_map(Text::from)
}

/// A namespace object, often with its cluster's id (which counts in `Explicit` mode), sometimes with a wrong one.
pub fn namespace_objects() -> impl Strategy<Value = Namespace> {
    let own_label = prop_oneof![4 => Just(false), 5 => Just(true)];
    (clusters(), names(&NAMESPACES), namespace_labels(), own_label, annotations()).prop_map(
        |((cluster, _), name, mut labels, own_label, peer_scope)| {
            if own_label {
                labels.insert(CLUSTER_KEY.into(), cluster.text().clone());
            }
            Namespace { key: NamespaceKey { cluster, name }, labels, peer_scope }
        },
    )
}

/// Labels of a namespace: few, at times of the kinds that are not believed.
pub fn namespace_labels() -> impl Strategy<Value = Labels> {
    let pairs = vec![("env", "prod"), (CLUSTER_KEY, "b"), (CLUSTER_KEY_ALIAS, "a"), (METADATA_NAME_KEY, "db")];
    let rare = prop_oneof![4 => Just(Vec::new()), 1 => subsequence(pairs, 0..=2)];
    (option::of(names(&["x", "y", ""])), rare).prop_map(|(team, rare)| {
        let team = team.map(|team| ("team".into(), team));
        rare.into_iter().map(|(key, value)| (key.into(), value.into())).chain(team).collect()
    })
}

/// Labels of a pod: few, at times of the kinds that are not believed.
pub fn pod_labels() -> impl Strategy<Value = Labels> {
    let pairs = vec![("tier", "x"), (CLUSTER_KEY, "b"), (CLUSTER_KEY, "a"), (CLUSTER_KEY_ALIAS, "c")];
    let rare = prop_oneof![3 => Just(Vec::new()), 1 => subsequence(pairs, 0..=2)];
    (weighted(0.8, names(&["web", "db"])), rare).prop_map(|(app, rare)| {
        let app = app.map(|app| ("app".into(), app));
        rare.into_iter().map(|(key, value)| (key.into(), value.into())).chain(app).collect()
    })
}

/// A pod of few names, addresses and ports.
pub fn pod_objects() -> impl Strategy<Value = Pod> {
    let identity = (clusters(), names(&NAMESPACES), names(&["p0", "p1", "p2", "p3"]), 0..3_u8);
    let place = (address_seeds(), weighted(0.8, names(&["n1", "n2"])), prop::bool::weighted(0.07));
    let life = (lifecycles(), weighted(0.8, moments()));
    (identity, pod_labels(), place, container_ports(), life).prop_map(
        |(((cluster, number), namespace, name, incarnation), labels, place, ports, (lifecycle, created))| {
            let (addresses, node, host_network) = place;
            let key = PodKey { cluster, namespace, name };
            let uid = format!("{key}#{incarnation}").into();
            let addresses = addresses.resolve(number);
            Pod { key, uid, labels, addresses, ports, node, host_network, lifecycle, created }
        },
    )
}

/// Moments that are the same at times, at times within one second.
fn moments() -> impl Strategy<Value = Timestamp> {
    (0..2_i64, select(vec![0, 1, 999_999_999])).prop_map(|(s, ns)| Timestamp { s, ns })
}

/// Mostly live.
pub fn lifecycles() -> impl Strategy<Value = Lifecycle> {
    prop_oneof![7 => Just(Lifecycle::Live), 2 => Just(Lifecycle::Terminating), 1 => Just(Lifecycle::Finished)]
}

/// Ports of a pod; names repeat, also within one protocol.
pub fn container_ports() -> impl Strategy<Value = Vec<ContainerPort>> {
    let port = (weighted(0.8, port_names()), protocols(), select(&PORTS[1..]));
    vec(port.prop_map(|(name, protocol, number)| ContainerPort { name, protocol, number }), 0..4)
}

fn port_names() -> impl Strategy<Value = Text> {
    names(&["http", "dns"])
}

/// A pod's addresses before its cluster is known.
#[derive(Clone, Debug)]
pub(super) struct AddressSeed {
    v4: bool,
    v6: bool,
    v6_first: bool,
    place: AddressPlace,
    host: u8,
}

#[derive(Clone, Copy, Debug)]
enum AddressPlace {
    Own,
    Of(u16),
    Node,
}

/// Mostly one of four addresses of the own cluster; else another's, a node's, or outside of all.
pub(super) fn address_seeds() -> impl Strategy<Value = AddressSeed> {
    let place = prop_oneof![
        12 => Just(AddressPlace::Own),
        2 => select(vec![1, 2, 9]).prop_map(AddressPlace::Of),
        1 => Just(AddressPlace::Node),
    ];
    let families = prop_oneof![6 => Just((true, false)), 4 => Just((true, true)), 2 => Just((false, true)), 1 => Just((false, false))];
    (families, prop::bool::weighted(0.2), place, 1..4_u8).prop_map(|((v4, v6), v6_first, place, host)| AddressSeed {
        v4,
        v6,
        v6_first,
        place,
        host,
    })
}

impl AddressSeed {
    /// The addresses for a pod of the cluster with this number.
    pub(super) fn resolve(&self, own: u16) -> Vec<IpAddr> {
        let Self { v4, v6, v6_first, place, host } = self;
        let pair = match place {
            AddressPlace::Own => pod_addresses(own, *host),
            AddressPlace::Of(number) => pod_addresses(*number, *host),
            AddressPlace::Node => node_addresses(*host % 2 + 1),
        };
        let mut addresses: Vec<IpAddr> = v4.then_some(pair[0]).into_iter().chain(v6.then_some(pair[1])).collect();
        if *v6_first {
            addresses.reverse();
        }
        addresses
    }
}

fn pod_addresses(cluster: u16, host: u8) -> [IpAddr; 2] {
    let second = u8::try_from(cluster).expect("clusters have numbers below 10");
    let v6 = Ipv6Addr::new(0xfd00, cluster, 0, 0, 0, 0, 0, u16::from(host));
    [Ipv4Addr::new(10, second, 0, host).into(), v6.into()]
}

fn node_addresses(host: u8) -> [IpAddr; 2] {
    [Ipv4Addr::new(192, 168, 0, host).into(), Ipv6Addr::new(0xfd00, 0xff, 0, 0, 0, 0, 0, u16::from(host)).into()]
}

/// Addresses that need not be any pod's.
pub(super) fn other_addresses() -> Vec<IpAddr> {
    let texts =
        ["10.1.0.1", "10.1.0.9", "10.2.0.2", "10.2.255.255", "10.9.0.1", "192.168.0.1", "203.0.113.7", "0.0.0.0"];
    let v6 = ["fd00:1::1", "fd00:1::9", "fd00:2::2", "fd00:9::1", "fd00:ff::1", "2001:db8::7"];
    texts.iter().chain(&v6).map(|text| text.parse().expect("written right here")).collect()
}

/// A node of few names and addresses.
pub fn node_objects() -> impl Strategy<Value = Node> {
    (clusters(), names(&["n1", "n2"]), 1..3_u8, prop::bool::weighted(0.1)).prop_map(
        |((cluster, number), name, host, among_pods)| {
            let addresses = if among_pods { pod_addresses(number, host) } else { node_addresses(host) };
            Node { key: NodeKey { cluster, name }, addresses: addresses.to_vec() }
        },
    )
}

/// A policy; mostly of `a`.
pub fn policy_objects() -> impl Strategy<Value = NetworkPolicy> {
    let cluster = prop_oneof![5 => Just("a"), 2 => Just("b"), 1 => Just("c")].prop_map(parse::cluster);
    let subject = prop_oneof![1 => Just(Selector::default()), 2 => pod_selectors()];
    let rules = |share| weighted(share, vec(rules(), 0..4));
    (cluster, names(&NAMESPACES), names(&["np0", "np1", "np2"]), annotations(), subject, rules(0.75), rules(0.6))
        .prop_map(|(cluster, namespace, name, peer_scope, subject, ingress, egress)| {
            let key = PolicyKey { cluster, kind: PolicyKind::NetworkPolicy, namespace, name };
            NetworkPolicy { key, peer_scope, subject, ingress, egress }
        })
}

/// Mostly no annotation; else either scope or nonsense.
pub fn annotations() -> impl Strategy<Value = Option<ScopeAnnotation>> {
    prop_oneof![
        6 => Just(None),
        2 => scopes().prop_map(|scope| Some(ScopeAnnotation::Known(scope))),
        1 => names(&["", "clusterset"]).prop_map(|value| Some(ScopeAnnotation::Unknown(value))),
    ]
}

/// A rule; some cannot be read.
pub fn rules() -> impl Strategy<Value = Rule> {
    let peers = weighted(0.8, vec(peers(), 1..4));
    let ports = weighted(0.6, vec(ports(), 1..4));
    let allow = (peers, ports).prop_map(|(peers, ports)| Rule::Allow(Allowance { peers, ports }));
    prop_oneof![1 => Just(Rule::Unreadable), 12 => allow]
}

/// A peer of any form.
pub fn peers() -> impl Strategy<Value = Peer> {
    prop_oneof![
        2 => namespace_selectors().prop_map(|it| Peer::Pods { namespaces: Some(it), pods: None }),
        2 => pod_selectors().prop_map(|it| Peer::Pods { namespaces: None, pods: Some(it) }),
        2 => (namespace_selectors(), pod_selectors())
            .prop_map(|(namespaces, pods)| Peer::Pods { namespaces: Some(namespaces), pods: Some(pods) }),
        3 => blocks().prop_map(Peer::Block),
    ]
}

/// A block with the holes that lie inside it.
pub fn blocks() -> impl Strategy<Value = IpBlock> {
    let cidrs = || select(&CIDRS).prop_map(|text| text.parse::<IpNet>().expect("written right here"));
    (cidrs(), vec(cidrs(), 0..5)).prop_map(|(cidr, mut except)| {
        except.retain(|hole| cidr.contains(hole) && *hole != cidr);
        IpBlock { cidr, except }
    })
}

/// A selector over labels of namespaces.
pub fn namespace_selectors() -> impl Strategy<Value = Selector> {
    selectors(prop_oneof![
        4 => requirements("team", &["x", "y", ""]),
        1 => requirements("env", &["prod"]),
        2 => requirements(METADATA_NAME_KEY, &NAMESPACES),
        3 => requirements(CLUSTER_KEY, &["a", "b", "c", "stranger"]),
        1 => requirements(CLUSTER_KEY_ALIAS, &["a", "b", "c"]),
    ])
}

/// A selector over labels of pods.
pub fn pod_selectors() -> impl Strategy<Value = Selector> {
    selectors(prop_oneof![
        6 => requirements("app", &["web", "db"]),
        1 => requirements("tier", &["x", "y"]),
        2 => requirements(CLUSTER_KEY, &["a", "b", "c", "stranger"]),
        1 => requirements(CLUSTER_KEY_ALIAS, &["a", "b", "c"]),
    ])
}

fn selectors(requirement: impl Strategy<Value = Requirement>) -> impl Strategy<Value = Selector> {
    vec(requirement, 0..3).prop_map(|requirements| Selector { requirements })
}

fn requirements(key: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = Requirement> {
    let some = || vec(names(values), 1..3);
    let operator = prop_oneof![
        4 => some().prop_map(Operator::In),
        2 => some().prop_map(Operator::NotIn),
        1 => Just(Operator::Exists),
        1 => Just(Operator::DoesNotExist),
    ];
    operator.prop_map(|operator| Requirement { key: key.into(), operator })
}

/// A port of a rule; ranges begin and end at the same few numbers.
pub fn ports() -> impl Strategy<Value = Port> {
    let range = (select(&PORTS), select(&PORTS)).prop_map(|(one, other)| (one.min(other), one.max(other)));
    let selection = prop_oneof![
        1 => Just(PortSelection::All),
        2 => select(&PORTS).prop_map(|port| PortSelection::Range(port, port)),
        2 => range.prop_map(|(first, last)| PortSelection::Range(first, last)),
        3 => names(&["http", "dns", "nobodys"]).prop_map(PortSelection::Named),
    ];
    (protocols(), selection).prop_map(|(protocol, selection)| Port { protocol, selection })
}

/// Mostly TCP.
pub fn protocols() -> impl Strategy<Value = Protocol> {
    prop_oneof![3 => Just(Protocol::Tcp), 2 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)]
}

/// A world with up to a dozen pods.
pub fn worlds() -> impl Strategy<Value = World> {
    let objects = (vec(namespace_objects(), 0..10), vec(node_objects(), 0..4), vec(pod_objects(), 0..14));
    (configs(), objects, vec(policy_objects(), 0..7)).prop_map(|(config, (namespaces, nodes, pods), policies)| {
        let mut world = World::default();
        world.apply(&Event::Configured(config));
        namespaces.into_iter().for_each(|namespace| world.apply(&Event::NamespaceApplied(namespace)));
        nodes.into_iter().for_each(|node| world.apply(&Event::NodeApplied(node)));
        pods.into_iter().for_each(|pod| world.apply(&Event::PodApplied(pod)));
        policies.into_iter().for_each(|policy| world.apply(&Event::PolicyApplied(policy)));
        world
    })
}
