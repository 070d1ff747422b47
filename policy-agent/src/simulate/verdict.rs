//! What a probe comes to, as JSON has it.

use policy_core::judge::End;
use policy_core::model::{Issue, PolicyKey};
use policy_core::simulate::Outcome;
use serde::Serialize;

use super::probe::Fields;

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

/// Adds an outcome to a probe's fields.
pub fn answer(fields: &mut Fields, outcome: &Outcome) -> serde_json::Result<()> {
    fields.set("egress", &outcome.egress.as_ref().map(EndVerdict::from))?;
    fields.set("ingress", &outcome.ingress.as_ref().map(EndVerdict::from))?;
    fields.set("verdict", &word(outcome.allow()))?;
    fields.set("reason", &outcome.reason().as_str())
}

/// The last line of the output.
#[derive(Debug, Serialize)]
pub struct Issues<'a> {
    /// All issues.
    pub issues: &'a [Issue],
}
