//! IPv6 headers.

use super::{
    Content, Datagram, ETHERNET_LENGTH, Network, Quoted, Segment,
    extension::{self, Chain, Part},
    transport,
};
use crate::{family::V6, packet::Packet};

const HEADER_LENGTH: u32 = 40;

/// The fields of a header that are looked at.
struct Header {
    payload_length: u32,
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

impl Header {
    #[inline(always)]
    fn parse<P: Packet + ?Sized>(packet: &P, at: u32) -> Option<Self> {
        let [version, _, _, _, length_high, length_low, next_header, hop_limit] = packet.load(at)?;
        let source = packet.load(at + 8)?;
        let destination = packet.load(at + 24)?;
        if version >> 4 != 6 {
            return None;
        }
        let payload_length = u32::from(u16::from_be_bytes([length_high, length_low]));
        Some(Self { payload_length, next_header, hop_limit, source, destination })
    }
}

#[inline(always)]
pub(super) fn parse<P: Packet + ?Sized>(packet: &P) -> Option<Datagram<[u8; 16]>> {
    let header = Header::parse(packet, ETHERNET_LENGTH)?;
    let content = content(packet, &header);
    Some(Datagram { source: header.source, destination: header.destination, content })
}

#[inline(always)]
fn content<P: Packet + ?Sized>(packet: &P, header: &Header) -> Content {
    let start = ETHERNET_LENGTH + HEADER_LENGTH;
    let available = packet.length().wrapping_sub(start);
    let mut length = header.payload_length;
    if length == 0 && available > u32::from(u16::MAX) {
        // BIG TCP and jumbograms (RFC 2675) are longer than the field can say.
        length = available;
    }
    if length > available {
        return Content::Unparsable;
    }
    let Some(chain) = extension::walk(packet, header.next_header, start, start + length) else {
        return Content::Unparsable;
    };
    if chain.part == Part::Later {
        return Content::Fragment;
    }
    let payload = transport::Payload {
        protocol: chain.protocol,
        at: chain.at,
        length: (start + length).wrapping_sub(chain.at),
        whole: chain.part == Part::Whole,
        // Discovery messages are never fragmented (RFC 6980): a fragment gets a hop limit that makes it none.
        hop_limit: if chain.part == Part::Whole { header.hop_limit } else { 0 },
    };
    transport::parse::<V6, P>(packet, &payload)
}

#[inline(always)]
pub(super) fn parse_quoted<P: Packet + ?Sized>(packet: &P, at: u32) -> Option<Quoted<[u8; 16]>> {
    let header = Header::parse(packet, at)?;
    let Chain { protocol, at, part } =
        extension::walk(packet, header.next_header, at + HEADER_LENGTH, packet.length())?;
    if part == Part::Later {
        return None;
    }
    let segment = Segment::parse_quoted(packet, protocol, at, V6::ICMP, V6::icmp_kind)?;
    Some(Quoted { source: header.source, destination: header.destination, segment })
}
