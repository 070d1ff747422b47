//! What the policy in force says of a connection.

use super::{Hook, Verdict};
use crate::{
    family::Family,
    parse::{Network, protocol},
    reason::Reason,
    table::{
        Answer, IDENTITY_ABSENT, IDENTITY_WORLD, Local, POLICY_HOLD, POLICY_OPEN, PORT_KEY_FIXED_BITS, PortKey,
        PortPlace, RuleEntry, RuleKey,
    },
    tables::{AllTables, Direction, EndpointRow, FamilyTables},
};

/// What a connection asks of its destination.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) protocol: u8,
    pub(super) port: u16,
}

impl<T: AllTables> Hook<'_, T> {
    /// Whether the endpoint's policy of a direction allows a connection with `peer`.
    #[inline(always)]
    pub(super) fn judge<F: Network>(&self, judged_as: Direction, peer: &F::Addr, asked: Asked) -> Verdict
    where
        T: FamilyTables<F>,
    {
        let policy = match self.policy(judged_as) {
            Ok(POLICY_OPEN) => return Verdict::allow(Reason::NotIsolated),
            Ok(POLICY_HOLD) => return Verdict::deny(Reason::Hold),
            Ok(policy) => policy,
            Err(race) => return Verdict::deny(race),
        };
        let identity = match self.identity::<F>(peer) {
            Ok(identity) => identity,
            Err(race) => return Verdict::deny(race),
        };
        let Some(row) = self.row(policy, identity) else {
            return Verdict::deny(Reason::NoRule);
        };
        match row.answer {
            Answer::Allow => Verdict { allow: true, reason: Reason::Rule, rule: row.rule },
            Answer::Deny => denied(row.rule),
            Answer::Ports => self.judge_port(row.ports, asked),
        }
    }

    /// The policy of a direction.
    #[inline(always)]
    pub(super) fn policy(&self, judged_as: Direction) -> Result<u32, Reason> {
        let word = self.endpoint.policy(self.slot(), judged_as);
        if word.tag == self.id { Ok(word.id) } else { Err(Reason::TableRace) }
    }

    #[inline(always)]
    fn row(&self, policy: u32, identity: u32) -> Option<RuleEntry> {
        let own = self.tables.rule(&RuleKey { policy, identity });
        if own.is_some() || identity == IDENTITY_WORLD {
            return own;
        }
        self.tables.rule(&RuleKey { policy, identity: IDENTITY_WORLD })
    }

    #[inline(always)]
    fn judge_port(&self, table: u32, asked: Asked) -> Verdict {
        let Asked { protocol, port } = asked;
        if !matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
            return Verdict::deny(Reason::NoRule);
        }
        let prefix_len = PORT_KEY_FIXED_BITS + 16;
        let key = PortKey { prefix_len, place: PortPlace { table, protocol, port: port.to_be_bytes(), reserved: 0 } };
        match self.tables.port(&key) {
            Some(entry) if entry.answer == Answer::Allow => {
                Verdict { allow: true, reason: Reason::Rule, rule: entry.rule }
            }
            Some(entry) => denied(entry.rule),
            None => Verdict::deny(Reason::NoRule),
        }
    }

    /// The identity of an address: its own, else that of the longest prefix around it, else the world's.
    #[inline(always)]
    fn identity<F: Network>(&self, address: &F::Addr) -> Result<u32, Reason>
    where
        T: FamilyTables<F>,
    {
        let tag = F::tag(address);
        let found = || FamilyTables::<F>::ident(self.tables, address, self.slot());
        let mut word = found();
        if word.is_some_and(|word| word.tag != tag) {
            // The element changed hands while it was read; it cannot do so again and again.
            word = found();
        }
        match word {
            Some(word) if word.tag != tag => Err(Reason::TableRace),
            Some(word) if word.id != IDENTITY_ABSENT => Ok(word.id),
            _ => Ok(FamilyTables::<F>::net(self.tables, address, self.slot()).unwrap_or(IDENTITY_WORLD)),
        }
    }

    /// The local table's element of an address.
    #[inline(always)]
    pub(super) fn local<F: Network>(&self, address: &F::Addr) -> Option<Local>
    where
        T: FamilyTables<F>,
    {
        let tag = <F as Family>::tag(address);
        let found = || FamilyTables::<F>::local(self.tables, address);
        found().filter(|local| local.tag == tag).or_else(|| found().filter(|local| local.tag == tag))
    }
}

/// A denial: by a rule, or because no rule allows.
#[inline(always)]
fn denied(rule: u32) -> Verdict {
    let reason = if rule == crate::table::RULE_NONE { Reason::NoRule } else { Reason::DenyRule };
    Verdict { allow: false, reason, rule }
}
