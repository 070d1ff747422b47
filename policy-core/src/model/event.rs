//! The one language in which sources tell the control loop what changed.

use std::collections::BTreeSet;

use super::{
    ClusterConfig, ClusterId, Namespace, NamespaceKey, NetworkPolicy, Node, NodeKey, Pod, PodKey, PolicyKey, Text,
};

/// One change of the world. Repeating an event changes nothing.
///
/// A batch of events is taken as one step: what a relist removes and adds is never half seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The ClusterSet is now this. Members that it lacks are forgotten with all their objects.
    Configured(ClusterConfig),
    /// The initial listing of a cluster is complete.
    Synced(ClusterId),
    /// A cluster's objects of one kind were listed anew: those that are known and not among them are gone.
    Relisted(ClusterId, Listing),
    /// A namespace exists with this content.
    NamespaceApplied(Namespace),
    /// A namespace is gone.
    NamespaceDeleted(NamespaceKey),
    /// A pod exists with this content.
    PodApplied(Pod),
    /// A pod is gone; a later pod of the same name is not meant.
    PodDeleted {
        /// Its name.
        key: PodKey,
        /// Its uid.
        uid: Text,
    },
    /// A node exists with this content.
    NodeApplied(Node),
    /// A node is gone.
    NodeDeleted(NodeKey),
    /// A policy exists with this content. Only those of the local cluster have an effect.
    PolicyApplied(NetworkPolicy),
    /// A policy is gone.
    PolicyDeleted(PolicyKey),
}

/// The names of all objects of one kind that a cluster has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// All its namespaces.
    Namespaces(BTreeSet<NamespaceKey>),
    /// All its pods.
    Pods(BTreeSet<PodKey>),
    /// All its nodes.
    Nodes(BTreeSet<NodeKey>),
    /// All its policies.
    Policies(BTreeSet<PolicyKey>),
}

impl Listing {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Namespaces(keys) => keys.len(),
            Self::Pods(keys) => keys.len(),
            Self::Nodes(keys) => keys.len(),
            Self::Policies(keys) => keys.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
