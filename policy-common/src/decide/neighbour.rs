//! Neighbour, router and multicast listener discovery: always allowed on the link, under one's own address.

use super::Hook;
use crate::{
    packet::Packet,
    parse::{Neighbour, Network, Plain, icmp},
    tables::{AllTables, Steps},
};

/// The longest solicitation or advertisement that says no more than it must: a target, and one hardware address.
const BARE_LENGTH: u32 = 32;

/// What a discovery message turns out to be.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discovery {
    /// One that belongs to this link.
    OnLink,
    /// A lie about whose it is.
    Lie,
    /// One that a router would forward: the hop limit proves the link to its receiver, not to us.
    Routed,
}

impl<T: AllTables> Hook<'_, T> {
    /// Looks at a message that the endpoint sends.
    #[inline(never)]
    pub(super) fn neighbour_leaves<F: Network, P: Packet + ?Sized>(
        &self,
        packet: &P,
        datagram: &Plain<F::Addr>,
    ) -> Discovery
    where
        T: Steps<F>,
    {
        let (source, destination, message) = (datagram.source(), datagram.destination(), datagram.neighbour());
        let is_ours = |address: &F::Addr| {
            // Which link-local addresses are the endpoint's own nobody knows; those of the node are not.
            self.is_own::<F>(address) || F::is_link_local(address) && !self.judge.is_host::<F>(address)
        };
        let is_nobodys = F::same(&source, &F::UNSPECIFIED);
        if !is_nobodys && !is_ours(&source) {
            return Discovery::Lie;
        }
        // Whoever advertises routes claims to be a router, which no pod is (CVE-2020-10749).
        if message.kind == icmp::ROUTER_ADVERTISEMENT {
            return Discovery::Lie;
        }
        // An advertisement claims its target; so does the solicitation of duplicate address detection (RFC 4862 §5.4.2).
        let claims = match message.kind {
            icmp::NEIGHBOUR_ADVERTISEMENT => true,
            icmp::NEIGHBOUR_SOLICITATION => is_nobodys,
            _ => false,
        };
        if claims && !F::neighbour_target(packet, &message).is_some_and(|target| is_ours(&target)) {
            return Discovery::Lie;
        }
        if self.stays_on_link::<F, P>(packet, &destination, &message) {
            return Discovery::OnLink;
        }
        Discovery::Routed
    }

    /// Looks at a message that reaches the endpoint; its source has been looked at.
    #[inline(never)]
    pub(super) fn neighbour_reaches<F: Network, P: Packet + ?Sized>(&self, packet: &P, message: &Neighbour) -> Discovery
    where
        T: Steps<F>,
    {
        let claimed = match message.kind {
            icmp::NEIGHBOUR_ADVERTISEMENT => F::neighbour_target(packet, message),
            _ => None,
        };
        if claimed.is_some_and(|target| self.judge.is_martian::<F>(&target)) {
            Discovery::Lie
        } else {
            Discovery::OnLink
        }
    }

    #[inline(always)]
    fn stays_on_link<F: Network, P: Packet + ?Sized>(
        &self,
        packet: &P,
        destination: &F::Addr,
        message: &Neighbour,
    ) -> bool
    where
        T: Steps<F>,
    {
        if F::is_link_multicast(destination) || F::is_link_local(destination) {
            return true;
        }
        let about = match message.kind {
            // Whether a neighbour is still there is asked of itself (RFC 4861 §7.3.3).
            icmp::NEIGHBOUR_SOLICITATION => {
                F::neighbour_target(packet, message).is_some_and(|target| F::same(&target, destination))
            }
            icmp::NEIGHBOUR_ADVERTISEMENT => true,
            // Listener reports go to the group itself, under a hop limit that no router lets pass.
            icmp::LISTENER_QUERY..=icmp::LISTENER_DONE | icmp::LISTENER_REPORT_V2 => {
                return F::is_multicast(destination);
            }
            _ => false,
        };
        if !about {
            return false;
        }
        // Behind a bridge neighbours may have any address; nothing but the question and the answer gets through.
        self.judge.is_host::<F>(destination) || message.length <= BARE_LENGTH && self.is_bridged::<F>()
    }

    #[inline(always)]
    fn is_bridged<F: Network>(&self) -> bool
    where
        T: Steps<F>,
    {
        self.judge.place::<F>(&F::own_address(&self.endpoint)).bridge() != 0
    }
}
