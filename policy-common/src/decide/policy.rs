//! What the policy in force says of a connection.

use super::{Judge, Sight, Verdict};
use crate::{
    family::{Family, FlowKeyOf},
    parse::{Network, protocol},
    reason::Reason,
    table::{
        Answer, IDENTITY_ABSENT, IDENTITY_WORLD, IFINDEX_HOST, Local, POLICY_HAS_WORLD, POLICY_HOLD, POLICY_OPEN,
        PORT_KEY_FIXED_BITS, PortKey, PortPlace, RuleEntry, RuleKey, live_slot,
    },
    tables::{AllTables, Direction, FamilyTables, Steps, find},
};

/// What is asked of the policy in force besides the connection: whose policy, of which commit, and who opened it.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The endpoint's interface.
    pub ifindex: u32,
    /// The slot to read.
    pub slot: u32,
    /// The way in which the connection was opened.
    pub judged_as: Direction,
}

impl Question {
    /// Whether the connection may be: [`Steps::answer`].
    #[inline(always)]
    pub fn answer<F: Network, T: AllTables + Steps<F>>(self, key: &FlowKeyOf<F>, tables: &T) -> Verdict {
        let Self { ifindex, slot, judged_as } = self;
        Policies { tables, ifindex, id: key.endpoint, slot: slot as usize }.judge::<F>(key, judged_as)
    }
}

/// The policies of an endpoint, and what they say of addresses.
struct Policies<'a, T> {
    tables: &'a T,
    ifindex: u32,
    id: u32,
    slot: usize,
}

impl<T: AllTables> Judge<'_, T> {
    /// Whether the endpoint's policy of a direction allows a connection, opened in that direction.
    #[inline(always)]
    pub(super) fn judge<F: Network>(&self, key: &FlowKeyOf<F>, judged_as: Direction) -> Verdict
    where
        T: Steps<F>,
    {
        let (ifindex, slot) = (self.sight.context.ifindex, live_slot(self.sight.commit) as u32);
        Steps::<F>::answer(self.tables, key, Question { ifindex, slot, judged_as })
    }

    /// The policy of the packet's own direction.
    #[inline(always)]
    pub(super) fn policy(&self) -> Result<u32, Reason> {
        let Sight { commit, context, direction, id } = self.sight;
        Policies { tables: self.tables, ifindex: context.ifindex, id, slot: live_slot(commit) }.policy(direction)
    }

    /// Where an address is, by the local table.
    #[inline(always)]
    pub(super) fn place<F: Network>(&self, address: &F::Addr) -> Place
    where
        T: Steps<F>,
    {
        let tag = <F as Family>::tag(address);
        // Hardly any peer is here.
        if self.tables.may_be_local(tag) { self.place_of::<F>(address, tag) } else { Place::ELSEWHERE }
    }

    #[inline(never)]
    fn place_of<F: Network>(&self, address: &F::Addr, tag: u32) -> Place
    where
        T: Steps<F>,
    {
        let look = || FamilyTables::<F>::local(self.tables, address);
        match find(self.tables, look, |local| local.tag == tag) {
            Some(local) if local.tag == tag => Place::of(&local),
            _ => Place::ELSEWHERE,
        }
    }
}

