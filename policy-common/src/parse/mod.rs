//! What a packet says of itself: addresses, protocol, ports, and what cannot be read of it.

mod extension;
mod ipv4;
mod ipv6;
mod link;
mod plain;
mod transport;

pub use link::{Arp, Link};
pub use plain::{Plain, What};
pub use transport::{Phase, Segment};

use crate::{
    family::{Family, V4, V6},
    packet::Packet,
    tables::EndpointRow,
};

/// The length of an Ethernet header: where the next header starts.
pub const ETHERNET_LENGTH: u32 = 14;

/// IP protocol numbers that the decision knows.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// An IP packet whose addresses can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<A> {
    /// The source address.
    pub source: A,
    /// The destination address.
    pub destination: A,
    /// What it carries.
    pub content: Content,
}

/// What an IP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A packet of a connection (in the wide sense in which ICMP echo and any protocol have connections).
    Segment(Segment),
    /// A message of neighbour, router or multicast listener discovery that is valid only on this link.
    Neighbour(Neighbour),
    /// An ICMP error.
    Error {
        /// Where the packet that it quotes starts.
        quoted_at: u32,
    },
    /// A fragment that is not the first.
    Fragment,
    /// Nothing that can be read.
    Unparsable,
}

/// A message of neighbour, router or multicast listener discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The ICMPv6 type.
    pub kind: u8,
    /// Where the ICMPv6 header starts.
    pub at: u32,
    /// How long the message is.
    pub length: u32,
}

/// The packet that an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<A> {
    /// The source address.
    pub source: A,
    /// The destination address.
    pub destination: A,
    /// The protocol and ports.
    pub segment: Segment,
}

/// What a kind of ICMP message means for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Asks for an echo.
    EchoRequest,
    /// Answers an echo request.
    EchoReply,
    /// Reports that another packet did not arrive.
    Error,
    /// Belongs to this link alone.
    Neighbour,
    /// Anything else.
    Other,
}

/// What differs between the families when packets are read.
pub trait Network: Family {
    /// The number of this family's ICMP.
    const ICMP: u8;
    /// How long the headers of nearly all packets are, as far as they are looked at: an IP header without options or
    /// extensions, and a TCP header up to its flags.
    const USUAL_LENGTH: u32;

    /// The endpoint's own address, unspecified where it has none.
    fn own_address<E: EndpointRow>(endpoint: &E) -> Self::Addr;

    /// Reads the packet behind the Ethernet header; nothing where the addresses cannot be read.
    fn parse<P: Packet + ?Sized>(packet: &P) -> Option<Datagram<Self::Addr>>;

    /// Reads the packet that an ICMP error quotes; nothing where its connection cannot be told.
    fn parse_quoted<P: Packet + ?Sized>(packet: &P, at: u32) -> Option<Quoted<Self::Addr>>;

    /// What an ICMP message is.
    fn icmp_kind(kind: u8, code: u8, hop_limit: u8) -> IcmpKind;

    /// Whether an address means this link alone, as a source or as a target.
    fn is_link_local(address: &Self::Addr) -> bool;

    /// Whether an address is a group's of this link.
    fn is_link_multicast(address: &Self::Addr) -> bool;

    /// Whether an address is a group's.
    fn is_multicast(address: &Self::Addr) -> bool;

    /// The target of a neighbour solicitation or advertisement.
    fn neighbour_target<P: Packet + ?Sized>(packet: &P, message: &Neighbour) -> Option<Self::Addr>;
}

impl Network for V4 {
    const ICMP: u8 = protocol::ICMP;
    const USUAL_LENGTH: u32 = 20 + 14;

    #[inline(always)]
    fn own_address<E: EndpointRow>(endpoint: &E) -> [u8; 4] {
        endpoint.v4()
    }

    #[inline(always)]
    fn parse<P: Packet + ?Sized>(packet: &P) -> Option<Datagram<[u8; 4]>> {
        ipv4::parse(packet)
    }

