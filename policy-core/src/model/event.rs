//! The one language in which sources tell the control loop what changed.

use std::collections::BTreeSet;

use super::{
    ClusterConfig, ClusterId, EndpointSlice, EndpointSliceKey, Namespace, NamespaceKey, NetworkPolicy, Node, NodeKey,
    Pod, PodKey, PolicyKey, Service, ServiceKey, Text,
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
    /// A Service exists with this content. Only those of the local cluster are kept.
    ServiceApplied(Service),
    /// A Service is gone.
    ServiceDeleted(ServiceKey),
    /// A slice of a Service's backends exists with this content. Only those of the local cluster are kept.
    EndpointSliceApplied(EndpointSlice),
    /// A slice is gone.
    EndpointSliceDeleted(EndpointSliceKey),
}

impl Event {
    /// Whether verdicts may rest on it. On Services none does: packets are judged by the addresses that they carry.
    pub fn may_decide(&self) -> bool {
        match self {
            Self::ServiceApplied(_)
            | Self::ServiceDeleted(_)
            | Self::EndpointSliceApplied(_)
            | Self::EndpointSliceDeleted(_)
            | Self::Relisted(_, Listing::Services(_) | Listing::EndpointSlices(_)) => false,
            Self::Configured(_)
            | Self::Synced(_)
            | Self::Relisted(_, Listing::Namespaces(_) | Listing::Pods(_) | Listing::Nodes(_) | Listing::Policies(_))
            | Self::NamespaceApplied(_)
            | Self::NamespaceDeleted(_)
            | Self::PodApplied(_)
            | Self::PodDeleted { .. }
            | Self::NodeApplied(_)
            | Self::NodeDeleted(_)
            | Self::PolicyApplied(_)
            | Self::PolicyDeleted(_) => true,
        }
    }
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
    /// All its Services.
    Services(BTreeSet<ServiceKey>),
    /// All slices of their backends.
    EndpointSlices(BTreeSet<EndpointSliceKey>),
}

impl Listing {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Namespaces(keys) => keys.len(),
            Self::Pods(keys) => keys.len(),
            Self::Nodes(keys) => keys.len(),
            Self::Policies(keys) => keys.len(),
            Self::Services(keys) => keys.len(),
            Self::EndpointSlices(keys) => keys.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
