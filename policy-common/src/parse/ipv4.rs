//! IPv4 headers.

use super::{Content, Datagram, ETHERNET_LENGTH, Network, Quoted, Segment, transport};
use crate::{family::V4, packet::Packet};

const HEADER_LENGTH: u32 = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// The fields of a header that are looked at.
struct Header {
    length: u32,
    total_length: u32,
    fragment: u16,
    hop_limit: u8,
    protocol: u8,
    source: [u8; 4],
    destination: [u8; 4],
}

impl Header {
    #[inline(always)]
    fn parse<P: Packet + ?Sized>(packet: &P, at: u32) -> Option<Self> {
        let h: [u8; 20] = packet.load(at)?;
        let length = u32::from(h[0] & 15) * 4;
        if h[0] >> 4 != 4 || length < HEADER_LENGTH {
            return None;
        }
        Some(Self {
            length,
            total_length: u32::from(u16::from_be_bytes([h[2], h[3]])),
            fragment: u16::from_be_bytes([h[6], h[7]]),
            hop_limit: h[8],
            protocol: h[9],
            source: [h[12], h[13], h[14], h[15]],
            destination: [h[16], h[17], h[18], h[19]],
        })
    }
}

#[inline(always)]
pub(super) fn parse<P: Packet + ?Sized>(packet: &P) -> Option<Datagram<[u8; 4]>> {
    let header = Header::parse(packet, ETHERNET_LENGTH)?;
    let content = content(packet, &header);
    Some(Datagram { source: header.source, destination: header.destination, content })
}

#[inline(always)]
fn content<P: Packet + ?Sized>(packet: &P, header: &Header) -> Content {
    let available = packet.length().wrapping_sub(ETHERNET_LENGTH);
    let mut total_length = header.total_length;
    if total_length == 0 && available > u32::from(u16::MAX) {
        // BIG TCP: the kernel's own segments may be longer than the field can say.
        total_length = available;
    }
    if total_length < header.length || total_length > available {
        return Content::Unparsable;
    }
    // Without options everything stands at places that are known when this is compiled.
    let mut length = HEADER_LENGTH;
    if header.length > HEADER_LENGTH {
        if !P::WHOLE || !options_are_harmless(packet, ETHERNET_LENGTH + header.length) {
            return Content::Unparsable;
        }
        length = header.length;
    }
    if header.fragment & FRAGMENT_OFFSET != 0 {
        return Content::Fragment;
    }
    let payload = transport::Payload {
        protocol: header.protocol,
        at: ETHERNET_LENGTH + length,
        length: total_length - length,
        whole: header.fragment & MORE_FRAGMENTS == 0,
        hop_limit: header.hop_limit,
    };
    transport::parse::<V4, P>(packet, &payload)
}

/// Whether the options before `end` can be read and none of them is a source route (RFC 791: 131 and 137), behind
/// which the true destination would hide.
#[inline(never)]
fn options_are_harmless<P: Packet + ?Sized>(packet: &P, end: u32) -> bool {
    let mut at = ETHERNET_LENGTH + HEADER_LENGTH;
    // 40 bytes of options are at most 40 options.
    for _ in 0..40 {
        if at >= end {
            return at == end;
        }
        let length = match packet.load(at) {
            Some([0]) => return true,
            Some([1]) => 1,
            Some([131 | 137]) | None => return false,
            Some(_) => match packet.load(at + 1) {
                Some([length]) if length >= 2 => u32::from(length),
                _ => return false,
            },
        };
        at += length;
    }
    at == end
}

#[inline(always)]
pub(super) fn parse_quoted<P: Packet + ?Sized>(packet: &P, at: u32) -> Option<Quoted<[u8; 4]>> {
    let header = Header::parse(packet, at)?;
    if header.fragment & FRAGMENT_OFFSET != 0 {
        return None;
    }
    let segment = Segment::parse_quoted(packet, header.protocol, at + header.length, V4::ICMP, V4::icmp_kind)?;
    Some(Quoted { source: header.source, destination: header.destination, segment })
}
