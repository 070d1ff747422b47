//! Packets of connections: known ones pass under the judgement that their flow remembers, others are judged.

use super::{Judge, Sight, Verdict};
use crate::{
    family::FlowKeyOf,
    flow::{self, Opener},
    parse::{Network, Phase, Segment},
    reason::Reason,
    table::{Arrival, Cut, Flow, FlowKey, FlowState},
    tables::{AllTables, Direction, FamilyTables, Steps},
};

/// What the flow table says of a key.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A flow of this key.
    Known,
    /// None.
    Nothing,
    /// An element that carries another key's tag, and goes on doing so.
    Foreign,
}

/// A packet whose connection is not known, or about which something is left to find out or to write down.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a, A> {
    /// Where and when it is seen.
    pub sight: &'a Sight,
    /// Its connection.
    pub key: &'a FlowKey<A>,
    /// The flow that was found, or an empty one: an `Option` has no layout that functions of the kernel could share.
    pub flow: &'a Flow,
    /// Whether one was.
    pub found: Found,
    /// The part that it plays.
    pub phase: Phase,
}

impl<A: Copy> Case<'_, A> {
    /// Judges it: [`Steps::unsettled`].
    #[inline(always)]
    pub fn judge<F, T>(self, tables: &T) -> Verdict
    where
        F: Network<Addr = A>,
        T: AllTables + Steps<F>,
    {
        let Self { sight, key, flow, found, phase } = self;
        Judge { tables, sight: *sight }.unsettled::<F>(key, flow, found, phase)
    }
}

/// How a new flow comes into the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Unless there is one already.
    Insert,
    /// In place of one that is not to be believed.
    Replace,
}

/// Whom a packet speaks for, as its flow remembers it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    /// The one that the flow is of.
    TheSame,
    /// The node, where the flow is of another that has its address.
    TheNode,
    /// Another that has the node's address, where the flow is the node's.
    Another,
}

