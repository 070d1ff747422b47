//! Builds frames that no socket would send: spoofed sources, SCTP, fragments, anything.

use std::net::IpAddr;

use etherparse::{
    Ethernet2Header, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header,
    PacketBuilder, PacketBuilderStep,
};

use crate::address::Mac;
use crate::error::{Error, Result};

/// The Ethernet part of a frame that is being built; see [`crate::Lab::frame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    source: Mac,
    destination: Mac,
}

/// The addresses of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between {
    /// The source: need not be the sender's.
    pub from: IpAddr,
    /// The destination, of the same family.
    pub to: IpAddr,
}

impl Frame {
    /// Begins a frame.
    #[must_use]
    pub fn new(source: Mac, destination: Mac) -> Self {
        Self { source, destination }
    }

    /// A UDP datagram.
    pub fn udp(self, between: Between, ports: (u16, u16), payload: &[u8]) -> Result<Vec<u8>> {
        let builder = self.ip(between, ip_numbers::UDP)?.udp(ports.0, ports.1);
        let mut frame = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut frame, payload).map_err(unbuildable)?;
        Ok(frame)
    }

    /// A TCP SYN, which opens; `payload` marks it.
    pub fn tcp_syn(self, between: Between, ports: (u16, u16), payload: &[u8]) -> Result<Vec<u8>> {
        let builder = self.ip(between, ip_numbers::TCP)?.tcp(ports.0, ports.1, 1, 64000).syn();
        let mut frame = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut frame, payload).map_err(unbuildable)?;
        Ok(frame)
    }

    /// A TCP segment with ACK, of a connection that nobody opened; `payload` marks it.
    pub fn tcp_ack(self, between: Between, ports: (u16, u16), payload: &[u8]) -> Result<Vec<u8>> {
        let builder = self.ip(between, ip_numbers::TCP)?.tcp(ports.0, ports.1, 1000, 64000).ack(2000);
        let mut frame = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut frame, payload).map_err(unbuildable)?;
        Ok(frame)
    }

    /// An echo request; `payload` marks it.
    pub fn echo_request(self, between: Between, id: u16, payload: &[u8]) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        match between.to {
            IpAddr::V4(_) => self.ip(between, ip_numbers::ICMP)?.icmpv4_echo_request(id, 1).write(&mut frame, payload),
            IpAddr::V6(_) => {
                self.ip(between, ip_numbers::IPV6_ICMP)?.icmpv6_echo_request(id, 1).write(&mut frame, payload)
            }
        }
        .map_err(unbuildable)?;
        Ok(frame)
    }

    /// An SCTP packet (RFC 9260 §3) with one chunk; `value` marks it.
    pub fn sctp(self, between: Between, ports: (u16, u16), chunk: SctpChunk, value: &[u8]) -> Result<Vec<u8>> {
        self.raw(between, IpNumber::SCTP, &sctp_packet(ports, chunk, value)?)
    }

    /// A packet of any protocol: `payload` is all that follows the IP header.
    pub fn raw(self, between: Between, protocol: IpNumber, payload: &[u8]) -> Result<Vec<u8>> {
        let builder = self.ip(between, protocol)?;
        let mut frame = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut frame, protocol, payload).map_err(unbuildable)?;
        Ok(frame)
    }

    /// An IPv4 fragment: `offset` in units of 8 bytes, `more` as in the header's flag;
    /// `payload` is all that follows the IP header.
    pub fn ipv4_fragment(
        self,
        between: Between,
        protocol: IpNumber,
        fragment: Fragment,
        payload: &[u8],
    ) -> Result<Vec<u8>> {
        let IpHeaders::Ipv4(mut header, extensions) = between.headers(protocol)? else {
            return Err(Error::Invalid { what: "an IPv4 fragment needs IPv4 addresses".into() });
        };
        header.identification = fragment.identification;
        header.dont_fragment = false;
        header.more_fragments = fragment.more;
        header.fragment_offset = IpFragOffset::try_new(fragment.offset).map_err(unbuildable)?;
        let builder = self.ethernet().ip(IpHeaders::Ipv4(header, extensions));
        let mut frame = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut frame, protocol, payload).map_err(unbuildable)?;
        Ok(frame)
    }

    fn ethernet(self) -> PacketBuilderStep<Ethernet2Header> {
        PacketBuilder::ethernet2(self.source.0, self.destination.0)
    }

    fn ip(self, between: Between, protocol: IpNumber) -> Result<PacketBuilderStep<IpHeaders>> {
        Ok(self.ethernet().ip(between.headers(protocol)?))
    }
}

/// Which fragment of which packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// The packet's identification.
    pub identification: u16,
    /// In units of 8 bytes.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
}

impl Between {
    fn headers(self, protocol: IpNumber) -> Result<IpHeaders> {
        const TTL: u8 = 64;
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let header = Ipv4Header::new(0, TTL, protocol, from.octets(), to.octets()).map_err(unbuildable)?;
                Ok(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let header = Ipv6Header {
                    source: from.octets(),
                    destination: to.octets(),
                    next_header: protocol,
                    hop_limit: TTL,
                    ..Ipv6Header::default()
                };
                Ok(IpHeaders::Ipv6(header, Ipv6Extensions::default()))
            }
            (from, to) => Err(Error::Invalid { what: format!("{from} and {to} are of different families") }),
        }
    }
}

/// The chunk types that matter to a firewall (RFC 9260 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SctpChunk {
    /// Opens an association.
    Init,
    /// Answers [`SctpChunk::Init`].
    InitAck,
    /// User data.
    Data,
}

impl SctpChunk {
    fn number(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Init => 1,
            Self::InitAck => 2,
        }
    }
}

fn sctp_packet(ports: (u16, u16), chunk: SctpChunk, value: &[u8]) -> Result<Vec<u8>> {
    const CHUNK_HEADER_BYTES: usize = 4;
    let length = u16::try_from(CHUNK_HEADER_BYTES + value.len()).map_err(unbuildable)?;
    // An INIT carries the verification tag 0 (RFC 9260 §8.5.1).
    let tag: u32 = if chunk == SctpChunk::Init { 0 } else { 0x0c05_5011 };
    let mut packet = Vec::new();
    packet.extend(ports.0.to_be_bytes());
    packet.extend(ports.1.to_be_bytes());
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([chunk.number(), 0]);
    packet.extend(length.to_be_bytes());
    packet.extend(value);
    packet.resize(packet.len().next_multiple_of(4), 0);
    // Little-endian, as RFC 9260 Appendix A has it.
    let checksum = crc32c::crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    Ok(packet)
}

fn unbuildable(error: impl std::fmt::Display) -> Error {
    Error::Invalid { what: format!("cannot build the packet: {error}") }
}

/// Protocol numbers, re-exported so that callers need no packet library of their own.
pub use etherparse::IpNumber as Protocol;
use etherparse::ip_number as ip_numbers;
