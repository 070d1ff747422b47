//! The decision: may this packet pass?

mod connection;
mod link;
mod policy;
mod related;

use crate::{
    packet::Packet,
    parse::{Content, Datagram, Link, Network},
    reason::Reason,
    table::{IFINDEX_HOST, POLICY_OPEN, RULE_NONE, live_slot},
    tables::{AllTables, Direction, EndpointRow, FamilyTables},
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
    #[inline(always)]
    pub const fn allow(reason: Reason) -> Self {
        Self { allow: true, reason, rule: RULE_NONE }
    }

    /// Denied, by no rule.
    #[inline(always)]
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

/// A packet's hook: what every step of the decision needs.
struct Hook<'a, T: AllTables> {
    tables: &'a T,
    context: &'a Context,
    direction: Direction,
    endpoint: T::Endpoint,
    id: u32,
    commit: u64,
}

#[inline(always)]
fn decide<P: Packet + ?Sized, T: AllTables>(
    packet: &P,
    context: &Context,
    tables: &T,
    direction: Direction,
) -> Verdict {
    // Before any other look-up: an element found now has, in the slot that this commit reads, what the commit means,
    // however many commits follow while the packet is judged.
    let commit = tables.commit();
    let Some(endpoint) = tables.endpoint(context.ifindex) else {
        return Verdict::deny(Reason::UnknownEndpoint);
    };
    let word = endpoint.endpoint();
    if word.tag != context.ifindex {
        return Verdict::deny(Reason::TableRace);
    }
    let hook = Hook { tables, context, direction, endpoint, id: word.id, commit };
    let verdict = hook.decide(packet);
    tables.count(endpoint.counters(), direction, verdict.reason, packet.length());
    verdict
}

impl<T: AllTables> Hook<'_, T> {
    #[inline(always)]
    fn decide<P: Packet + ?Sized>(&self, packet: &P) -> Verdict {
        match Link::parse(packet) {
            Link::V4 => self.network::<crate::family::V4, P>(packet),
            Link::V6 => self.network::<crate::family::V6, P>(packet),
            Link::Arp => self.arp(packet),
            Link::Tagged => self.tagged(),
            Link::Other => self.opaque(Reason::Unparsable),
        }
    }

    #[inline(always)]
    fn network<F: Network, P: Packet + ?Sized>(&self, packet: &P) -> Verdict
    where
        T: FamilyTables<F>,
    {
        let Some(datagram) = F::parse(packet) else {
            // Whose it is cannot be said.
            return match self.direction {
                Direction::FromPod => Verdict::deny(Reason::SpoofedSource),
                Direction::ToPod => self.opaque(Reason::Unparsable),
            };
        };
        match self.direction {
            Direction::FromPod => self.leaving::<F, P>(packet, &datagram),
            Direction::ToPod => self.reaching::<F, P>(packet, &datagram),
        }
    }

    #[inline(always)]
    fn leaving<F: Network, P: Packet + ?Sized>(&self, packet: &P, datagram: &Datagram<F::Addr>) -> Verdict
    where
        T: FamilyTables<F>,
    {
        let own = F::own_address(&self.endpoint);
        if let Content::Neighbour { kind, at } = datagram.content {
            return if F::may_send_neighbour(packet, &datagram.source, own, kind, at) {
                Verdict::allow(Reason::Neighbour)
            } else {
                Verdict::deny(Reason::SpoofedSource)
            };
        }
        if own != Some(datagram.source) {
            return Verdict::deny(Reason::SpoofedSource);
        }
        if datagram.source == datagram.destination {
            return Verdict::allow(Reason::SelfTraffic);
        }
        match &datagram.content {
            Content::Segment(segment) => self.connection::<F>(datagram.destination, segment),
            Content::Error { quoted_at } => self.error::<F, P>(packet, datagram.destination, own, *quoted_at),
            Content::Fragment => self.opaque(Reason::Fragment),
            Content::Unparsable | Content::Neighbour { .. } => self.opaque(Reason::Unparsable),
        }
    }

    #[inline(always)]
    fn reaching<F: Network, P: Packet + ?Sized>(&self, packet: &P, datagram: &Datagram<F::Addr>) -> Verdict
    where
        T: FamilyTables<F>,
    {
        let own = F::own_address(&self.endpoint);
        match &datagram.content {
            // Looks at the source itself, where the flow does not vouch for it.
            Content::Segment(segment) if own != Some(datagram.source) => self.connection::<F>(datagram.source, segment),
            Content::Neighbour { .. } => Verdict::allow(Reason::Neighbour),
            _ if self.is_martian::<F>(&datagram.source) => Verdict::deny(Reason::MartianSource),
            Content::Segment(_) => Verdict::allow(Reason::SelfTraffic),
            Content::Error { quoted_at } => self.error::<F, P>(packet, datagram.source, own, *quoted_at),
            Content::Fragment => self.opaque(Reason::Fragment),
            Content::Unparsable => self.opaque(Reason::Unparsable),
        }
    }

    /// What cannot be judged passes only where nothing isolates the endpoint.
    #[inline(always)]
    fn opaque(&self, reason: Reason) -> Verdict {
        match self.policy(self.direction) {
            Ok(POLICY_OPEN) => Verdict::allow(Reason::NotIsolated),
            Ok(_) => Verdict::deny(reason),
            Err(race) => Verdict::deny(race),
        }
    }

    /// Whether a packet says that it comes from an endpoint of this node, but did not come out of its interface.
    #[inline(always)]
    fn is_martian<F: Network>(&self, source: &F::Addr) -> bool
    where
        T: FamilyTables<F>,
    {
        let arrival = self.context.ingress_ifindex;
        if arrival == 0 {
            return false;
        }
        self.local::<F>(source).is_some_and(|local| {
            local.ifindex != IFINDEX_HOST && local.ifindex != arrival && (local.bridge == 0 || local.bridge != arrival)
        })
    }

    /// Whether a local socket of the node sent the packet under one of the node's addresses.
    #[inline(always)]
    fn is_nodes_own<F: Network>(&self, source: &F::Addr) -> bool
    where
        T: FamilyTables<F>,
    {
        self.has_local_socket() && self.is_host::<F>(source)
    }

    #[inline(always)]
    fn has_local_socket(&self) -> bool {
        self.context.ingress_ifindex == 0 && self.context.has_socket
    }

    #[inline(always)]
    fn is_host<F: Network>(&self, address: &F::Addr) -> bool
    where
        T: FamilyTables<F>,
    {
        self.local::<F>(address).is_some_and(|local| local.ifindex == IFINDEX_HOST)
    }

    #[inline(always)]
    fn slot(&self) -> usize {
        live_slot(self.commit)
    }
}
