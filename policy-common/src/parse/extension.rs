//! IPv6 extension headers.

use super::protocol::{AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ICMPV6, ROUTING, SCTP, TCP, UDP};
use crate::packet::Packet;

/// How many extension headers a packet may have.
pub const MAX_HEADERS: usize = 8;

/// Which part of the original packet this one carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// The first fragment.
    First,
    /// A later fragment.
    Later,
}

/// What stands behind the extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// The protocol.
    pub(super) protocol: u8,
    /// Where its header starts.
    pub(super) at: u32,
    /// Which part of it this packet carries.
    pub(super) part: Part,
}

/// Skips the extension headers from `at` on; nothing where they do not end before `end`, or not in an order or form
/// that the receiver must accept.
#[inline(always)]
pub(super) fn walk<P: Packet + ?Sized>(packet: &P, next_header: u8, at: u32, end: u32) -> Option<Chain> {
    if matches!(next_header, TCP | UDP | ICMPV6 | SCTP) {
        return Some(Chain { protocol: next_header, at, part: Part::Whole });
    }
    if !P::WHOLE {
        return None;
    }
    let mut chain = Chain { protocol: next_header, at, part: Part::Whole };
    (walk_headers(packet, &mut chain, end) == Walk::Arrived).then_some(chain)
}

/// How a walk over extension headers ended: a type that BTF can describe, unlike an `Option` of a struct.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Walk {
    Arrived = 0,
    Lost = 1,
}

#[inline(never)]
fn walk_headers<P: Packet + ?Sized>(packet: &P, chain: &mut Chain, end: u32) -> Walk {
    for index in 0..=MAX_HEADERS {
        match step(packet, chain, index == 0, end) {
            Step::Further => {}
            Step::Arrived => return Walk::Arrived,
            Step::Lost => return Walk::Lost,
        }
    }
    Walk::Lost
}

/// What one header leads to.
enum Step {
    Further,
    Arrived,
    Lost,
}

#[inline(always)]
fn step<P: Packet + ?Sized>(packet: &P, chain: &mut Chain, is_first: bool, end: u32) -> Step {
    let length = match chain.protocol {
        // RFC 8200 §4.1: only first.
        HOP_BY_HOP if !is_first => return Step::Lost,
        HOP_BY_HOP | DESTINATION_OPTIONS | AUTHENTICATION => None,
        // With segments left the true destination is not the one in the header.
        ROUTING => match packet.load(chain.at + 3) {
            Some([0]) => None,
            _ => return Step::Lost,
        },
        FRAGMENT => {
            let Some(field) = packet.load(chain.at + 2).map(u16::from_be_bytes) else { return Step::Lost };
            if field >> 3 != 0 {
                chain.part = Part::Later;
                // The header itself must be there.
                return if chain.at + 8 <= end { Step::Arrived } else { Step::Lost };
            }
            if field & 1 != 0 {
                chain.part = Part::First;
            }
            Some(8)
        }
        _ => return Step::Arrived,
    };
    let Some([next, units]) = packet.load(chain.at) else { return Step::Lost };
    let length = match length {
        Some(length) => length,
        None if chain.protocol == AUTHENTICATION => (u32::from(units) + 2) * 4,
        None => (u32::from(units) + 1) * 8,
    };
    chain.protocol = next;
    chain.at += length;
    if chain.at > end { Step::Lost } else { Step::Further }
}
