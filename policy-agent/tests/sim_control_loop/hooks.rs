//! The hooks of the modelled kernel: packets, and what the decision function says of them over modelled tables.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use policy_common::decide::{Context, Verdict, from_pod, to_pod};
use policy_common::table::{Endpoint, HAS_V4, HAS_V6, IFINDEX_HOST};
use policy_core::model::{Direction, Protocol};
use policy_core::modelled::{Flows, Modelled};
use policy_core::plan::TableState;

/// The interface by which packets of other nodes arrive.
pub const UPLINK: u32 = 900;
/// In place of an interface: a socket of the node sends the packet.
pub const SOCKET: u32 = 0;

/// What a packet of a connection is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It opens it.
    Opens,
    /// It goes on.
    GoesOn,
}

/// A packet from one address and port to another.
pub fn packet(from: (IpAddr, u16), to: (IpAddr, u16), protocol: Protocol, part: Part) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let builder = match (from.0, to.0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
        ends => panic!("two families: {ends:?}"),
    };
    let mut bytes = Vec::with_capacity(80);
    let written = match (protocol, part) {
        (Protocol::Tcp, Part::Opens) => builder.tcp(from.1, to.1, 1, 64_000).syn().write(&mut bytes, &[]),
        (Protocol::Tcp, Part::GoesOn) => builder.tcp(from.1, to.1, 1, 64_000).ack(1).write(&mut bytes, &[]),
        (Protocol::Udp | Protocol::Sctp, _) => builder.udp(from.1, to.1).write(&mut bytes, &[]),
    };
    written.expect("it fits into a vector");
    bytes
}

/// The addresses of an element of `endpoints`.
pub fn own_addresses(endpoint: &Endpoint) -> Vec<IpAddr> {
    let v4 = (endpoint.flags & HAS_V4 != 0).then(|| IpAddr::from(endpoint.v4));
    let v6 = (endpoint.flags & HAS_V6 != 0).then(|| IpAddr::from(endpoint.v6));
    v4.into_iter().chain(v6).collect()
}

/// The interface by which packets of an address come, as the tables have it.
pub fn arrival(tables: &TableState, source: IpAddr) -> u32 {
    match tables.local.get(&source) {
        Some(local) if local.ifindex != IFINDEX_HOST => local.ifindex,
        _ => UPLINK,
    }
}

/// Whether the tables know an address as the node's own.
pub fn is_host(tables: &TableState, address: IpAddr) -> bool {
    tables.local.get(&address).is_some_and(|local| local.ifindex == IFINDEX_HOST)
}

/// What the hook of an interface says of a packet: one that leaves the endpoint, or one that arrives by an interface.
pub fn judge(tables: &Modelled<'_>, ifindex: u32, direction: Direction, arrival: u32, packet: &[u8]) -> Verdict {
    match direction {
        Direction::Egress => {
            from_pod(packet, &Context { ifindex, ingress_ifindex: ifindex, has_socket: false }, tables)
        }
        Direction::Ingress => {
            to_pod(packet, &Context { ifindex, ingress_ifindex: arrival, has_socket: arrival == SOCKET }, tables)
        }
    }
}

/// The same, with flows that are remembered.
pub fn judge_with(
    tables: &TableState,
    flows: &mut Flows,
    now_s: u32,
    (ifindex, direction, arrival): (u32, Direction, u32),
    packet: &[u8],
) -> Verdict {
    let mut modelled = Modelled::with_flows(tables, std::mem::take(flows));
    modelled.now_s = now_s;
    let verdict = judge(&modelled, ifindex, direction, arrival, packet);
    *flows = modelled.into_flows();
    verdict
}
