//! From Kubernetes documents to the model: one file per kind, every part that cannot be read named by its path.
//!
//! Nothing behind this module knows a Kubernetes type. A document is a [`serde_json::Value`], wherever it came from.

pub(crate) mod cidr;
mod endpoint_slice;
mod label;
mod meta;
mod namespace;
mod network_policy;
mod node;
mod pod;
pub(crate) mod reader;
mod rule;
mod selector;
mod service;
#[cfg(test)]
mod tests;
mod time;

use std::fmt;

use policy_core::model::{
    ClusterId, EndpointSlice, EndpointSliceKey, Event, Issue, IssueCode, Namespace, NamespaceKey, NetworkPolicy, Node,
    NodeKey, Pod, PodKey, PolicyKey, PolicyKind, Service, ServiceKey,
};
use serde_json::Value;

use reader::{At, Notes, Unread};

/// An object of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A namespace.
    Namespace(Namespace),
    /// A pod.
    Pod(Pod),
    /// A node.
    Node(Node),
    /// A NetworkPolicy.
    NetworkPolicy(NetworkPolicy),
    /// A Service.
    Service(Service),
    /// A slice of the backends of a Service.
    EndpointSlice(EndpointSlice),
}

/// Names an object of any kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// A namespace.
    Namespace(NamespaceKey),
    /// A node.
    Node(NodeKey),
    /// A pod.
    Pod(PodKey),
    /// A policy.
    Policy(PolicyKey),
    /// A Service.
    Service(ServiceKey),
    /// A slice of the backends of a Service.
    EndpointSlice(EndpointSliceKey),
}

/// What was read of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which object it is.
    pub key: ObjectKey,
    /// Its content; `None` where it cannot be read, so that its last valid version stands.
    pub object: Option<Object>,
    /// What is wrong with it.
    pub issues: Vec<Issue>,
}

/// What was read of one document or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// The objects of kinds that policies need, in written order.
    pub objects: Vec<Reading>,
    /// What is wrong with documents that name no object.
    pub issues: Vec<Issue>,
}

impl Object {
    /// Which object it is.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Namespace(namespace) => ObjectKey::Namespace(namespace.key.clone()),
            Self::Pod(pod) => ObjectKey::Pod(pod.key.clone()),
            Self::Node(node) => ObjectKey::Node(node.key.clone()),
            Self::NetworkPolicy(policy) => ObjectKey::Policy(policy.key.clone()),
            Self::Service(service) => ObjectKey::Service(service.key.clone()),
            Self::EndpointSlice(slice) => ObjectKey::EndpointSlice(slice.key.clone()),
        }
    }

    /// The event that says it exists.
    pub fn applied(self) -> Event {
        match self {
            Self::Namespace(namespace) => Event::NamespaceApplied(namespace),
            Self::Pod(pod) => Event::PodApplied(pod),
            Self::Node(node) => Event::NodeApplied(node),
            Self::NetworkPolicy(policy) => Event::PolicyApplied(policy),
            Self::Service(service) => Event::ServiceApplied(service),
            Self::EndpointSlice(slice) => Event::EndpointSliceApplied(slice),
        }
    }

    /// The event that says it is gone.
    pub fn deleted(self) -> Event {
        match self {
            Self::Namespace(namespace) => Event::NamespaceDeleted(namespace.key),
            Self::Pod(pod) => Event::PodDeleted { key: pod.key, uid: pod.uid },
            Self::Node(node) => Event::NodeDeleted(node.key),
            Self::NetworkPolicy(policy) => Event::PolicyDeleted(policy.key),
            Self::Service(service) => Event::ServiceDeleted(service.key),
            Self::EndpointSlice(slice) => Event::EndpointSliceDeleted(slice.key),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(key) => write!(f, "{}/Namespace/{}", key.cluster, key.name),
            Self::Node(key) => write!(f, "{}/Node/{}", key.cluster, key.name),
            Self::Pod(key) => write!(f, "{}/Pod/{}/{}", key.cluster, key.namespace, key.name),
            Self::Policy(key) => key.fmt(f),
            Self::Service(key) => write!(f, "{}/Service/{}/{}", key.cluster, key.namespace, key.name),
            Self::EndpointSlice(key) => write!(f, "{}/EndpointSlice/{}/{}", key.cluster, key.namespace, key.name),
        }
    }
}

/// Reads a document of `cluster`, lists taken apart; `origin` is the file it stands in, for documents without a name.
pub fn read_document(cluster: &ClusterId, document: &Value, origin: &str, readings: &mut Readings) {
    let mut notes = Notes::new(&origin, IssueCode::UnreadableObject);
    // What cannot be read is in the notes.
    let _noted = read_any(cluster, &At::root(document), None, &mut notes, readings);
    readings.issues.extend(notes.into_issues());
}

/// Kind and API version that the elements of a typed list (`PodList`) need not repeat.
#[derive(Clone, Copy)]
struct ElementType<'a> {
    api_version: &'a str,
    kind: &'a str,
}

/// Reads an object of a collection, whose version and kind its objects do not repeat; `None`: it has no name.
pub fn read_typed(cluster: &ClusterId, (api_version, kind): (&str, &str), object: &Value) -> Option<Reading> {
    let mut readings = Readings::default();
    let mut notes = Notes::new(&kind, IssueCode::UnreadableObject);
    // What has no name an API server does not store, and nobody could be told of it.
    read_object(cluster, &At::root(object), api_version, kind, &mut notes, &mut readings).ok()?;
    readings.objects.pop()
}

