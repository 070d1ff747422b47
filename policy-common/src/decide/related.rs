//! ICMP errors: allowed where the packet that they quote belongs to an allowed connection.

use super::{Hook, Judge, Sight, Verdict};
use crate::{
    family::FlowKeyOf,
    flow,
    packet::Packet,
    parse::{Network, Segment},
    reason::Reason,
    tables::{AllTables, Direction, FamilyTables, Steps},
};

impl<T: AllTables> Hook<'_, T> {
    /// Judges an ICMP error; about anything but an allowed connection it is ICMP like any other.
    #[inline(never)]
    pub(super) fn error<F: Network, P: Packet + ?Sized>(&self, packet: &P, peer: &F::Addr, quoted_at: u32) -> Verdict
    where
        T: Steps<F>,
    {
        let Sight { id, direction, .. } = self.judge.sight;
        let mut key = flow::key::<F>(id, *peer, &Segment::of_other_icmp(F::ICMP), direction);
        if self.quotes::<F, P>(packet, quoted_at, &mut key) && self.judge.is_allowed::<F>(&key) {
            return Verdict::allow(Reason::Related);
        }
        self.judge.other_icmp::<F>(peer)
    }

    /// Whether an error that comes from `key.peer`, or goes to it, quotes a packet of the endpoint; then `key` becomes its
    /// connection. One that reaches the endpoint is about a packet that it sent; one that it sends, about one that reached
    /// it.
    #[inline(never)]
    fn quotes<F: Network, P: Packet + ?Sized>(&self, packet: &P, quoted_at: u32, key: &mut FlowKeyOf<F>) -> bool
    where
        T: Steps<F>,
    {
        let Some(quoted) = F::parse_quoted(packet, quoted_at) else { return false };
        let direction = self.judge.sight.direction;
        let (own, peer) = match direction {
            Direction::ToPod => (quoted.source, quoted.destination),
            Direction::FromPod => (quoted.destination, quoted.source),
        };
        // Who sent what an endpoint complains of is told so, and nobody else.
        let is_misdirected = direction == Direction::FromPod && !F::same(&key.peer, &peer);
        *key = flow::key::<F>(key.endpoint, peer, &quoted.segment, direction.reversed());
        self.is_own::<F>(&own) && !is_misdirected
    }
}

impl<T: AllTables> Judge<'_, T> {
    /// ICMP like any other, of which nothing is remembered. With a stack of its own: all calls together may use 512 bytes, each
    /// counted in steps of 32 (kernel/bpf/verifier.c, `check_max_stack_depth`; before Linux 6.9).
    #[inline(never)]
    fn other_icmp<F: Network>(&self, peer: &F::Addr) -> Verdict
    where
        T: Steps<F>,
    {
        let Sight { id, direction, .. } = self.sight;
        if direction == Direction::ToPod && self.is_nodes_own::<F>(peer) {
            return Verdict::allow(Reason::Node);
        }
        self.judge::<F>(&flow::key::<F>(id, *peer, &Segment::of_other_icmp(F::ICMP), direction), direction)
    }

    /// Whether a connection is known and allowed, of which a packet went against the one that is judged.
    #[inline(always)]
    fn is_allowed<F: Network>(&self, key: &FlowKeyOf<F>) -> bool
    where
        T: Steps<F>,
    {
        let Some(flow) = FamilyTables::<F>::flow(self.tables, key) else { return false };
        if flow.state.tag != flow::tag::<F>(key) {
            return false;
        }
        let judged_as = flow.state.opener().judged_as(self.sight.direction.reversed());
        flow.state.allows(judged_as, self.sight.commit) || self.judge_again::<F>(key, &flow.state, judged_as).allow
    }
}
