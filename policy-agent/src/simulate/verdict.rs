//! What a probe comes to, as JSON has it.

use policy_core::judge::End;
use policy_core::model::{Issue, PolicyKey};
use policy_core::simulate::Outcome;
use serde::Serialize;

use super::probe::{Fields, ProbeError};

/// `allow` or `deny`.
pub fn word(allow: bool) -> &'static str {
    if allow { "allow" } else { "deny" }
}

/// One end's verdict.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndVerdict {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// Why.
    pub reason: &'static str,
    /// Whether a policy isolates the pod in this direction.
    pub isolated: bool,
    /// The policy whose rule decided.
    pub policy: Option<String>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// The policies that isolate the pod in this direction.
    pub isolated_by: Vec<String>,
}

impl From<&End> for EndVerdict {
    fn from(end: &End) -> Self {
        let End { allow, reason, rule, isolated_by } = end;
        Self {
            verdict: word(*allow),
            reason: reason.as_str(),
            isolated: !isolated_by.is_empty(),
            policy: rule.as_ref().map(|rule| rule.policy.to_string()),
            rule: rule.as_ref().map(policy_core::compile::RulePlace::rule),
            isolated_by: isolated_by.iter().map(PolicyKey::to_string).collect(),
        }
    }
}

/// The fields by which a probe is answered. Those that a probe brings along, as one that was an answer once does, are
/// no part of the answer.
const ANSWER: [&str; 5] = ["egress", "ingress", "verdict", "reason", "error"];

/// Answers a probe with its outcome.
pub fn answer(fields: &mut Fields, outcome: &Outcome) -> serde_json::Result<()> {
    fields.remove(&ANSWER);
    fields.add("egress", &outcome.egress.as_ref().map(EndVerdict::from))?;
    fields.add("ingress", &outcome.ingress.as_ref().map(EndVerdict::from))?;
    fields.add("verdict", &word(outcome.allow()))?;
    fields.add("reason", &outcome.reason().as_str())
}

/// Answers a probe that cannot be judged.
pub fn refuse(fields: &mut Fields, error: &ProbeError) -> serde_json::Result<()> {
    fields.remove(&ANSWER);
    fields.add("error", &error.to_string())
}

/// The last line of the output.
#[derive(Debug, Serialize)]
pub struct Issues<'a> {
    /// All issues.
    pub issues: &'a [Issue],
}
