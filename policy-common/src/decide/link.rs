//! Frames that carry no IP packet.

use super::{Hook, Verdict};
use crate::{
    family::{Family as _, V4},
    packet::Packet,
    parse::Arp,
    reason::Reason,
    tables::{AllTables, Direction, EndpointRow},
};

impl<T: AllTables> Hook<'_, T> {
    /// ARP always passes, but an endpoint speaks for its own address only, and nobody else speaks for it.
    #[inline(never)]
    pub(super) fn arp<P: Packet + ?Sized>(&self, packet: &P) -> Verdict {
        let Some(Arp { sender }) = Arp::parse(packet) else {
            // Whose it is cannot be said.
            return match self.judge.sight.direction {
                Direction::FromPod => Verdict::deny(Reason::SpoofedSource),
                Direction::ToPod => self.opaque(Reason::Unparsable),
            };
        };
        let honest = sender == V4::UNSPECIFIED || sender == self.endpoint.v4();
        match self.judge.sight.direction {
            // The element that the address was read from may have changed hands meanwhile.
            Direction::FromPod if honest && !self.is_still_mine() => Verdict::deny(Reason::TableRace),
            Direction::FromPod if !honest => Verdict::deny(Reason::SpoofedSource),
            Direction::ToPod if self.judge.is_martian::<V4>(&sender) => Verdict::deny(Reason::MartianSource),
            Direction::FromPod | Direction::ToPod => Verdict::allow(Reason::Neighbour),
        }
    }

    /// Behind a second VLAN tag an IP packet may stand whose source nobody would look at.
    #[inline(always)]
    pub(super) fn tagged(&self) -> Verdict {
        match self.judge.sight.direction {
            Direction::FromPod => Verdict::deny(Reason::SpoofedSource),
            Direction::ToPod => self.opaque(Reason::Unparsable),
        }
    }
}
