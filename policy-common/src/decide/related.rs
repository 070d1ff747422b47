//! ICMP errors: allowed where the packet that they quote belongs to an allowed connection.

use super::{Hook, Verdict};
use crate::{
    flow,
    packet::Packet,
    parse::{Network, Segment},
    reason::Reason,
    tables::{AllTables, Direction, FamilyTables},
};

impl<T: AllTables> Hook<'_, T> {
    /// Judges an ICMP error; about anything but an allowed connection it is ICMP like any other.
    #[inline(never)]
    pub(super) fn error<F: Network, P: Packet + ?Sized>(&self, packet: &P, peer: &F::Addr, quoted_at: u32) -> Verdict
    where
        T: FamilyTables<F>,
    {
        if self.quotes_allowed_connection::<F, P>(packet, peer, quoted_at) {
            return Verdict::allow(Reason::Related);
        }
        if self.direction == Direction::ToPod && self.is_nodes_own::<F>(peer) {
            return Verdict::allow(Reason::Node);
        }
        let key = flow::key::<F>(self.id, *peer, &Segment::of_other_icmp(F::ICMP), self.direction);
        self.judge::<F>(&key, self.direction)
    }

    /// An error that reaches the endpoint is about a packet that it sent; one that it sends, about one that reached it.
    #[inline(always)]
    fn quotes_allowed_connection<F: Network, P: Packet + ?Sized>(
        &self,
        packet: &P,
        peer: &F::Addr,
        quoted_at: u32,
    ) -> bool
    where
        T: FamilyTables<F>,
    {
        let Some(quoted) = F::parse_quoted(packet, quoted_at) else { return false };
        let (quoted_direction, quoted_own, quoted_peer) = match self.direction {
            Direction::ToPod => (Direction::FromPod, quoted.source, quoted.destination),
            Direction::FromPod => (Direction::ToPod, quoted.destination, quoted.source),
        };
        // Who sent what an endpoint complains of is told so, and nobody else.
        let is_misdirected = self.direction == Direction::FromPod && !F::same(peer, &quoted_peer);
        if !self.is_own::<F>(&quoted_own) || is_misdirected {
            return false;
        }
        let key = flow::key::<F>(self.id, quoted_peer, &quoted.segment, quoted_direction);
        let Some(flow) = FamilyTables::<F>::flow(self.tables, &key) else { return false };
        if flow.state.tag != flow::tag::<F>(&key) {
            return false;
        }
        let judged_as = flow.state.opener().judged_as(quoted_direction);
        flow.state.allows(judged_as, self.commit) || self.judge_again::<F>(&key, &flow.state, judged_as).allow
    }
}
