//! Namespaces.

use policy_core::model::{Namespace, NamespaceKey};

use super::meta;
use super::reader::{At, Notes, Unread};

/// Reads a Namespace.
pub(super) fn read(key: &NamespaceKey, object: &At<'_>, notes: &mut Notes<'_>) -> Result<Namespace, Unread> {
    let labels = meta::labels(object, notes);
    let peer_scope = meta::peer_scope(object, notes);
    meta::note_enforcement(object, "the policies of the namespace are", notes);
    Ok(Namespace { key: key.clone(), labels: labels?, peer_scope: peer_scope? })
}
