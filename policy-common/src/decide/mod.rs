//! The decision: may this packet pass?

use crate::{
    packet::Packet,
    reason::Reason,
    table::RULE_NONE,
    tables::{AllTables, Direction, EndpointRow},
};

/// What a hook knows of a packet besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The endpoint's host-side interface.
    pub ifindex: u32,
    /// The interface from which the packet reached this node, 0 if the node itself made it (`skb->skb_iif`).
    pub ingress_ifindex: u32,
    /// Whether a socket of this node sent it (`skb->sk`).
    pub has_socket: bool,
}

/// What becomes of a packet, and why.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it passes.
    pub allow: bool,
    /// Why.
    pub reason: Reason,
    /// The rule that decided, or [`RULE_NONE`].
    pub rule: u32,
}

impl Verdict {
    /// Allowed, by no rule.
    pub const fn allow(reason: Reason) -> Self {
        Self { allow: true, reason, rule: RULE_NONE }
    }

    /// Denied, by no rule.
    pub const fn deny(reason: Reason) -> Self {
        Self { allow: false, reason, rule: RULE_NONE }
    }
}

/// Judges a packet that leaves an endpoint.
#[inline(always)]
pub fn from_pod<P: Packet + ?Sized, T: AllTables>(packet: &P, context: &Context, tables: &T) -> Verdict {
    decide(packet, context, tables, Direction::FromPod)
}

/// Judges a packet that reaches an endpoint.
#[inline(always)]
pub fn to_pod<P: Packet + ?Sized, T: AllTables>(packet: &P, context: &Context, tables: &T) -> Verdict {
    decide(packet, context, tables, Direction::ToPod)
}

#[inline(always)]
fn decide<P: Packet + ?Sized, T: AllTables>(
    packet: &P,
    context: &Context,
    tables: &T,
    direction: Direction,
) -> Verdict {
    let Some(endpoint) = tables.endpoint(context.ifindex) else {
        return Verdict::deny(Reason::UnknownEndpoint);
    };
    let verdict = Verdict::deny(Reason::Unparsable);
    tables.count(endpoint.counters(), direction, verdict.reason, packet.length());
    verdict
}
