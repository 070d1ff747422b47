//! A connection as policies judge it: by addresses, and by what is asked of the destination.

use std::net::IpAddr;

use super::Protocol;

/// What a new connection asks of its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// A destination port of a protocol that policies can name.
    Port(Protocol, u16),
    /// An ICMP echo request (ICMPv6 between IPv6 addresses).
    Icmp,
    /// Another IP protocol, by number.
    Other(u8),
}

/// A new connection, named by its opener's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// Who opens it.
    pub source: IpAddr,
    /// Who is asked; of the same family.
    pub destination: IpAddr,
    /// What is asked.
    pub transport: Transport,
}