    #[inline(always)]
    fn parse_quoted<P: Packet + ?Sized>(packet: &P, at: u32) -> Option<Quoted<[u8; 4]>> {
        ipv4::parse_quoted(packet, at)
    }

    #[inline(always)]
    fn icmp_kind(kind: u8, _code: u8, _hop_limit: u8) -> IcmpKind {
        match kind {
            8 => IcmpKind::EchoRequest,
            0 => IcmpKind::EchoReply,
            3 | 11 | 12 => IcmpKind::Error,
            _ => IcmpKind::Other,
        }
    }

    // IPv4 has ARP instead of discovery messages: no packet is parsed as one, so nobody asks.

    #[inline(always)]
    fn is_link_local(_: &[u8; 4]) -> bool {
        false
    }

    #[inline(always)]
    fn is_link_multicast(_: &[u8; 4]) -> bool {
        false
    }

    #[inline(always)]
    fn is_multicast(_: &[u8; 4]) -> bool {
        false
    }

    #[inline(always)]
    fn neighbour_target<P: Packet + ?Sized>(_: &P, _: &Neighbour) -> Option<[u8; 4]> {
        None
    }
}

impl Network for V6 {
    const ICMP: u8 = protocol::ICMPV6;
    const USUAL_LENGTH: u32 = 40 + 14;

    #[inline(always)]
    fn own_address<E: EndpointRow>(endpoint: &E) -> [u8; 16] {
        endpoint.v6()
    }

    #[inline(always)]
    fn parse<P: Packet + ?Sized>(packet: &P) -> Option<Datagram<[u8; 16]>> {
        ipv6::parse(packet)
    }

    #[inline(always)]
    fn parse_quoted<P: Packet + ?Sized>(packet: &P, at: u32) -> Option<Quoted<[u8; 16]>> {
        ipv6::parse_quoted(packet, at)
    }

    #[inline(always)]
    fn icmp_kind(kind: u8, code: u8, hop_limit: u8) -> IcmpKind {
        match kind {
            128 => IcmpKind::EchoRequest,
            129 => IcmpKind::EchoReply,
            1..=4 => IcmpKind::Error,
            // A router would have lowered the hop limit (RFC 4861 §7.1), or not have forwarded (RFC 3810 §5).
            icmp::ROUTER_SOLICITATION..=icmp::NEIGHBOUR_ADVERTISEMENT if hop_limit == 255 && code == 0 => {
                IcmpKind::Neighbour
            }
            icmp::LISTENER_QUERY..=icmp::LISTENER_DONE | icmp::LISTENER_REPORT_V2 if hop_limit == 1 => {
                IcmpKind::Neighbour
            }
            _ => IcmpKind::Other,
        }
    }

    #[inline(always)]
    fn is_link_local(address: &[u8; 16]) -> bool {
        // fe80::/10
        address[0] == 0xfe && address[1] & 0xc0 == 0x80
    }

    #[inline(always)]
    fn is_link_multicast(address: &[u8; 16]) -> bool {
        // ff01::/16 and ff02::/16 (RFC 4291 §2.7)
        address[0] == 0xff && matches!(address[1] & 0x0f, 1 | 2)
    }

    #[inline(always)]
    fn is_multicast(address: &[u8; 16]) -> bool {
        address[0] == 0xff
    }

    #[inline(always)]
    fn neighbour_target<P: Packet + ?Sized>(packet: &P, message: &Neighbour) -> Option<[u8; 16]> {
        packet.load(message.at + 8)
    }
}

/// ICMPv6 types of messages that belong to one link.
pub mod icmp {
    /// Multicast listener query.
    pub const LISTENER_QUERY: u8 = 130;
    /// Multicast listener report, version 1.
    pub const LISTENER_REPORT_V1: u8 = 131;
    /// Multicast listener done.
    pub const LISTENER_DONE: u8 = 132;
    /// Router solicitation.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// Multicast listener report, version 2.
    pub const LISTENER_REPORT_V2: u8 = 143;
}
