//! Connects namespaces: the fabric between nodes, uplinks, pods behind a veth or a bridge, and the routes.

use std::net::IpAddr;
use std::sync::Arc;
use std::thread;

use crate::address::{
    Addresses, FABRIC_V4, FABRIC_V6, GATEWAY_MAC, Mac, NodeIndex, OUTSIDE_V4, OUTSIDE_V6, PTP_GATEWAY_V4,
    PTP_GATEWAY_V6,
};
use crate::error::Result;
use crate::host::NextHop;
use crate::ip::{IpBatch, ip};
use crate::netns::NetNs;
use crate::spec::Wiring;

/// The interface of pods, outside hosts, and of nodes towards the other nodes.
pub(crate) const ETH0: &str = "eth0";
/// The bridge of a node in bridge wiring.
pub(crate) const BRIDGE: &str = "cni0";
/// The bridge of the fabric.
const FABRIC_BRIDGE: &str = "br0";

/// What every host needs: addresses usable at once (no DAD, RFC 4862 §5.4), no routes from
/// advertisements, no source filter of the kernel's own that would hide what the lab tests,
/// no rate limit on ICMP errors, ICMP sockets without privileges.
const HOST_SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/dad_transmits", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/icmp_ratelimit", "0"),
    ("net/ipv6/icmp/ratelimit", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
];

/// What nodes need besides: forwarding, and no advice to pods to go around them.
const NODE_SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/forwarding", "1"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
];

const FABRIC_SYSCTLS: &[(&str, &str)] =
    &[("net/ipv6/conf/all/disable_ipv6", "1"), ("net/ipv6/conf/default/disable_ipv6", "1")];

/// Batches for several namespaces, which run at the same time.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    batches: Vec<(Arc<NetNs>, IpBatch)>,
}

impl Batches {
    /// The batch of a namespace.
    pub(crate) fn of(&mut self, namespace: &Arc<NetNs>) -> &mut IpBatch {
        let found = self.batches.iter().position(|(known, _)| Arc::ptr_eq(known, namespace));
        let index = found.unwrap_or_else(|| {
            self.batches.push((Arc::clone(namespace), IpBatch::new()));
            self.batches.len() - 1
        });
        &mut self.batches[index].1
    }

    /// The namespaces that have a batch.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Arc<NetNs>> {
        self.batches.iter().map(|(namespace, _)| namespace)
    }

    /// Runs them, a few at a time.
    pub(crate) fn run(&self) -> Result<()> {
        in_parallel(&self.batches, |(namespace, batch)| batch.run(namespace))
    }
}