impl<T: AllTables> Judge<'_, T> {
    /// Judges a packet of the connection with `peer`.
    ///
    /// Nearly all packets belong to a connection about which nothing is left to find out or to write down: for them this
    /// is one look-up. Everything else is a function of its own in the kernel, so that it is not in their way.
    #[inline(always)]
    pub(super) fn connection<F: Network>(&self, peer: F::Addr, segment: &Segment) -> Verdict
    where
        T: Steps<F>,
    {
        let key = flow::key::<F>(self.sight.id, peer, segment, self.sight.direction);
        let (flow, found) = match FamilyTables::<F>::flow(self.tables, &key) {
            Some(flow) if flow.state.tag == flow::tag::<F>(&key) => {
                if self.is_settled(&flow, segment.phase) {
                    return Verdict::allow(Reason::Established);
                }
                (flow, Found::Known)
            }
            Some(flow) => (flow, Found::Foreign),
            None => (Flow::default(), Found::Nothing),
        };
        let case = Case { sight: &self.sight, key: &key, flow: &flow, found, phase: segment.phase };
        Steps::<F>::unsettled(self.tables, case)
    }

    /// Whether a packet passes under what its flow remembers, and changes nothing of it.
    #[inline(always)]
    fn is_settled(&self, flow: &Flow, phase: Phase) -> bool {
        let state = &flow.state;
        let opener = state.opener();
        let goes_on = matches!(phase, Phase::MayOpen | Phase::Continues) && !state.is_reset()
            || phase == Phase::Accepts && opener == Opener::other(self.sight.direction);
        let is_from_there = self.sight.direction == Direction::FromPod
            || flow.arrival == self.arrival_now()
                && (opener == Opener::Own || !state.is_node() && !self.has_local_socket());
        state.allows(opener.judged_as(self.sight.direction), self.sight.commit)
            && goes_on
            && is_from_there
            && flow.seen_s == self.tables.now_s()
    }

    #[inline(always)]
    fn unsettled<F: Network>(&self, key: &FlowKeyOf<F>, flow: &Flow, found: Found, phase: Phase) -> Verdict
    where
        T: Steps<F>,
    {
        let (mut flow, mut found) = (*flow, found);
        if found == Found::Foreign {
            // The element changed hands while it was read; it cannot do so again and again.
            match FamilyTables::<F>::flow(self.tables, key) {
                Some(again) => {
                    flow = again;
                    if flow.state.tag == flow::tag::<F>(key) {
                        found = Found::Known;
                    }
                }
                None => found = Found::Nothing,
            }
        }
        match found {
            Found::Known => self.known::<F>(key, &flow, phase),
            Found::Nothing => self.unknown::<F>(key, phase, Entry::Insert),
            Found::Foreign => self.unknown::<F>(key, phase, Entry::Replace),
        }
    }

    #[inline(always)]
    fn known<F: Network>(&self, key: &FlowKeyOf<F>, flow: &Flow, phase: Phase) -> Verdict
    where
        T: Steps<F>,
    {
        if self.sight.direction == Direction::ToPod {
            // Under another commit the address may have become an endpoint's of this node.
            if flow.arrival != self.arrival_now() && self.is_martian::<F>(&key.peer) {
                return Verdict::deny(Reason::MartianSource);
            }
            match self.speaker::<F>(key, &flow.state) {
                Speaker::TheSame => {}
                Speaker::TheNode => return self.unknown::<F>(key, phase, Entry::Replace),
                Speaker::Another if matches!(phase, Phase::Opens | Phase::MayOpen) => {
                    return self.unknown::<F>(key, phase, Entry::Replace);
                }
                Speaker::Another => return self.judge::<F>(key, Direction::ToPod),
            }
        }
        let opener = flow.state.opener();
        let sender = Opener::sender(self.sight.direction);
        if phase == Phase::Opens && (opener != sender || flow.state.is_closing()) {
            return self.reopened::<F>(key, &flow.state);
        }
        // Whoever accepts what the other end opened on the ports of a connection of its own: from now on it is the other's.
        if phase == Phase::Accepts && opener == sender && flow.state.is_asked() {
            return self.taken_over::<F>(key, &flow.state);
        }
        let judged_as = opener.judged_as(self.sight.direction);
        if flow.state.allows(judged_as, self.sight.commit) {
            self.note::<F>(key, flow, phase);
            return Verdict::allow(Reason::Established);
        }
        let verdict = self.judge_again::<F>(key, &flow.state, judged_as);
        if verdict.allow {
            self.goes_on::<F>(key, &flow.state, phase, verdict.reason, judged_as);
        } else if verdict.reason != Reason::TableRace {
            self.is_cut::<F>(key, flow, judged_as);
        }
        verdict
    }

    /// A known connection was judged again, and is allowed.
    #[inline(always)]
    fn goes_on<F: Network>(
        &self,
        key: &FlowKeyOf<F>,
        state: &FlowState,
        phase: Phase,
        reason: Reason,
        judged_as: Direction,
    ) where
        T: Steps<F>,
    {
        let mut opener = state.opener();
        let known = *state;
        let state = if phase == Phase::Accepts { known.accepted(Opener::sender(self.sight.direction)) } else { known };
        if opener == Opener::Nobody && !state.has_accepted(Opener::sender(self.sight.direction)) {
            opener = self.presumed_opener::<F>(key, reason);
        } else if state.is_cut() && opener != Opener::Nobody {
            FamilyTables::<F>::forget_cut(self.tables, key);
        }
        self.note_judged::<F>(key, known, state.judged_again(self.sight.commit, opener, judged_as).after(phase));
    }

    /// A known connection was judged again, and is not allowed any more: that outlives its flow.
    #[inline(always)]
    fn is_cut<F: Network>(&self, key: &FlowKeyOf<F>, flow: &Flow, judged_as: Direction)
    where
        T: Steps<F>,
    {
        let (now_s, state, opener) = (self.tables.now_s(), &flow.state, flow.state.opener());
        // What never was allowed in this direction is not cut, but denied.
        if !state.is_cut() && !state.has_allowed(judged_as) {
            FamilyTables::<F>::renew_cut(self.tables, key, now_s);
        } else if !state.is_cut() || flow.seen_s != now_s {
            // Who had opened it an earlier cut may know better than the flow.
            let is_noted = state.is_cut() || opener == Opener::Nobody;
            if !is_noted || !FamilyTables::<F>::renew_cut(self.tables, key, now_s) {
                let cut = Cut { seen_s: now_s, tag: state.tag, opener: opener.flag() };
                FamilyTables::<F>::note_cut(self.tables, key, &cut);
            }
            FamilyTables::<F>::store_flow_seen(self.tables, key, now_s, Arrival::UNCHECKED);
            FamilyTables::<F>::store_flow_state(self.tables, key, *state, state.cut());
        }
    }

    /// Who counts as the opener of a connection that was picked up in mid-stream, and whose packet is allowed: its
    /// sender, if a rule vouches for it and nothing is known against it. The mere absence of isolation vouches for
    /// nobody, so that what was forbidden never comes back as somebody's reply.
    #[inline(always)]
    fn presumed_opener<F: Network>(&self, key: &FlowKeyOf<F>, reason: Reason) -> Opener
    where
        T: Steps<F>,
    {
        if reason == Reason::Rule { self.opener_of_cut::<F>(key) } else { Opener::Nobody }
    }

    /// The sender, unless the connection was cut as the other end's; if it was its own, it now is allowed again.
    #[inline(always)]
    fn opener_of_cut<F: Network>(&self, key: &FlowKeyOf<F>) -> Opener
    where
        T: Steps<F>,
    {
        let sender = Opener::sender(self.sight.direction);
        let Some(cut) = FamilyTables::<F>::cut(self.tables, key) else { return sender };
        if cut.tag != flow::tag::<F>(key) || cut.opener != sender.flag() {
            return Opener::Nobody;
        }
        FamilyTables::<F>::forget_cut(self.tables, key);
        sender
    }

    /// Only the node's own sockets speak for the node. Of a connection that the endpoint opened nobody speaks first.
    #[inline(always)]
    fn speaker<F: Network>(&self, key: &FlowKeyOf<F>, state: &FlowState) -> Speaker
    where
        T: Steps<F>,
    {
        let has_socket = self.has_local_socket();
        if state.opener() == Opener::Own || !has_socket && !state.is_node() {
            return Speaker::TheSame;
        }
        // Which addresses are the node's can only change with the commit.
        let is_node = has_socket && (state.is_node() && self.is_current(state) || self.is_host::<F>(&key.peer));
        match (state.is_node(), is_node) {
            (true, false) => Speaker::Another,
            (false, true) => Speaker::TheNode,
            (true, true) | (false, false) => Speaker::TheSame,
        }
    }

    #[inline(always)]
    fn is_current(&self, state: &FlowState) -> bool {
        state.commit == self.sight.commit as u32
    }

    /// As the opener would be judged now.
    #[inline(always)]
    pub(super) fn judge_again<F: Network>(&self, key: &FlowKeyOf<F>, state: &FlowState, judged_as: Direction) -> Verdict
    where
        T: Steps<F>,
    {
        if state.is_node() && judged_as == Direction::ToPod && self.is_host::<F>(&key.peer) {
            return Verdict::allow(Reason::Node);
        }
        self.judge::<F>(key, judged_as)
    }

    /// A connection is opened with the ports of a known one, by the other end, or after that one has ended.
    #[inline(always)]
    fn reopened<F: Network>(&self, key: &FlowKeyOf<F>, state: &FlowState) -> Verdict
    where
        T: Steps<F>,
    {
        let (verdict, is_node) = self.judge_new::<F>(key);
        // A connection that goes on stays whose it is, until the other end accepts the new one. The node lies to nobody.
        let sender = Opener::sender(self.sight.direction);
        let goes_on = state.opener() == Opener::other(self.sight.direction) && !state.is_closing() && !state.is_cut();
        if verdict.allow && goes_on && !is_node {
            FamilyTables::<F>::store_flow_state(self.tables, key, *state, state.asked());
        } else if verdict.allow {
            // Whatever was cut on these ports, this is another connection; the flow need not know of it.
            FamilyTables::<F>::forget_cut(self.tables, key);
            let judged = FlowState::judged(state.tag, self.sight.commit, sender, self.sight.direction, is_node);
            self.note_judged::<F>(key, *state, judged);
        }
        verdict
    }

    /// The opener of a known connection accepts one that the other end opens on its ports.
    #[inline(always)]
    fn taken_over<F: Network>(&self, key: &FlowKeyOf<F>, state: &FlowState) -> Verdict
    where
        T: Steps<F>,
    {
        let opener = Opener::other(self.sight.direction);
        let judged_as = opener.judged_as(self.sight.direction);
        let verdict = self.judge::<F>(key, judged_as);
        if verdict.allow {
            FamilyTables::<F>::forget_cut(self.tables, key);
            self.note_judged::<F>(
                key,
                *state,
                FlowState::judged(state.tag, self.sight.commit, opener, judged_as, false),
            );
        }
        verdict
    }

    #[inline(always)]
    fn unknown<F: Network>(&self, key: &FlowKeyOf<F>, phase: Phase, entry: Entry) -> Verdict
    where
        T: Steps<F>,
    {
        if self.sight.direction == Direction::ToPod && self.is_martian::<F>(&key.peer) {
            return Verdict::deny(Reason::MartianSource);
        }
        let (verdict, is_node) = self.judge_new::<F>(key);
        if !verdict.allow {
            FamilyTables::<F>::renew_cut(self.tables, key, self.tables.now_s());
        }
        if !verdict.allow || phase == Phase::Resets {
            return verdict;
        }
        let opener = match phase {
            Phase::Opens => {
                // Whatever was cut on these ports, this is another connection.
                FamilyTables::<F>::forget_cut(self.tables, key);
                Opener::sender(self.sight.direction)
            }
            Phase::MayOpen => self.opener_of_cut::<F>(key),
            Phase::Accepts => Opener::Nobody,
            _ => self.presumed_opener::<F>(key, verdict.reason),
        };
        let mut state =
            FlowState::judged(flow::tag::<F>(key), self.sight.commit, opener, self.sight.direction, is_node);
        if phase == Phase::Accepts {
            state = state.accepted(Opener::sender(self.sight.direction));
        }
        let (seen_s, arrival) = (self.tables.now_s(), self.arrival(Arrival::UNCHECKED));
        let flow = Flow { state: state.after(phase), seen_s, arrival };
        match entry {
            Entry::Insert => FamilyTables::<F>::insert_flow(self.tables, key, &flow),
            Entry::Replace => FamilyTables::<F>::replace_flow(self.tables, key, &flow),
        }
        verdict
    }

    /// As a connection that the packet's sender opens; and whether the sender is the node itself.
    #[inline(always)]
    fn judge_new<F: Network>(&self, key: &FlowKeyOf<F>) -> (Verdict, bool)
    where
        T: Steps<F>,
    {
        if self.sight.direction == Direction::ToPod && self.is_nodes_own::<F>(&key.peer) {
            return (Verdict::allow(Reason::Node), true);
        }
        (self.judge::<F>(key, self.sight.direction), false)
    }

    /// Keeps a flow that was just used up to date; writes nothing that stands there already.
    #[inline(always)]
    fn note<F: Network>(&self, key: &FlowKeyOf<F>, flow: &Flow, phase: Phase)
    where
        T: Steps<F>,
    {
        let state = flow.state.after(phase);
        if state != flow.state {
            FamilyTables::<F>::store_flow_state(self.tables, key, flow.state, state);
        }
        self.note_seen::<F>(key, flow);
    }

    #[inline(always)]
    fn note_judged<F: Network>(&self, key: &FlowKeyOf<F>, known: FlowState, state: FlowState)
    where
        T: Steps<F>,
    {
        FamilyTables::<F>::store_flow_seen(self.tables, key, self.tables.now_s(), self.arrival(Arrival::UNCHECKED));
        FamilyTables::<F>::store_flow_state(self.tables, key, known, state);
    }

    #[inline(always)]
    fn note_seen<F: Network>(&self, key: &FlowKeyOf<F>, flow: &Flow)
    where
        T: Steps<F>,
    {
        let (now_s, arrival) = (self.tables.now_s(), self.arrival(flow.arrival));
        if now_s != flow.seen_s || arrival != flow.arrival {
            FamilyTables::<F>::store_flow_seen(self.tables, key, now_s, arrival);
        }
    }

    /// By which interface the other end's packets come, which has been looked at; of the endpoint's own nothing new is
    /// learned.
    #[inline(always)]
    fn arrival(&self, known: Arrival) -> Arrival {
        match self.sight.direction {
            Direction::FromPod => known,
            Direction::ToPod => self.arrival_now(),
        }
    }

    #[inline(always)]
    fn arrival_now(&self) -> Arrival {
        Arrival::new(self.sight.context.ingress_ifindex, self.sight.commit)
    }
}
