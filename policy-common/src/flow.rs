//! Flows: what is remembered of a connection, and what a packet of it needs.

use crate::{
    family::{Family, FlowKeyOf},
    parse::{Phase, Segment},
    table::{FlowKey, FlowState, flow_flag},
    tables::Direction,
};

/// Who opened a connection, as its flow remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// The endpoint.
    Own,
    /// The other end.
    Peer,
    /// Nobody was seen to: each direction stands for itself.
    Nobody,
}

impl Opener {
    /// The sender of a packet.
    #[inline(always)]
    pub fn sender(direction: Direction) -> Self {
        match direction {
            Direction::FromPod => Self::Own,
            Direction::ToPod => Self::Peer,
        }
    }

    /// The other end.
    #[inline(always)]
    pub fn other(direction: Direction) -> Self {
        match direction {
            Direction::FromPod => Self::Peer,
            Direction::ToPod => Self::Own,
        }
    }

    /// The bit that says that this end accepted.
    #[inline(always)]
    fn accepted_flag(self) -> u16 {
        match self {
            Self::Own => flow_flag::ACCEPTED_BY_OWN,
            Self::Peer => flow_flag::ACCEPTED_BY_PEER,
            Self::Nobody => 0,
        }
    }

    /// The bit that says that this end opened.
    #[inline(always)]
    pub fn flag(self) -> u16 {
        match self {
            Self::Own => flow_flag::OPENED_BY_OWN,
            Self::Peer => flow_flag::OPENED_BY_PEER,
            Self::Nobody => 0,
        }
    }

    /// As whose connection a packet is judged: the opener's, or its own where nobody is known.
    #[inline(always)]
    pub fn judged_as(self, direction: Direction) -> Direction {
        match self {
            Self::Own => Direction::FromPod,
            Self::Peer => Direction::ToPod,
            Self::Nobody => direction,
        }
    }
}

/// The bit that says that a direction's policy allows the connection.
#[inline(always)]
const fn ok_flag(judged_as: Direction) -> u16 {
    match judged_as {
        Direction::FromPod => flow_flag::EGRESS_OK,
        Direction::ToPod => flow_flag::INGRESS_OK,
    }
}

/// The bit that says that a direction's policy of an earlier commit allowed the connection.
#[inline(always)]
const fn was_ok_flag(judged_as: Direction) -> u16 {
    match judged_as {
        Direction::FromPod => flow_flag::EGRESS_WAS_OK,
        Direction::ToPod => flow_flag::INGRESS_WAS_OK,
    }
}

impl FlowState {
    /// Who opened the connection.
    #[inline(always)]
    pub fn opener(&self) -> Opener {
        if self.flags & flow_flag::OPENED_BY_OWN != 0 {
            Opener::Own
        } else if self.flags & flow_flag::OPENED_BY_PEER != 0 {
            Opener::Peer
        } else {
            Opener::Nobody
        }
    }

    /// Whether the other end is the node itself.
    #[inline(always)]
    pub fn is_node(&self) -> bool {
        self.flags & flow_flag::NODE != 0
    }

    /// Whether the connection was judged in this direction under this commit, and allowed.
    #[inline(always)]
    pub fn allows(&self, judged_as: Direction, commit: u64) -> bool {
        self.commit == commit as u32 && self.flags & ok_flag(judged_as) != 0
    }

    /// Whether it was judged in this direction at any time, and allowed.
    #[inline(always)]
    pub fn has_allowed(&self, judged_as: Direction) -> bool {
        self.flags & (ok_flag(judged_as) | was_ok_flag(judged_as)) != 0
    }

    /// The flags under another commit: what was allowed is not so any more, but was.
    #[inline(always)]
    fn outdated_flags(&self) -> u16 {
        let was = [Direction::FromPod, Direction::ToPod]
            .map(|way| if self.flags & ok_flag(way) == 0 { 0 } else { was_ok_flag(way) });
        self.flags & !(flow_flag::EGRESS_OK | flow_flag::INGRESS_OK) | was[0] | was[1]
    }

