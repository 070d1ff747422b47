//! The decision: may this packet pass?

mod connection;
mod link;
mod neighbour;
mod policy;
mod related;

use crate::{
    packet::Packet,
    parse::{Link, Network, Plain, Segment, What},
    reason::Reason,
    table::{POLICY_OPEN, RULE_NONE},
    tables::{AllTables, Direction, EndpointRow, Steps},
};

pub use connection::{Case, Found};
pub use policy::Question;

use neighbour::Discovery;

/// What a hook knows of a packet besides its bytes.
#[repr(C)]
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
    /// Zero: kernel functions answer in one register, of which no byte may be undefined.
    reserved: u16,
    /// The rule that decided, or [`RULE_NONE`].
    pub rule: u32,
}

impl Verdict {
    /// A verdict, and the rule that decided, or [`RULE_NONE`].
    #[inline(always)]
    pub const fn new(allow: bool, reason: Reason, rule: u32) -> Self {
        Self { allow, reason, reserved: 0, rule }
    }

    /// Allowed, by no rule.
    #[inline(always)]
    pub const fn allow(reason: Reason) -> Self {
        Self::new(true, reason, RULE_NONE)
    }

    /// Denied, by no rule.
    #[inline(always)]
    pub const fn deny(reason: Reason) -> Self {
        Self::new(false, reason, RULE_NONE)
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

/// Where and when a packet is judged: what every step of the decision goes by.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    commit: u64,
    context: Context,
    direction: Direction,
    /// The endpoint's id.
    id: u32,
}

/// Judges connections, by a sight of a packet and tables.
struct Judge<'a, T: AllTables> {
    tables: &'a T,
    sight: Sight,
}

