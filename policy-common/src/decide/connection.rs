//! Packets of connections: known ones pass under the judgement that their flow remembers, others are judged.

use super::{Hook, Verdict};
use crate::{
    family::FlowKeyOf,
    flow::{self, Opener},
    parse::{Network, Phase, Segment},
    reason::Reason,
    table::{Cut, Flow, FlowState},
    tables::{AllTables, Direction, FamilyTables},
};

/// As [`Flow::arrival_ifindex`]: no packet of the other end has been looked at. What the node itself makes, which comes
/// from no interface, needs no look.
const UNCHECKED: u32 = 0;

/// What the flow table says of a key.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// A flow of this key.
    Known,
    /// None.
    Nothing,
    /// An element that carries another key's tag, and goes on doing so.
    Foreign,
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

impl<T: AllTables> Hook<'_, T> {
    /// Judges a packet of the connection with `peer`.
    ///
    /// Nearly all packets belong to a connection about which nothing is left to find out or to write down: for them this
    /// is one look-up. Everything else is a function of its own in the kernel, so that it is not in their way.
    #[inline(always)]
    pub(super) fn connection<F: Network>(&self, peer: F::Addr, segment: &Segment) -> Verdict
    where
        T: FamilyTables<F>,
    {
        let key = flow::key::<F>(self.id, peer, segment, self.direction);
        let mut flow = Flow::default();
        let mut found = Found::Nothing;
        if let Some(element) = FamilyTables::<F>::flow(self.tables, &key) {
            flow = element;
            found = if flow.state.tag == flow::tag::<F>(&key) { Found::Known } else { Found::Foreign };
        }
        if found == Found::Known && self.is_settled(&flow, segment.phase) {
            return Verdict::allow(Reason::Established);
        }
        self.unsettled::<F>(&key, &mut flow, found, segment.phase)
    }

    /// Whether a packet passes under what its flow remembers, and changes nothing of it.
    #[inline(always)]
    fn is_settled(&self, flow: &Flow, phase: Phase) -> bool {
        let state = &flow.state;
        let opener = state.opener();
        let goes_on = matches!(phase, Phase::MayOpen | Phase::Continues)
            || phase == Phase::Accepts && opener == Opener::other(self.direction);
        let is_from_there = self.direction == Direction::FromPod
            || flow.arrival_ifindex == self.context.ingress_ifindex
                && (opener == Opener::Own || !state.is_node() && !self.has_local_socket());
        state.allows(opener.judged_as(self.direction), self.commit)
            && goes_on
            && is_from_there
            && flow.seen_s == self.tables.now_s()
    }

    #[inline(never)]
    fn unsettled<F: Network>(&self, key: &FlowKeyOf<F>, flow: &mut Flow, found: Found, phase: Phase) -> Verdict
    where
        T: FamilyTables<F>,
    {
        let mut found = found;
        if found == Found::Foreign {
            // The element changed hands while it was read; it cannot do so again and again.
            match FamilyTables::<F>::flow(self.tables, key) {
                Some(again) => {
                    *flow = again;
                    if flow.state.tag == flow::tag::<F>(key) {
                        found = Found::Known;
                    }
                }
                None => found = Found::Nothing,
            }
        }
        match found {
            Found::Known => self.known::<F>(key, flow, phase),
            Found::Nothing => self.unknown::<F>(key, phase, Entry::Insert),
            Found::Foreign => self.unknown::<F>(key, phase, Entry::Replace),
        }
    }

    #[inline(always)]
    fn known<F: Network>(&self, key: &FlowKeyOf<F>, flow: &Flow, phase: Phase) -> Verdict
    where
        T: FamilyTables<F>,
    {
        if self.direction == Direction::ToPod {
            // Under another commit the address may have become an endpoint's of this node.
            let is_unchecked = flow.arrival_ifindex != self.context.ingress_ifindex || !self.is_current(&flow.state);
            if is_unchecked && self.is_martian::<F>(&key.peer) {
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
        let sender = Opener::sender(self.direction);
        if phase == Phase::Opens && (opener != sender || flow.state.is_closing()) {
            return self.reopened::<F>(key, &flow.state);
        }
        // Whoever accepts what the other end opened on the ports of a connection of its own: from now on it is the other's.
        if phase == Phase::Accepts && opener == sender && flow.state.is_asked() {
            return self.taken_over::<F>(key, &flow.state);
        }
        let judged_as = opener.judged_as(self.direction);
        if flow.state.allows(judged_as, self.commit) {
            self.note::<F>(key, flow, phase);
            return Verdict::allow(Reason::Established);
        }
        let verdict = self.judge_again::<F>(key, &flow.state, judged_as);
        if verdict.allow {
            self.goes_on::<F>(key, &flow.state, phase, verdict.reason, judged_as);
        } else {
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
        T: FamilyTables<F>,
    {
        let mut opener = state.opener();
        let mut state = if phase == Phase::Accepts { state.accepted(Opener::sender(self.direction)) } else { *state };
        if opener == Opener::Nobody && !state.has_accepted(Opener::sender(self.direction)) {
            opener = self.presumed_opener::<F>(key, reason);
        } else if state.is_cut() && opener != Opener::Nobody {
            FamilyTables::<F>::forget_cut(self.tables, key);
        }
        state = state.judged_again(self.commit, opener, judged_as);
        self.note_judged::<F>(key, if phase.ends() { state.closing() } else { state });
    }

    /// A known connection was judged again, and is not allowed any more: that outlives its flow.
    #[inline(always)]
    fn is_cut<F: Network>(&self, key: &FlowKeyOf<F>, flow: &Flow, judged_as: Direction)
    where
        T: FamilyTables<F>,
    {
        // What never was allowed in this direction is not cut, but denied.
        let is_new = !flow.state.is_cut() && flow.state.has_allowed(judged_as);
        // As long as somebody goes on trying it is not forgotten.
        if is_new || flow.state.is_cut() && flow.seen_s != self.tables.now_s() {
            let (tag, opener) = (flow.state.tag, flow.state.opener().flag());
            FamilyTables::<F>::note_cut(self.tables, key, &Cut { seen_s: self.tables.now_s(), tag, opener });
            FamilyTables::<F>::store_flow_seen(self.tables, key, self.tables.now_s(), UNCHECKED);
            FamilyTables::<F>::store_flow_state(self.tables, key, flow.state.cut());
        }
    }

    /// Who counts as the opener of a connection that was picked up in mid-stream, and whose packet is allowed: its
    /// sender, if a rule vouches for it and nothing is known against it. The mere absence of isolation vouches for
    /// nobody, so that what was forbidden never comes back as somebody's reply.
    #[inline(always)]
    fn presumed_opener<F: Network>(&self, key: &FlowKeyOf<F>, reason: Reason) -> Opener
    where
        T: FamilyTables<F>,
    {
        if reason == Reason::Rule { self.opener_of_cut::<F>(key) } else { Opener::Nobody }
    }

    /// The sender, unless the connection was cut as the other end's; if it was its own, it now is allowed again.
    #[inline(always)]
    fn opener_of_cut<F: Network>(&self, key: &FlowKeyOf<F>) -> Opener
    where
        T: FamilyTables<F>,
    {
        let sender = Opener::sender(self.direction);
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
        T: FamilyTables<F>,
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
        state.commit == self.commit as u32
    }

    /// As the opener would be judged now.
    #[inline(always)]
    pub(super) fn judge_again<F: Network>(&self, key: &FlowKeyOf<F>, state: &FlowState, judged_as: Direction) -> Verdict
    where
        T: FamilyTables<F>,
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
        T: FamilyTables<F>,
    {
        let (verdict, is_node) = self.judge_new::<F>(key);
        // A connection that goes on stays whose it is, until the other end accepts the new one. The node lies to nobody.
        let sender = Opener::sender(self.direction);
        let goes_on = state.opener() == Opener::other(self.direction) && !state.is_closing() && !state.is_cut();
        if verdict.allow && goes_on && !is_node {
            FamilyTables::<F>::store_flow_state(self.tables, key, state.asked());
        } else if verdict.allow {
            if state.is_cut() {
                FamilyTables::<F>::forget_cut(self.tables, key);
            }
            let judged = FlowState::judged(state.tag, self.commit, sender, self.direction, is_node);
            self.note_judged::<F>(key, judged);
        }
        verdict
    }

    /// The opener of a known connection accepts one that the other end opens on its ports.
    #[inline(always)]
    fn taken_over<F: Network>(&self, key: &FlowKeyOf<F>, state: &FlowState) -> Verdict
    where
        T: FamilyTables<F>,
    {
        let opener = Opener::other(self.direction);
        let judged_as = opener.judged_as(self.direction);
        let verdict = self.judge::<F>(key, judged_as);
        if verdict.allow {
            self.note_judged::<F>(key, FlowState::judged(state.tag, self.commit, opener, judged_as, false));
        }
        verdict
    }

    #[inline(always)]
    fn unknown<F: Network>(&self, key: &FlowKeyOf<F>, phase: Phase, entry: Entry) -> Verdict
    where
        T: FamilyTables<F>,
    {
        if self.direction == Direction::ToPod && self.is_martian::<F>(&key.peer) {
            return Verdict::deny(Reason::MartianSource);
        }
        let (verdict, is_node) = self.judge_new::<F>(key);
        if !verdict.allow || phase == Phase::Resets {
            return verdict;
        }
        let opener = match phase {
            Phase::Opens => Opener::sender(self.direction),
            Phase::MayOpen => self.opener_of_cut::<F>(key),
            Phase::Accepts => Opener::Nobody,
            _ => self.presumed_opener::<F>(key, verdict.reason),
        };
        let mut state = FlowState::judged(flow::tag::<F>(key), self.commit, opener, self.direction, is_node);
        if phase == Phase::Accepts {
            state = state.accepted(Opener::sender(self.direction));
        }
        let flow = Flow {
            state: if phase.ends() { state.closing() } else { state },
            seen_s: self.tables.now_s(),
            arrival_ifindex: self.arrival(UNCHECKED),
        };
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
        T: FamilyTables<F>,
    {
        if self.direction == Direction::ToPod && self.is_nodes_own::<F>(&key.peer) {
            return (Verdict::allow(Reason::Node), true);
        }
        (self.judge::<F>(key, self.direction), false)
    }

    /// Keeps a flow that was just used up to date; writes nothing that stands there already.
    #[inline(always)]
    fn note<F: Network>(&self, key: &FlowKeyOf<F>, flow: &Flow, phase: Phase)
    where
        T: FamilyTables<F>,
    {
        let state = if phase.ends() { flow.state.closing() } else { flow.state };
        if state != flow.state {
            FamilyTables::<F>::store_flow_state(self.tables, key, state);
        }
        self.note_seen::<F>(key, flow);
    }

    /// After a new judgement what vouched for the other end's source before vouches no more: first of all that is said.
    #[inline(always)]
    fn note_judged<F: Network>(&self, key: &FlowKeyOf<F>, state: FlowState)
    where
        T: FamilyTables<F>,
    {
        FamilyTables::<F>::store_flow_seen(self.tables, key, self.tables.now_s(), self.arrival(UNCHECKED));
        FamilyTables::<F>::store_flow_state(self.tables, key, state);
    }

    #[inline(always)]
    fn note_seen<F: Network>(&self, key: &FlowKeyOf<F>, flow: &Flow)
    where
        T: FamilyTables<F>,
    {
        let (now_s, arrival) = (self.tables.now_s(), self.arrival(flow.arrival_ifindex));
        if now_s != flow.seen_s || arrival != flow.arrival_ifindex {
            FamilyTables::<F>::store_flow_seen(self.tables, key, now_s, arrival);
        }
    }

    /// The interface by which the other end's packets come; of the endpoint's own nothing new is learned.
    #[inline(always)]
    fn arrival(&self, known: u32) -> u32 {
        match self.direction {
            Direction::FromPod => known,
            Direction::ToPod => self.context.ingress_ifindex,
        }
    }
}
