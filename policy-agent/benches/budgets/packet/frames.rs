//! TCP segments between the endpoint and a peer.

use std::net::IpAddr;

use anyhow::Result;
use etherparse::PacketBuilder;

use super::world::{self, FIRST_PEER};

/// The peer's port.
pub const PEER_PORT: u16 = 1024;
/// The port that the endpoint serves.
pub const SERVED: u16 = 80;

/// What a segment says.
#[derive(Clone, Copy)]
pub enum Flag {
    /// A connection is opened.
    Syn,
    /// It goes on.
    Ack,
}

/// Which way a segment goes.
#[derive(Clone, Copy)]
pub enum Way {
    /// From the peer to a port of the endpoint.
    In(u16),
    /// Back to the peer.
    Out(u16),
}

/// The frame of a segment.
pub fn tcp(v6: bool, way: Way, flag: Flag) -> Result<Vec<u8>> {
    let (web, peer) = (world::web(v6), world::peer(v6, FIRST_PEER));
    let (from, to, ports) = match way {
        Way::In(port) => (peer, web, (PEER_PORT, port)),
        Way::Out(port) => (web, peer, (port, PEER_PORT)),
    };
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
        _ => anyhow::bail!("two families"),
    };
    let segment = ip.tcp(ports.0, ports.1, 1, 64_000);
    let segment = match flag {
        Flag::Syn => segment.syn(),
        Flag::Ack => segment.ack(1),
    };
    let mut frame = Vec::new();
    segment.write(&mut frame, &[])?;
    Ok(frame)
}

/// Where a frame that comes in has the last four bytes of the peer's address, and the peer's port.
pub fn places(v6: bool) -> (u32, u32) {
    if v6 { (14 + 8 + 12, 14 + 40) } else { (14 + 12, 14 + 20) }
}
