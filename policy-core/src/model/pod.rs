//! Pods, namespaces and nodes of any member cluster.

use std::fmt;
use std::net::IpAddr;

use super::{ClusterId, Labels, Protocol, Scope, Text};

/// Names one pod of the ClusterSet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// The cluster it lives in.
    pub cluster: ClusterId,
    /// Its namespace.
    pub namespace: Text,
    /// Its name.
    pub name: Text,
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.namespace, self.name)
    }
}

impl PodKey {
    /// Its namespace, by name.
    pub fn namespace_key(&self) -> NamespaceKey {
        NamespaceKey { cluster: self.cluster.clone(), name: self.namespace.clone() }
    }
}

/// Where a pod stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lifecycle {
    /// Pending or running: a workload as soon as it has an address.
    Live,
    /// It has a `deletionTimestamp`; enforced as before until its sandbox is gone.
    Terminating,
    /// Succeeded or failed: its address is nobody's.
    Finished,
}

/// A moment, by the clock of an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z, negative before.
    pub s: i64,
    /// Nanoseconds after that second, below 1,000,000,000.
    pub ns: u32,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerPort {
    /// Its name, by which policies may refer to it.
    pub name: Option<Text>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number, 1–65535.
    pub number: u16,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Which pod it is.
    pub key: PodKey,
    /// Which of all pods that ever had this name.
    pub uid: Text,
    /// Its labels, as the object has them.
    pub labels: Labels,
    /// Its addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The ports of its containers, then of its init containers, in written order.
    pub ports: Vec<ContainerPort>,
    /// The node it is bound to.
    pub node: Option<Text>,
    /// Whether it shares its node's network, and so is nobody's subject or peer.
    pub host_network: bool,
    /// Where it stands in its life.
    pub lifecycle: Lifecycle,
    /// When it was made.
    pub created: Option<Timestamp>,
}

/// Names one namespace of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceKey {
    /// The cluster it lives in.
    pub cluster: ClusterId,
    /// Its name.
    pub name: Text,
}

/// A namespace object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Which namespace it is.
    pub key: NamespaceKey,
    /// Its labels, as the object has them.
    pub labels: Labels,
    /// The scope it sets for its policies.
    pub peer_scope: Option<ScopeAnnotation>,
}

/// The value of the annotation `crosswall.dev/peer-scope`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeAnnotation {
    /// A value that is known.
    Known(Scope),
    /// Any other value, the empty one included.
    Unknown(Text),
}

/// Names one node of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its name.
    pub name: Text,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which node it is.
    pub key: NodeKey,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    /// Whether policies can speak of it: it has an address of its own and has not finished.
    pub fn is_workload(&self) -> bool {
        !self.host_network && self.lifecycle != Lifecycle::Finished && !self.addresses.is_empty()
    }
}
