//! What every object says of itself: name, namespace, labels, annotations.

use policy_core::model::{IssueCode, Labels, Level, Scope, ScopeAnnotation, Text};

use super::reader::{At, Notes, Unread};

/// The annotation that sets the scope of unqualified peers.
const PEER_SCOPE_KEY: &str = "crosswall.dev/peer-scope";

/// The annotation that says whether a policy is enforced or only watched.
const ENFORCEMENT_KEY: &str = "crosswall.dev/enforcement";

/// Reads `metadata.name`, which an object must have.
pub(super) fn name(object: &At<'_>, notes: &mut Notes<'_>) -> Result<Text, Unread> {
    let metadata = object.member("metadata");
    metadata.map(notes)?;
    let place = metadata.member("name");
    if place.value().is_null() {
        return Err(notes.unreadable(&place, "an object needs a name"));
    }
    let name = place.string(notes)?;
    match check_name(name) {
        Ok(()) => Ok(name.into()),
        Err(why) => Err(notes.unreadable(&place, format_args!("{why} is no name of an object"))),
    }
}

/// The longest name that an API server takes (RFC 1123 has it so of subdomains); the index has room for no longer ones.
const LONGEST_NAME: usize = 253;

/// Whether a name can be written and kept as one; the error says what it is instead.
fn check_name(name: &str) -> Result<(), String> {
    if name.len() > LONGEST_NAME {
        return Err(format!("a text of {} bytes", name.len()));
    }
    let is_strange = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.contains(is_strange) { Err(format!("{name:?}")) } else { Ok(()) }
}

/// Reads `metadata.namespace`, which is `default` where nothing is said.
pub(super) fn namespace(object: &At<'_>, notes: &mut Notes<'_>) -> Result<Text, Unread> {
    let metadata = object.member("metadata");
    let Some(place) = metadata.get("namespace") else { return Ok("default".into()) };
    match place.string(notes)? {
        "" => Ok("default".into()),
        name => match check_name(name) {
            Ok(()) => Ok(name.into()),
            Err(why) => Err(notes.unreadable(&place, format_args!("{why} is no name of a namespace"))),
        },
    }
}

/// Reads `metadata.labels` as they are: whoever stored the object has checked their syntax.
pub(super) fn labels(object: &At<'_>, notes: &mut Notes<'_>) -> Result<Labels, Unread> {
    let metadata = object.member("metadata");
    let Some(place) = metadata.get("labels") else { return Ok(Labels::new()) };
    let mut labels = Ok(Labels::new());
    for member in place.members(notes)? {
        // An absent value is the empty one, as the API server decodes it.
        let value = if member.value().is_null() { Ok("") } else { member.string(notes) };
        match (labels.as_mut(), value) {
            (Ok(labels), Ok(value)) => labels.insert(member.name().into(), value.into()),
            (Ok(_), Err(unread)) => labels = Err(unread),
            (Err(_), _) => (),
        }
    }
    labels
}

/// Reads the annotation `crosswall.dev/peer-scope`; a value of a wrong type is an unknown one.
pub(super) fn peer_scope(object: &At<'_>, notes: &mut Notes<'_>) -> Result<Option<ScopeAnnotation>, Unread> {
    let metadata = object.member("metadata");
    let Some(annotations) = metadata.get("annotations") else { return Ok(None) };
    let Some(value) = annotations.map(notes)?.get(PEER_SCOPE_KEY) else { return Ok(None) };
    Ok(Some(match value.as_str() {
        Some("Local") => ScopeAnnotation::Known(Scope::Local),
        Some("ClusterSet") => ScopeAnnotation::Known(Scope::ClusterSet),
        Some(other) => ScopeAnnotation::Unknown(other.into()),
        None if value.is_null() => ScopeAnnotation::Unknown("".into()),
        None => ScopeAnnotation::Unknown(value.to_string().into()),
    }))
}

/// Notes a scope of the object's own that is not known.
pub(super) fn note_unknown_scope(object: &At<'_>, scope: Option<&ScopeAnnotation>, notes: &mut Notes<'_>) {
    let Some(ScopeAnnotation::Unknown(value)) = scope else { return };
    let metadata = object.member("metadata");
    let annotations = metadata.member("annotations");
    notes.under(IssueCode::UnknownPeerScope, Level::Error, |notes| {
        let message = format_args!(
            "{value:?} is neither Local nor ClusterSet; unqualified peers of the policy range over its own cluster only"
        );
        // The annotation is read all the same.
        let _noted = notes.unreadable(&annotations.member(PEER_SCOPE_KEY), message);
    });
}

/// Warns of the annotation `crosswall.dev/enforcement`, which nobody heeds yet: `policies`, which it seems to speak of,
/// are enforced. `Enforce` is what happens anyway.
pub(super) fn note_enforcement(object: &At<'_>, policies: &str, notes: &mut Notes<'_>) {
    let metadata = object.member("metadata");
    let annotations = metadata.member("annotations");
    let written = annotations.value().as_object().and_then(|annotations| annotations.get(ENFORCEMENT_KEY));
    if written.is_none_or(|value| value == "Enforce") {
        return;
    }
    let place = annotations.member(ENFORCEMENT_KEY);
    let message = format_args!("this version does not heed it: {policies} enforced; remove it, or say Enforce");
    notes.warn(IssueCode::UnsupportedAnnotation, &place, message);
}

/// Reads a field that the object stands without: what cannot be read is noted and counts as absent.
pub(super) fn optional<T>(
    at: Option<&At<'_>>,
    notes: &mut Notes<'_>,
    read: impl FnOnce(&At<'_>, &mut Notes<'_>) -> Result<T, Unread>,
) -> Option<T> {
    let at = at?;
    notes.under(IssueCode::UnreadableField, Level::Error, |notes| read(at, notes)).ok()
}