/// What the end of an object of a collection means, also of one that could not be read; `None`: it has no name.
pub fn read_deleted(cluster: &ClusterId, object_type: (&str, &str), object: &Value) -> Option<(ObjectKey, Event)> {
    let key = read_typed(cluster, object_type, object)?.key;
    let event = match &key {
        ObjectKey::Namespace(key) => Event::NamespaceDeleted(key.clone()),
        ObjectKey::Node(key) => Event::NodeDeleted(key.clone()),
        ObjectKey::Pod(key) => Event::PodDeleted { uid: pod::uid(key, &At::root(object)), key: key.clone() },
        ObjectKey::Policy(key) => Event::PolicyDeleted(key.clone()),
        ObjectKey::Service(key) => Event::ServiceDeleted(key.clone()),
        ObjectKey::EndpointSlice(key) => Event::EndpointSliceDeleted(key.clone()),
    };
    Some((key, event))
}

fn read_any(
    cluster: &ClusterId,
    at: &At<'_>,
    element: Option<ElementType<'_>>,
    notes: &mut Notes<'_>,
    readings: &mut Readings,
) -> Result<(), Unread> {
    let map = at.map(notes)?;
    let inherits = |name: &str| map.get(name).is_none_or(|value| value.is_null() || value == "");
    let kind = match element {
        Some(element) if inherits("kind") => element.kind,
        _ if inherits("kind") => return Err(notes.unreadable(&at.member("kind"), "a Kubernetes object has a kind")),
        _ => at.member("kind").string(notes)?,
    };
    let api_version = match element {
        Some(element) if inherits("apiVersion") => element.api_version,
        _ if inherits("apiVersion") => "",
        _ => at.member("apiVersion").string(notes)?,
    };
    if let Some(kind_of_elements) = kind.strip_suffix("List")
        && let Some(items) = at.get("items")
    {
        let element =
            Some(ElementType { api_version, kind: kind_of_elements }).filter(|element| !element.kind.is_empty());
        for item in items.elements(notes)? {
            // Each says for itself what is wrong with it.
            let _noted = read_any(cluster, &item, element, notes, readings);
        }
        return Ok(());
    }
    read_object(cluster, at, api_version, kind, notes, readings)
}

/// Reads an object of a kind that policies need; other kinds are passed over.
fn read_object(
    cluster: &ClusterId,
    at: &At<'_>,
    api_version: &str,
    kind: &str,
    notes: &mut Notes<'_>,
    readings: &mut Readings,
) -> Result<(), Unread> {
    let wanted = match kind {
        "Namespace" | "Pod" | "Node" | "Service" => "v1",
        "NetworkPolicy" => "networking.k8s.io/v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        _ => return Ok(()),
    };
    if api_version != wanted {
        let [group, own] = [api_version, wanted].map(|version| version.split_once('/').map_or("", |(group, _)| group));
        if ["", "extensions", "networking.k8s.io", own].contains(&group) {
            return Err(notes.unreadable(
                &at.member("apiVersion"),
                format_args!("a {kind} of version {api_version:?} is not known; write {wanted}"),
            ));
        }
        // Another project's kind of the same name.
        return Ok(());
    }
    let name = meta::name(at, notes)?;
    let namespaced = matches!(kind, "Pod" | "NetworkPolicy" | "Service" | "EndpointSlice");
    let namespace = if namespaced { meta::namespace(at, notes)? } else { "".into() };
    let cluster = cluster.clone();
    let key = match kind {
        "Namespace" => ObjectKey::Namespace(NamespaceKey { cluster, name }),
        "Node" => ObjectKey::Node(NodeKey { cluster, name }),
        "Pod" => ObjectKey::Pod(PodKey { cluster, namespace, name }),
        "Service" => ObjectKey::Service(ServiceKey { cluster, namespace, name }),
        "EndpointSlice" => ObjectKey::EndpointSlice(EndpointSliceKey { cluster, namespace, name }),
        _ => ObjectKey::Policy(PolicyKey { cluster, kind: PolicyKind::NetworkPolicy, namespace, name }),
    };
    readings.objects.push(read_named(key, at.value()));
    Ok(())
}

/// Reads an object whose name is known; paths in its issues begin at the object itself.
fn read_named(key: ObjectKey, document: &Value) -> Reading {
    let at = At::root(document);
    let mut notes = Notes::new(&key, IssueCode::UnreadableObject);
    let object = match &key {
        ObjectKey::Namespace(key) => namespace::read(key, &at, &mut notes).map(Object::Namespace),
        ObjectKey::Node(key) => Ok(Object::Node(node::read(key, &at, &mut notes))),
        ObjectKey::Pod(key) => pod::read(key, &at, &mut notes).map(Object::Pod),
        ObjectKey::Policy(policy) => {
            notes = Notes::new(&key, IssueCode::UnreadablePolicy);
            network_policy::read(policy, &at, &mut notes).map(Object::NetworkPolicy)
        }
        ObjectKey::Service(key) => service::read(key, &at, &mut notes).map(Object::Service),
        ObjectKey::EndpointSlice(key) => endpoint_slice::read(key, &at, &mut notes).map(Object::EndpointSlice),
    };
    let issues = notes.into_issues();
    Reading { object: object.ok(), issues, key }
}
