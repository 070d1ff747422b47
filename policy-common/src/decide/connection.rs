//! Packets of connections: known ones pass under the judgement that their flow remembers, others are judged.

use super::policy::Asked;
use super::{Hook, Verdict};
use crate::{
    family::FlowKeyOf,
    flow::{self, Opener},
    parse::{Network, Phase, Segment},
    reason::Reason,
    table::{Flow, FlowState},
    tables::{AllTables, Direction, FamilyTables},
};

/// What the flow table says of a key.
enum Found {
    /// A flow of this key.
    Flow(Flow),
    /// None.
    Nothing,
    /// An element that carries another key's tag, and goes on doing so.
    Foreign,
}

impl<T: AllTables> Hook<'_, T> {
    /// Judges a packet of the connection with `peer`.
    #[inline(always)]
    pub(super) fn connection<F: Network>(&self, peer: F::Addr, segment: &Segment) -> Verdict
    where
        T: FamilyTables<F>,
    {
        let key = flow::key::<F>(self.id, peer, segment, self.direction);
        match self.find::<F>(&key) {
            Found::Flow(flow) => self.known::<F>(&key, &flow, segment.phase),
            Found::Nothing => self.unknown::<F>(&key, segment.phase, false),
            Found::Foreign => self.unknown::<F>(&key, segment.phase, true),
        }
    }

    #[inline(always)]
    fn find<F: Network>(&self, key: &FlowKeyOf<F>) -> Found
    where
        T: FamilyTables<F>,
    {
        let tag = flow::tag::<F>(key);
        let Some(flow) = FamilyTables::<F>::flow(self.tables, key) else {
            return Found::Nothing;
        };
        if flow.state.tag == tag {
            return Found::Flow(flow);
        }
        match FamilyTables::<F>::flow(self.tables, key) {
            Some(flow) if flow.state.tag == tag => Found::Flow(flow),
            Some(_) => Found::Foreign,
            None => Found::Nothing,
        }
    }

    #[inline(always)]
    fn known<F: Network>(&self, key: &FlowKeyOf<F>, flow: &Flow, phase: Phase) -> Verdict
    where
        T: FamilyTables<F>,
    {
        let arrival = self.context.ingress_ifindex;
        if self.direction == Direction::ToPod {
            if (flow.arrival_ifindex != arrival || flow.state.commit != self.commit as u32)
                && self.is_martian::<F>(&key.peer)
            {
                return Verdict::deny(Reason::MartianSource);
            }
            // Only the node's own sockets speak for the node.
            if flow.state.is_node() && !self.has_local_socket() {
                return self.judge::<F>(Direction::ToPod, &key.peer, asked::<F>(key, Direction::ToPod));
            }
        }
        let opener = flow.state.opener();
        let sender = Opener::sender(self.direction);
        if phase == Phase::Opens && opener != sender {
            return self.reopened::<F>(key, flow);
        }
        let judged_as = opener.judged_as(self.direction);
        if flow.state.allows(judged_as, self.commit) {
            self.note::<F>(key, flow, phase);
            return Verdict::allow(Reason::Established);
        }
        let verdict = self.judge_again::<F>(key, &flow.state, judged_as);
        if verdict.allow {
            // A rule vouches for its sender where nobody was seen to open; the mere absence of isolation does not.
            let vouched = opener == Opener::Nobody && verdict.reason == Reason::Rule;
            let opener = if vouched { sender } else { opener };
            let state = flow.state.judged_again(self.commit, opener, judged_as);
            FamilyTables::<F>::store_flow_state(self.tables, key, if phase.ends() { state.closing() } else { state });
            self.note_seen::<F>(key, flow);
        }
        verdict
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
        self.judge::<F>(judged_as, &key.peer, asked::<F>(key, judged_as))
    }

    /// The end that did not open the connection opens one with the same ports: a new connection.
    #[inline(always)]
    fn reopened<F: Network>(&self, key: &FlowKeyOf<F>, flow: &Flow) -> Verdict
    where
        T: FamilyTables<F>,
    {
        let (verdict, is_node) = self.judge_new::<F>(key);
        if verdict.allow {
            let sender = Opener::sender(self.direction);
            let state = FlowState::judged(flow.state.tag, self.commit, sender, self.direction, is_node);
            FamilyTables::<F>::store_flow_state(self.tables, key, state);
            self.note_seen::<F>(key, flow);
        }
        verdict
    }

    #[inline(always)]
    fn unknown<F: Network>(&self, key: &FlowKeyOf<F>, phase: Phase, replace: bool) -> Verdict
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
        let seen_to_open = matches!(phase, Phase::Opens | Phase::MayOpen) || verdict.reason == Reason::Rule;
        let opener = if seen_to_open { Opener::sender(self.direction) } else { Opener::Nobody };
        let state = FlowState::judged(flow::tag::<F>(key), self.commit, opener, self.direction, is_node);
        let flow = Flow {
            state: if phase.ends() { state.closing() } else { state },
            seen_s: self.tables.now_s(),
            arrival_ifindex: self.arrival(0),
        };
        if replace {
            FamilyTables::<F>::replace_flow(self.tables, key, &flow);
        } else {
            FamilyTables::<F>::insert_flow(self.tables, key, &flow);
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
        (self.judge::<F>(self.direction, &key.peer, asked::<F>(key, self.direction)), false)
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

/// What a connection with this key asks of its destination, if the given direction's sender opened it.
#[inline(always)]
fn asked<F: Network>(key: &FlowKeyOf<F>, judged_as: Direction) -> Asked {
    let port = match judged_as {
        Direction::FromPod => key.peer_port,
        Direction::ToPod => key.own_port,
    };
    Asked { protocol: key.protocol, port }
}
