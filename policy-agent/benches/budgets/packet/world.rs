//! The node that packets are judged on: one endpoint, and as many peers as a case wants.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy_core::compile::Subjects;
use policy_core::index::PodEntry;
use policy_core::model::Event;
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Limits, TableState};
use policy_core::testing::{abc, namespace, pod, pods_in, policy, rule};

/// The interface of the endpoint: loopback, which exists in every network namespace.
pub const WEB: u32 = 1;
/// An interface towards other nodes.
pub const UPLINK: u32 = 77;
/// The last four bytes of the first peer's address, in both families.
pub const FIRST_PEER: u32 = 0x0a02_0000;
/// The last four bytes of the first address that is nobody's.
pub const FIRST_STRANGER: u32 = 0x0a80_0000;

/// The endpoint's address.
pub fn web(v6: bool) -> IpAddr {
    if v6 { IpAddr::V6("fd00:1::1".parse().expect("an address")) } else { IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)) }
}

/// A peer's address.
pub fn peer(v6: bool, last: u32) -> IpAddr {
    if v6 {
        let prefix = u128::from("fd00:2::".parse::<Ipv6Addr>().expect("an address"));
        IpAddr::V6(Ipv6Addr::from(prefix | u128::from(last)))
    } else {
        IpAddr::V4(Ipv4Addr::from(last))
    }
}

/// The tables of a node whose endpoint admits `peers` pods of another cluster to TCP/80.
pub fn tables(peers: u32) -> TableState {
    let set = abc()
        .member("b", "10.2.0.0/15 fd00:2::/48")
        .with(namespace("a/shop"))
        .with(namespace("b/shop"))
        .with(pod("a/shop/web").labels("app=web").ip("10.1.0.1").ip("fd00:1::1").node("n1"))
        .with(
            policy("a/shop/in")
                .select("app=web")
                .ingress([rule().peer(pods_in("cluster.clusterset.k8s.io=b", "app=client")).ports("TCP/80")]),
        )
        .with(policy("a/shop/out").select("app=web").no_egress());
    let mut events = set.events();
    events.extend((0..peers).map(|number| {
        let [v4, v6] = [false, true].map(|v6| peer(v6, FIRST_PEER + number).to_string());
        Event::from(pod(&format!("b/shop/client-{number}")).labels("app=client").ip(&v4).ip(&v6))
    }));
    let mut node = Node::new(set.config(), Subjects::OnNode("n1".into()), TableState::default(), Limits::default());
    node.apply(&events);
    let keys: Vec<_> = node.detached().map(PodEntry::key).collect();
    for key in keys {
        node.attach(&key, Attachment { ifindex: WEB, bridge: None });
    }
    node.settle().expect("modelled tables have no limits");
    node.tables().clone()
}
