//! Packets between the endpoint and its peers.

use std::net::IpAddr;

use etherparse::{PacketBuilder, PacketBuilderStep, TcpHeader};

/// The port that peers send from.
pub const PEER_PORT: u16 = 40_000;

/// Which way a packet goes, past which hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the endpoint: `from_pod`.
    Out,
    /// To the endpoint: `to_pod`.
    In,
}

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// A TCP connection is opened.
    Syn,
    /// It goes on.
    Ack,
    /// It ends from one side.
    Fin,
    /// It is torn down; of a connection that is not known nothing is remembered.
    Rst,
    /// A datagram.
    Udp,
}

/// A packet between a port of the endpoint and a peer.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Which way it goes.
    pub way: Way,
    /// What it is, from the Ethernet header on.
    pub frame: Vec<u8>,
    peer_port_at: usize,
}

impl Packet {
    /// Between `own` and `peer`, from or to [`PEER_PORT`].
    pub fn new(way: Way, own: IpAddr, own_port: u16, peer: IpAddr, says: Says) -> Self {
        let (from, to, ports) = match way {
            Way::Out => (own, peer, (own_port, PEER_PORT)),
            Way::In => (peer, own, (PEER_PORT, own_port)),
        };
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let (ip, length) = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (ethernet.ipv4(from.octets(), to.octets(), 64), 20),
            (IpAddr::V6(from), IpAddr::V6(to)) => (ethernet.ipv6(from.octets(), to.octets(), 64), 40),
            _ => panic!("{from} and {to} are of two families"),
        };
        let peer_port_at = 14 + length + if way == Way::Out { 2 } else { 0 };
        Self { way, frame: transport(ip, ports, says), peer_port_at }
    }

    /// The same of another connection: the peer's port is another one.
    pub fn peer_port(&mut self, port: u16) {
        self.frame[self.peer_port_at..self.peer_port_at + 2].copy_from_slice(&port.to_be_bytes());
    }
}

fn transport(ip: PacketBuilderStep<etherparse::IpHeaders>, ports: (u16, u16), says: Says) -> Vec<u8> {
    let mut frame = Vec::new();
    let written = if says == Says::Udp {
        ip.udp(ports.0, ports.1).write(&mut frame, b"storm")
    } else {
        let mut header = TcpHeader::new(ports.0, ports.1, 1000, 64_000);
        header.syn = says == Says::Syn;
        header.ack = matches!(says, Says::Ack | Says::Fin);
        header.fin = says == Says::Fin;
        header.rst = says == Says::Rst;
        ip.tcp_header(header).write(&mut frame, &[])
    };
    written.expect("a packet");
    frame
}