/// Judges a packet: a judge who stands where the endpoint's element can be read.
struct Hook<'a, T: AllTables> {
    judge: Judge<'a, T>,
    endpoint: T::Endpoint,
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
    let mut found = tables.endpoint(&context.ifindex);
    if found.is_none_or(|endpoint| endpoint.endpoint().tag != context.ifindex) {
        // While it was replaced it was missed, or another's; that does not happen again and again.
        found = tables.endpoint(&context.ifindex);
    }
    let Some(endpoint) = found else {
        return Verdict::deny(Reason::UnknownEndpoint);
    };
    let word = endpoint.endpoint();
    if word.tag != context.ifindex {
        return Verdict::deny(Reason::TableRace);
    }
    let sight = Sight { commit, context: *context, direction, id: word.id };
    let hook = Hook { judge: Judge { tables, sight }, endpoint };
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
        T: Steps<F>,
    {
        let datagram = packet.datagram::<F>();
        match (datagram.what(), self.judge.sight.direction) {
            // Whose it is cannot be said.
            (What::Nothing, Direction::FromPod) => Verdict::deny(Reason::SpoofedSource),
            (What::Nothing, Direction::ToPod) => self.opaque(Reason::Unparsable),
            (_, Direction::FromPod) => self.leaving::<F, P>(packet, &datagram),
            (_, Direction::ToPod) => self.reaching::<F, P>(packet, &datagram),
        }
    }

    #[inline(always)]
    fn leaving<F: Network, P: Packet + ?Sized>(&self, packet: &P, datagram: &Plain<F::Addr>) -> Verdict
    where
        T: Steps<F>,
    {
        let (source, destination) = (datagram.source(), datagram.destination());
        let mut segment = datagram.segment();
        let mut what = datagram.what();
        if what == What::Neighbour {
            match self.neighbour_leaves::<F, P>(packet, datagram) {
                Discovery::OnLink if self.is_still_mine() => return Verdict::allow(Reason::Neighbour),
                Discovery::OnLink => return Verdict::deny(Reason::TableRace),
                Discovery::Lie => return Verdict::deny(Reason::SpoofedSource),
                Discovery::Routed => (what, segment) = (What::Segment, Segment::of_other_icmp(F::ICMP)),
            }
        }
        if !self.is_own::<F>(&source) {
            return Verdict::deny(Reason::SpoofedSource);
        }
        // The element that the address was read from may have changed hands meanwhile.
        if !self.is_still_mine() {
            return Verdict::deny(Reason::TableRace);
        }
        if F::same(&source, &destination) {
            return Verdict::allow(Reason::SelfTraffic);
        }
        match what {
            What::Segment => self.judge.connection::<F>(destination, &segment),
            What::Error => self.error::<F, P>(packet, &destination, datagram.quoted_at()),
            What::Fragment => self.opaque(Reason::Fragment),
            What::Unparsable | What::Neighbour | What::Nothing => self.opaque(Reason::Unparsable),
        }
    }

    #[inline(always)]
    fn reaching<F: Network, P: Packet + ?Sized>(&self, packet: &P, datagram: &Plain<F::Addr>) -> Verdict
    where
        T: Steps<F>,
    {
        let source = datagram.source();
        let what = datagram.what();
        // Looks at the source itself, where the flow does not vouch for it.
        if what == What::Segment && !self.is_own::<F>(&source) {
            return self.judge.connection::<F>(source, &datagram.segment());
        }
        if self.judge.is_martian::<F>(&source) {
            return Verdict::deny(Reason::MartianSource);
        }
        match what {
            What::Segment if self.is_still_mine() => Verdict::allow(Reason::SelfTraffic),
            What::Segment => Verdict::deny(Reason::TableRace),
            What::Neighbour => match self.neighbour_reaches::<F, P>(packet, &datagram.neighbour()) {
                Discovery::Lie => Verdict::deny(Reason::MartianSource),
                Discovery::OnLink | Discovery::Routed => Verdict::allow(Reason::Neighbour),
            },
            What::Error => self.error::<F, P>(packet, &source, datagram.quoted_at()),
            What::Fragment => self.opaque(Reason::Fragment),
            What::Unparsable | What::Nothing => self.opaque(Reason::Unparsable),
        }
    }

    /// What cannot be judged passes only where nothing isolates the endpoint.
    #[inline(always)]
    fn opaque(&self, reason: Reason) -> Verdict {
        match self.judge.policy() {
            Ok(POLICY_OPEN) => Verdict::allow(Reason::NotIsolated),
            Ok(_) => Verdict::deny(reason),
            Err(race) => Verdict::deny(race),
        }
    }

    /// Whether it is the endpoint's address.
    #[inline(always)]
    fn is_own<F: Network>(&self, address: &F::Addr) -> bool {
        F::same(address, &F::own_address(&self.endpoint)) && !F::same(address, &F::UNSPECIFIED)
    }

    /// Whether the endpoint's element still is the one that was found.
    #[inline(always)]
    fn is_still_mine(&self) -> bool {
        let word = self.endpoint.endpoint();
        word.tag == self.judge.sight.context.ifindex && word.id == self.judge.sight.id
    }
}

impl<T: AllTables> Judge<'_, T> {
    /// Whether a packet says that it comes from an endpoint of this node, but did not come out of its interface.
    #[inline(always)]
    fn is_martian<F: Network>(&self, source: &F::Addr) -> bool
    where
        T: Steps<F>,
    {
        let arrival = self.sight.context.ingress_ifindex;
        if arrival == 0 {
            return false;
        }
        let place = self.place::<F>(source);
        place.is_endpoint() && place.ifindex() != arrival && (place.bridge() == 0 || place.bridge() != arrival)
    }

    /// Whether a local socket of the node sent the packet under one of the node's addresses.
    #[inline(always)]
    fn is_nodes_own<F: Network>(&self, source: &F::Addr) -> bool
    where
        T: Steps<F>,
    {
        self.has_local_socket() && self.is_host::<F>(source)
    }

    #[inline(always)]
    fn has_local_socket(&self) -> bool {
        self.sight.context.ingress_ifindex == 0 && self.sight.context.has_socket
    }

    #[inline(always)]
    fn is_host<F: Network>(&self, address: &F::Addr) -> bool
    where
        T: Steps<F>,
    {
        self.place::<F>(address).is_host()
    }
}