impl<T: AllTables> Policies<'_, T> {
    #[inline(always)]
    fn judge<F: Network>(&self, key: &FlowKeyOf<F>, judged_as: Direction) -> Verdict
    where
        T: Steps<F>,
    {
        let policy = match self.policy(judged_as) {
            Ok(POLICY_OPEN) => return Verdict::allow(Reason::NotIsolated),
            Ok(POLICY_HOLD) => return Verdict::deny(Reason::Hold),
            Ok(policy) => policy,
            Err(race) => return Verdict::deny(race),
        };
        let identity = self.identity::<F>(&key.peer, <F as Family>::tag(&key.peer));
        if identity == Identified::RACE {
            return Verdict::deny(Reason::TableRace);
        }
        let row = self.row(policy, identity.0 as u32);
        match row.answer {
            Answer::Allow => Verdict::new(true, Reason::Rule, row.rule),
            Answer::Deny => denied(row.rule),
            Answer::Ports => self.judge_port(row.ports, key.protocol as u8, asked_port::<F>(key, judged_as)),
        }
    }

    /// The policy of a direction.
    #[inline(always)]
    fn policy(&self, judged_as: Direction) -> Result<u32, Reason> {
        let word = self.policy_word(judged_as);
        if word as u32 == self.id { Ok((word >> 32) as u32) } else { Err(Reason::TableRace) }
    }

    /// The word of a direction's policy, its tag in the low half; one register. Of an endpoint that is gone it is nobody's.
    #[inline(never)]
    fn policy_word(&self, judged_as: Direction) -> u64 {
        let mut found = self.tables.policy(&self.ifindex, self.slot, judged_as);
        if found.is_none_or(|word| word.tag != self.id) {
            // While it was replaced it was missed, or another's; that does not happen again and again.
            found = self.tables.policy(&self.ifindex, self.slot, judged_as);
        }
        match found {
            Some(word) => u64::from(word.id) << 32 | u64::from(word.tag),
            None => u64::from(!self.id),
        }
    }

    #[inline(always)]
    fn row(&self, policy: u32, identity: u32) -> RuleEntry {
        let row = |identity| find(self.tables, || self.tables.rule(&RuleKey { policy, identity }), |_| true);
        let own = if identity == IDENTITY_WORLD { None } else { row(identity) };
        match own {
            Some(own) => own,
            None if policy & POLICY_HAS_WORLD == 0 => RuleEntry::NOTHING,
            None => row(IDENTITY_WORLD).unwrap_or(RuleEntry::NOTHING),
        }
    }

    #[inline(always)]
    fn judge_port(&self, table: u32, protocol: u8, port: u16) -> Verdict {
        if !matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
            return Verdict::deny(Reason::NoRule);
        }
        let prefix_len = PORT_KEY_FIXED_BITS + 16;
        let key = PortKey { prefix_len, place: PortPlace { table, protocol, port: port.to_be_bytes(), reserved: 0 } };
        match self.tables.port(&key) {
            Some(entry) if entry.answer == Answer::Allow => Verdict::new(true, Reason::Rule, entry.rule),
            Some(entry) => denied(entry.rule),
            None => Verdict::deny(Reason::NoRule),
        }
    }

    /// The identity of an address: its own, else that of the longest prefix around it, else the world's.
    ///
    /// The tag is the address's: whoever holds the address where it is aligned finds it out faster.
    #[inline(never)]
    fn identity<F: Network>(&self, address: &F::Addr, tag: u32) -> Identified
    where
        T: Steps<F>,
    {
        let look = || FamilyTables::<F>::ident(self.tables, address, self.slot);
        let Some(word) = find(self.tables, look, |word| word.tag == tag) else {
            return self.identity_of_prefix::<F>(address);
        };
        if word.tag != tag {
            return Identified::RACE;
        }
        if word.id == IDENTITY_ABSENT { self.identity_of_prefix::<F>(address) } else { Identified::new(word.id) }
    }

    #[inline(always)]
    fn identity_of_prefix<F: Network>(&self, address: &F::Addr) -> Identified
    where
        T: Steps<F>,
    {
        Identified::new(FamilyTables::<F>::net(self.tables, address, self.slot).unwrap_or(IDENTITY_WORLD))
    }
}

/// An identity, or none because its element changed hands; one register, in which kernel functions answer.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identified(u64);

impl Identified {
    const RACE: Self = Self(u64::MAX);

    #[inline(always)]
    fn new(identity: u32) -> Self {
        Self(identity as u64)
    }
}

/// Where an address is: the interface of a pod of this node and its bridge, the node itself, or elsewhere; one register.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Place {
    const ELSEWHERE: Self = Self(u64::MAX);

    #[inline(always)]
    fn of(local: &Local) -> Self {
        Self(u64::from(local.bridge) << 32 | u64::from(local.ifindex))
    }

    /// Whether it is a pod's of this node.
    #[inline(always)]
    pub(super) fn is_endpoint(self) -> bool {
        self != Self::ELSEWHERE && !self.is_host()
    }

    /// Whether it is the node itself.
    #[inline(always)]
    pub(super) fn is_host(self) -> bool {
        self != Self::ELSEWHERE && self.ifindex() == IFINDEX_HOST
    }

    /// The interface.
    #[inline(always)]
    pub(super) fn ifindex(self) -> u32 {
        self.0 as u32
    }

    /// The bridge that the pod's interface is a port of, or 0.
    #[inline(always)]
    pub(super) fn bridge(self) -> u32 {
        if self == Self::ELSEWHERE { 0 } else { (self.0 >> 32) as u32 }
    }
}

/// The port that a connection asks of its destination, if the given direction's sender opened it.
#[inline(always)]
fn asked_port<F: Network>(key: &FlowKeyOf<F>, judged_as: Direction) -> u16 {
    match judged_as {
        Direction::FromPod => key.peer_port,
        Direction::ToPod => key.own_port,
    }
}

/// A denial: by a rule, or because no rule allows.
#[inline(always)]
fn denied(rule: u32) -> Verdict {
    let reason = if rule == crate::table::RULE_NONE { Reason::NoRule } else { Reason::DenyRule };
    Verdict::new(false, reason, rule)
}
