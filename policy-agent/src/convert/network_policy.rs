//! `networking.k8s.io/v1` NetworkPolicy: its subject and which directions it isolates.

use policy_core::model::{Direction, IssueCode, Level, NetworkPolicy, PolicyKey, Selector};

use super::reader::{At, Notes, Unread, collect, elements_of};
use super::{meta, rule, selector};

/// Reads a NetworkPolicy. A rule that cannot be read stays in its place as such; a subject or `policyTypes` that
/// cannot be read loses the policy.
pub(super) fn read(key: &PolicyKey, object: &At<'_>, notes: &mut Notes<'_>) -> Result<NetworkPolicy, Unread> {
    let peer_scope = meta::peer_scope(object, notes);
    meta::note_unknown_scope(object, peer_scope.as_ref().ok().and_then(Option::as_ref), notes);
    meta::note_enforcement(object, "the policy is", notes);
    let spec = object.member("spec");
    if !spec.value().is_null() {
        spec.map(notes)?;
        warn_of_unknown_fields(&spec, notes);
    }
    let subject = spec.get("podSelector").map_or(Ok(Selector::default()), |place| subject(&place, notes));
    let isolated = isolated(&spec, notes);
    let mut rules = |direction| {
        let listed = isolated.as_ref().is_ok_and(|isolated| isolated.contains(&direction));
        // Rules of a direction that `policyTypes` does not list decide nothing.
        let level = if listed { Level::Error } else { Level::Warning };
        let place = spec.get(Direction::as_str(direction));
        let read =
            |notes: &mut Notes<'_>| place.map_or_else(Vec::new, |place| rule::read_all(&place, direction, notes));
        let rules = notes.under(IssueCode::UnreadableRule, level, read);
        listed.then_some(rules)
    };
    let (ingress, egress) = (rules(Direction::Ingress), rules(Direction::Egress));
    isolated?;
    Ok(NetworkPolicy { key: key.clone(), peer_scope: peer_scope?, subject: subject?, ingress, egress })
}

/// A subject is always local: a selector that names a cluster there is hardly what its author meant.
fn subject(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Selector, Unread> {
    let selector = selector::read(at, notes)?;
    if selector.names_cluster() {
        let message = "names a cluster, but a policy isolates pods of its own cluster only: where it names another one it \
                       selects nobody, and the pods stay open; name clusters in its peers";
        notes.warn(IssueCode::SubjectNamesCluster, at, message);
    }
    Ok(selector)
}

fn warn_of_unknown_fields(spec: &At<'_>, notes: &mut Notes<'_>) {
    const KNOWN: [&str; 4] = ["podSelector", "policyTypes", "ingress", "egress"];
    let Ok(members) = spec.members(notes) else { return };
    let unknown: Vec<_> =
        members.filter(|member| !member.value().is_null() && !KNOWN.contains(&member.name())).collect();
    for member in unknown {
        let message = "is no field of a NetworkPolicy's spec, and is ignored";
        notes.warn(IssueCode::UnknownField, &member, message);
    }
}

/// The directions that the policy isolates; where it does not say, as the API server defaults it.
fn isolated(spec: &At<'_>, notes: &mut Notes<'_>) -> Result<Vec<Direction>, Unread> {
    let place = spec.get("policyTypes");
    let types = elements_of(place.as_ref(), notes)?;
    if types.len() > 2 {
        return Err(notes.unreadable(&spec.member("policyTypes"), "has more than two entries; keep Ingress and Egress"));
    }
    let mut isolated = Ok(Vec::new());
    for element in &types {
        let direction = element.string(notes).and_then(|name| match name {
            "Ingress" => Ok(Direction::Ingress),
            "Egress" => Ok(Direction::Egress),
            _ => Err(notes.unreadable(element, format_args!("{name:?} is no policy type: Ingress or Egress"))),
        });
        collect(&mut isolated, direction);
    }
    if types.is_empty() {
        // What is no list counts as one rule that cannot be read.
        let has_egress =
            spec.get("egress").is_some_and(|egress| egress.value().as_array().is_none_or(|l| !l.is_empty()));
        return Ok(if has_egress { vec![Direction::Ingress, Direction::Egress] } else { vec![Direction::Ingress] });
    }
    isolated
}