    /// With a note that an end accepted.
    #[inline(always)]
    pub fn accepted(self, by: Opener) -> Self {
        Self { flags: self.flags | by.accepted_flag(), ..self }
    }

    /// With a note that the end which did not open it asked to open one.
    #[inline(always)]
    pub fn asked(self) -> Self {
        Self { flags: self.flags | flow_flag::ASKED, ..self }
    }

    /// Whether the end that did not open it asked to open one.
    #[inline(always)]
    pub fn is_asked(&self) -> bool {
        self.flags & flow_flag::ASKED != 0
    }

    /// Whether an end was seen to accept.
    #[inline(always)]
    pub fn has_accepted(&self, end: Opener) -> bool {
        self.flags & end.accepted_flag() != 0
    }

    /// The state of a connection that was judged just now, and allowed.
    #[inline(always)]
    pub fn judged(tag: u16, commit: u64, opener: Opener, judged_as: Direction, is_node: bool) -> Self {
        let node = if is_node { flow_flag::NODE } else { 0 };
        Self { commit: commit as u32, tag, flags: opener.flag() | ok_flag(judged_as) | node }
    }

    /// The state after a new judgement of a known connection, which allowed it.
    #[inline(always)]
    pub fn judged_again(&self, commit: u64, opener: Opener, judged_as: Direction) -> Self {
        let flags = if self.commit == commit as u32 { self.flags } else { self.outdated_flags() };
        let flags = flags & !flow_flag::CUT | opener.flag() | ok_flag(judged_as);
        Self { commit: commit as u32, tag: self.tag, flags }
    }

    /// With what a packet says of the connection's end.
    #[inline(always)]
    pub fn after(self, phase: Phase) -> Self {
        let flags = match phase {
            Phase::Finishes => self.flags & !flow_flag::RESET | flow_flag::CLOSING,
            Phase::Resets if !self.is_closing() => self.flags | flow_flag::CLOSING | flow_flag::RESET,
            Phase::Continues if self.is_reset() => self.flags & !(flow_flag::CLOSING | flow_flag::RESET),
            _ => self.flags,
        };
        Self { flags, ..self }
    }

    /// With a note that a policy cut the connection.
    #[inline(always)]
    pub fn cut(self) -> Self {
        Self { flags: self.flags | flow_flag::CUT, ..self }
    }

    /// Whether a policy cut it, and has not allowed it again since.
    #[inline(always)]
    pub fn is_cut(&self) -> bool {
        self.flags & flow_flag::CUT != 0
    }

    /// Whether only an RST said that it ends.
    #[inline(always)]
    pub fn is_reset(&self) -> bool {
        self.flags & flow_flag::RESET != 0
    }

    /// Whether it was seen to end.
    #[inline(always)]
    pub fn is_closing(&self) -> bool {
        self.flags & flow_flag::CLOSING != 0
    }
}

/// The key of a packet's connection.
#[inline(always)]
pub fn key<F: Family>(endpoint: u32, peer: F::Addr, segment: &Segment, direction: Direction) -> FlowKeyOf<F> {
    let (own_port, peer_port) = match direction {
        Direction::FromPod => (segment.source_port, segment.destination_port),
        Direction::ToPod => (segment.destination_port, segment.source_port),
    };
    FlowKey { endpoint, peer, own_port, peer_port, protocol: segment.protocol.into() }
}

/// The tag that a flow of this key carries.
#[inline(always)]
pub fn tag<F: Family>(key: &FlowKeyOf<F>) -> u16 {
    let ports = u32::from(key.own_port) << 16 | u32::from(key.peer_port);
    let mixed = F::tag(&key.peer)
        ^ ports.wrapping_mul(0x9e37_79b1)
        ^ key.endpoint.wrapping_mul(0x85eb_ca77)
        ^ key.protocol.wrapping_mul(0xc2b2_ae3d);
    (mixed ^ mixed >> 16) as u16
}
