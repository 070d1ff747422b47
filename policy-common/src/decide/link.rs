//! Frames that carry no IP packet.

use super::{Hook, Verdict};
use crate::{
    packet::Packet,
    parse::Arp,
    reason::Reason,
    tables::{AllTables, Direction, EndpointRow},
};

impl<T: AllTables> Hook<'_, T> {
    /// ARP always passes, but an endpoint speaks for its own address only.
    #[inline(always)]
    pub(super) fn arp<P: Packet + ?Sized>(&self, packet: &P) -> Verdict {
        let Some(Arp { sender }) = Arp::parse(packet) else {
            // Whose it is cannot be said.
            return match self.direction {
                Direction::FromPod => Verdict::deny(Reason::SpoofedSource),
                Direction::ToPod => self.opaque(Reason::Unparsable),
            };
        };
        let honest = sender == [0; 4] || self.endpoint.v4() == Some(sender);
        match self.direction {
            Direction::FromPod if !honest => Verdict::deny(Reason::SpoofedSource),
            Direction::FromPod | Direction::ToPod => Verdict::allow(Reason::Neighbour),
        }
    }

    /// Behind a second VLAN tag an IP packet may stand whose source nobody would look at.
    #[inline(always)]
    pub(super) fn tagged(&self) -> Verdict {
        match self.direction {
            Direction::FromPod => Verdict::deny(Reason::SpoofedSource),
            Direction::ToPod => self.opaque(Reason::Unparsable),
        }
    }
}