/// Applies `work` to all items on a handful of threads; the first error wins.
pub(crate) fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    const THREADS: usize = 4;
    let share = items.len().div_ceil(THREADS).max(1);
    let work = &work;
    thread::scope(|scope| {
        let handles: Vec<_> =
            items.chunks(share).map(|chunk| scope.spawn(move || chunk.iter().try_for_each(work))).collect();
        handles.into_iter().try_for_each(|handle| match handle.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// What a namespace is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Fabric,
    Node,
    /// A pod or an outside host.
    Leaf,
}

/// Sets the sysctls of a fresh namespace, before it has interfaces that would inherit them.
pub(crate) fn prepare(namespace: &NetNs, role: Role) -> Result<()> {
    match role {
        Role::Fabric => namespace.sysctls(FABRIC_SYSCTLS),
        Role::Leaf => namespace.sysctls(HOST_SYSCTLS),
        Role::Node => namespace.sysctls(&[HOST_SYSCTLS, NODE_SYSCTLS].concat()),
    }
}

/// The switch between nodes and outside hosts.
pub(crate) fn fabric(batch: &mut IpBatch) {
    ip!(batch, "link add {FABRIC_BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
    ip!(batch, "link set {FABRIC_BRIDGE} up");
}

/// Connects the fabric's end of an uplink.
pub(crate) fn fabric_port(batch: &mut IpBatch, port: &str) {
    ip!(batch, "link set {port} master {FABRIC_BRIDGE}");
    ip!(batch, "link set {port} up");
}

/// A node's uplink and, in bridge wiring, its bridge.
pub(crate) fn node(batch: &mut IpBatch, index: NodeIndex, wiring: Wiring, fabric: &NetNs, port: &str) {
    let (v4, v6) = index.node_addresses();
    uplink(batch, index.mac(0), fabric, port);
    ip!(batch, "addr add {v4}/{} dev {ETH0}", prefix_length(FABRIC_V4));
    ip!(batch, "addr add {v6}/{} dev {ETH0} nodad", prefix_length(FABRIC_V6));
    ip!(batch, "route add {OUTSIDE_V4} dev {ETH0}");
    ip!(batch, "route add {OUTSIDE_V6} dev {ETH0}");
    if wiring == Wiring::Bridge {
        let (gateway_v4, gateway_v6) = index.bridge_addresses();
        ip!(batch, "link add {BRIDGE} address {} type bridge stp_state 0 forward_delay 0", index.mac(1));
        ip!(batch, "link set {BRIDGE} up");
        ip!(batch, "addr add {gateway_v4}/{} dev {BRIDGE}", index.pod_net_v4().prefix_len());
        ip!(batch, "addr add {gateway_v6}/{} dev {BRIDGE} nodad", index.pod_net_v6().prefix_len());
    }
}

/// An outside host: on the fabric, with addresses that no cluster has.
pub(crate) fn outside_host(batch: &mut IpBatch, addresses: Addresses, mac: Mac, fabric: &NetNs, port: &str) {
    uplink(batch, mac, fabric, port);
    for address in addresses.iter() {
        let network = by_family(address, OUTSIDE_V4, OUTSIDE_V6);
        let nodad = by_family(address, "", " nodad");
        ip!(batch, "addr add {address}/{} dev {ETH0}{nodad}", prefix_length(network));
    }
    ip!(batch, "route add {FABRIC_V4} dev {ETH0}");
    ip!(batch, "route add {FABRIC_V6} dev {ETH0}");
}

fn uplink(batch: &mut IpBatch, mac: Mac, fabric: &NetNs, port: &str) {
    ip!(batch, "link set lo up");
    ip!(batch, "link add {ETH0} address {mac} type veth peer name {port} netns {}", fabric.name());
    ip!(batch, "link set {ETH0} up");
}

/// Adds or removes routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Add,
    Remove,
}

impl Change {
    fn verb(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "del",
        }
    }
}

/// Routes to a node's pods by way of the node.
pub(crate) fn routes_to_node(batch: &mut IpBatch, change: Change, to: NodeIndex) {
    let verb = change.verb();
    let (via_v4, via_v6) = to.node_addresses();
    ip!(batch, "route {verb} {} via {via_v4} dev {ETH0} onlink", to.pod_net_v4());
    ip!(batch, "route {verb} {} via {via_v6} dev {ETH0} onlink", to.pod_net_v6());
}

/// A route to one address by way of a node, for pods whose address is not of their node's network.
pub(crate) fn route_to_stray(batch: &mut IpBatch, change: Change, address: IpAddr, node: NodeIndex) {
    let verb = change.verb();
    let (via_v4, via_v6) = node.node_addresses();
    let via = by_family(address, IpAddr::from(via_v4), IpAddr::from(via_v6));
    ip!(batch, "route {verb} {}/{} via {via} dev {ETH0} onlink", address, bits(address));
}

/// Removes an interface and its peer, and with them the routes over them.
pub(crate) fn delete_link(namespace: &NetNs, interface: &str) -> Result<()> {
    let mut batch = IpBatch::new();
    ip!(batch, "link del {interface}");
    batch.run(namespace)
}

/// Removes the route that a bridge has to a pod with an address of another network.
pub(crate) fn remove_stray_from_bridge(batch: &mut IpBatch, address: IpAddr) {
    ip!(batch, "route del {address}/{} dev {BRIDGE}", bits(address));
}

/// What is needed to attach a pod.
#[derive(Debug)]
pub(crate) struct PodLink<'a> {
    pub(crate) node: NodeIndex,
    pub(crate) wiring: Wiring,
    pub(crate) namespace: &'a NetNs,
    /// The host-side interface.
    pub(crate) interface: &'a str,
    pub(crate) mac: Mac,
    pub(crate) addresses: Addresses,
}

