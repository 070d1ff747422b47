//! What policies talk about, free of Kubernetes' wire types: clusters, namespaces, pods, policies, events.

mod cluster;
mod connection;
mod event;
mod issue;
mod labels;
mod pod;
mod policy;
mod service;

pub use cluster::{ClusterConfig, ClusterId, ClusterLabels, InvalidClusterId, Member, Scope};
pub use connection::{Connection, Transport};
pub use event::{Event, Listing};
pub use issue::{Issue, IssueCode, Level};
pub use labels::{
    CLUSTER_KEY, CLUSTER_KEY_ALIAS, Labels, METADATA_NAME_KEY, Operator, Requirement, Selector, is_cluster_key,
};
pub use pod::{
    ContainerPort, Lifecycle, Namespace, NamespaceKey, Node, NodeKey, Pod, PodKey, ScopeAnnotation, Timestamp,
};
pub use policy::{
    Allowance, Direction, IpBlock, NetworkPolicy, Peer, PolicyKey, PolicyKind, Port, PortSelection, Protocol, Rule,
};
pub use service::{
    Backend, BackendState, EndpointSlice, EndpointSliceKey, Service, ServiceKey, ServicePort, TargetPort,
};

/// A string that many records share.
pub type Text = std::sync::Arc<str>;
