//! `--check`: the oracle is asked about every probe too.

use std::io::Write;

use policy_common::reason::Reason;
use policy_core::judge::End;
use policy_core::model::{Direction, Event, PodKey};
use policy_core::oracle::{self, Oracle, Verdict};
use policy_core::simulate::Outcome;
use policy_core::world::World;

use super::Input;
use super::probe::Probe;
use super::verdict::word;

/// The world that the oracle judges in.
#[derive(Debug)]
pub struct Check {
    world: World,
}

impl Check {
    /// The world of the same manifests.
    pub fn new(input: &Input) -> Self {
        let configured = Event::Configured(input.config.clone());
        Self { world: World::from_events(std::iter::once(&configured).chain(&input.events)) }
    }

    /// Compares both ends with the oracle's word, and complains of each difference; returns how many there are.
    pub fn compare(&self, probe: &Probe, outcome: &Outcome, complaints: &mut dyn Write) -> std::io::Result<usize> {
        let ends = [
            (&probe.from.pod, Direction::Egress, &outcome.egress),
            (&probe.to.pod, Direction::Ingress, &outcome.ingress),
        ];
        let mut differences = 0;
        for (subject, direction, end) in ends {
            if let (Some(subject), Some(end)) = (subject, end) {
                differences += usize::from(self.differs(subject, direction, probe, end, complaints)?);
            }
        }
        Ok(differences)
    }

    fn differs(
        &self,
        subject: &PodKey,
        direction: Direction,
        probe: &Probe,
        end: &End,
        complaints: &mut dyn Write,
    ) -> std::io::Result<bool> {
        let expected = Oracle::new(&self.world).judge(subject, direction, &probe.connection);
        let rule = end.rule.as_ref().map(|place| (place.policy.clone(), place.item));
        let rule_allows = rule.is_none_or(|rule| expected.allowed_by.contains(&rule));
        let same = end.allow == (expected.verdict == Verdict::Allow)
            && end.reason == reason(expected.reason)
            && end.isolated_by == expected.isolated_by
            && rule_allows;
        if !same {
            writeln!(
                complaints,
                "{subject} {}: {:?}: the tables say {} ({}), the oracle says {} ({})",
                direction.as_str(),
                probe.connection,
                word(end.allow),
                end.reason.as_str(),
                word(expected.verdict == Verdict::Allow),
                reason(expected.reason).as_str(),
            )?;
        }
        Ok(!same)
    }
}

fn reason(reason: oracle::Reason) -> Reason {
    match reason {
        oracle::Reason::SelfTraffic => Reason::SelfTraffic,
        oracle::Reason::Node => Reason::Node,
        oracle::Reason::NotIsolated => Reason::NotIsolated,
        oracle::Reason::Rule => Reason::Rule,
        oracle::Reason::NoRule => Reason::NoRule,
    }
}