impl PodLink<'_> {
    /// Whether an address is of the node's pod network.
    pub(crate) fn is_at_home(node: NodeIndex, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => node.pod_net_v4().contains(&v4),
            IpAddr::V6(v6) => node.pod_net_v6().contains(&v6),
        }
    }

    /// Where the pod sends its frames.
    pub(crate) fn next_hop(&self) -> NextHop {
        match self.wiring {
            Wiring::Ptp => NextHop::Gateway(GATEWAY_MAC),
            Wiring::Bridge => NextHop::Bridge(self.node.mac(1)),
        }
    }

    /// The node's side.
    pub(crate) fn node_side(&self, batch: &mut IpBatch) {
        let (name, mac, pod) = (self.interface, self.mac, self.namespace.name());
        match self.wiring {
            Wiring::Ptp => {
                ip!(
                    batch,
                    "link add {name} address {GATEWAY_MAC} type veth peer name {ETH0} address {mac} netns {pod}"
                );
                ip!(batch, "link set {name} addrgenmode none");
                ip!(batch, "link set {name} up");
                ip!(batch, "addr add {PTP_GATEWAY_V6}/64 dev {name} nodad");
                for address in self.addresses.iter() {
                    ip!(batch, "route add {address}/{} dev {name}", bits(address));
                }
            }
            Wiring::Bridge => {
                ip!(batch, "link add {name} type veth peer name {ETH0} address {mac} netns {pod}");
                ip!(batch, "link set {name} addrgenmode none");
                ip!(batch, "link set {name} master {BRIDGE}");
                ip!(batch, "link set {name} up");
                for address in self.strays() {
                    ip!(batch, "route add {address}/{} dev {BRIDGE}", bits(address));
                }
            }
        }
    }

    /// The pod's side, once the node's side has made the interface.
    pub(crate) fn pod_side(&self, batch: &mut IpBatch) {
        ip!(batch, "link set lo up");
        ip!(batch, "link set {ETH0} up");
        for address in self.addresses.iter() {
            let nodad = by_family(address, "", " nodad");
            let gateway = self.gateway(address);
            let length = self.own_prefix_length(address);
            ip!(batch, "addr add {address}/{length} dev {ETH0}{nodad}");
            if self.wiring == Wiring::Ptp {
                ip!(batch, "neigh replace {gateway} lladdr {GATEWAY_MAC} dev {ETH0} nud permanent");
            }
            ip!(batch, "route add default via {gateway} dev {ETH0} onlink");
        }
    }

    /// Addresses that are not of the node's pod network.
    pub(crate) fn strays(&self) -> impl Iterator<Item = IpAddr> {
        let node = self.node;
        let addresses: Vec<_> = self.addresses.iter().collect();
        addresses.into_iter().filter(move |address| !Self::is_at_home(node, *address))
    }

    fn own_prefix_length(&self, address: IpAddr) -> u8 {
        if self.wiring == Wiring::Ptp || !Self::is_at_home(self.node, address) {
            return bits(address);
        }
        by_family(address, self.node.pod_net_v4().prefix_len(), self.node.pod_net_v6().prefix_len())
    }

    fn gateway(&self, address: IpAddr) -> IpAddr {
        let (v4, v6) = match self.wiring {
            Wiring::Ptp => (PTP_GATEWAY_V4, PTP_GATEWAY_V6),
            Wiring::Bridge => self.node.bridge_addresses(),
        };
        by_family(address, v4.into(), v6.into())
    }
}

/// The name under which a node's own pod veths go: `veth7`.
pub(crate) fn pod_interface(number: u16) -> String {
    format!("veth{number}")
}

fn bits(address: IpAddr) -> u8 {
    by_family(address, 32, 128)
}

fn by_family<T>(address: IpAddr, v4: T, v6: T) -> T {
    match address {
        IpAddr::V4(_) => v4,
        IpAddr::V6(_) => v6,
    }
}

fn prefix_length(network: &str) -> &str {
    network.split_once('/').map_or("", |(_, length)| length)
}
