//! What is wrong with the input, said to the person who can mend it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad an issue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something is not enforced as written (it fails closed).
    Error,
    /// It is enforced as written, but probably not as meant.
    Warning,
}

/// What kind of issue it is; stable, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueCode {
    /// A rule has a part that cannot be read; the rule allows nothing.
    UnreadableRule,
    /// A part that belongs to no rule cannot be read; the policy is not applied.
    UnreadablePolicy,
    /// An object (or file) cannot be read at all.
    UnreadableObject,
    /// A field that its object stands without cannot be read (an address, a container's port); it is left out.
    UnreadableField,
    /// The ClusterSet file cannot be used; the last good one stays in force.
    UnreadableClusterSet,
    /// The cluster says that it is another member than the one that the ClusterSet has it as, which stays in force.
    ContradictedClusterId,
    /// A member's source cannot be used, as a directory that is missing; its last known state stays in force.
    UnusableSource,
    /// A member's API server has told nothing since the agent began; what a snapshot has of it is in force.
    RestoredSource,
    /// A member was not heard for as long as its `staleAfter`; what is that old counts no more.
    StaleSource,
    /// A member's snapshot is not believed, or cannot be written.
    UnusableSnapshot,
    /// A field says nothing where it stands; ignored.
    IneffectiveField,
    /// An object names no known field; ignored.
    UnknownField,
    /// The same object stands in two places; the later wins.
    DuplicateObject,
    /// Two pods claim one address.
    DuplicateAddress,
    /// A pod's address lies outside the podCIDRs of its cluster.
    AddressOutsidePodCidrs,
    /// A pod has more addresses of one family than a pod can have; the first counts.
    ExtraAddress,
    /// Two members' podCIDRs overlap.
    OverlappingPodCidrs,
    /// A member has no podCIDRs.
    MissingPodCidrs,
    /// The annotation `crosswall.dev/peer-scope` has a value that is not known.
    UnknownPeerScope,
    /// The annotation `crosswall.dev/enforcement` asks for what this version does not do.
    UnsupportedAnnotation,
    /// An object carries a cluster label that is not its cluster's.
    SpoofedClusterLabel,
    /// A CIDR has host bits; they are ignored.
    MaskedHostBits,
    /// A pod declares one port name twice for one protocol; the first counts.
    RepeatedPortName,
    /// A peer names a cluster that is no member.
    UnknownClusterId,
    /// A peer that names no cluster ranges over the local cluster by default, and would match more under `ClusterSet`.
    PeerWouldWiden,
    /// A list of peers has a `namespaceSelector` and a `podSelector` as two items.
    SplitPeer,
    /// A policy isolates the egress of pods for which nothing allows DNS.
    DnsIsolated,
    /// A policy admits pods that answer for a Service, but nothing admits the Service's own address.
    ServiceAddressNotAllowed,
    /// A subject selector names a cluster, though subjects are always local.
    SubjectNamesCluster,
    /// The local cluster has not told all it has, so the kernel goes on enforcing what it held.
    LocalClusterUnknown,
    /// No pod of the local cluster names this node, though pods name others.
    UnknownNode,
    /// A pod of this node has no interface that could be found.
    NoInterface,
    /// Pods that share no address are found behind one interface, or one where another one is.
    ContestedInterface,
    /// A kernel table is too small; the last policy stays in force.
    TableFull,
    /// The kernel refused a write: a commit was cut off, before or after it came into force, and is tried again.
    CommitFailed,
    /// The programs cannot be attached to the interface of a pod.
    AttachFailed,
}

impl IssueCode {
    /// Whether it is found, or not found, by what the pods of all members are: while one of them has not told all it has,
    /// neither is certain.
    pub fn rests_on_all_members(self) -> bool {
        matches!(
            self,
            Self::PeerWouldWiden | Self::DnsIsolated | Self::ServiceAddressNotAllowed | Self::DuplicateAddress
        )
    }

    /// Whether it is found, or not found, by what Services and EndpointSlices there are, for which nobody waits.
    pub fn rests_on_services(self) -> bool {
        matches!(self, Self::ServiceAddressNotAllowed)
    }
}

/// One thing that is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Issue {
    /// What kind of issue it is.
    pub code: IssueCode,
    /// How bad it is.
    pub level: Level,
    /// The object: `cluster-a/NetworkPolicy/shop/web`, or a file.
    pub object: String,
    /// The place in the object, as `spec.ingress[0].from[1]`; empty for the whole.
    pub field: String,
    /// What is wrong and what to do, for a person.
    pub message: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code: _, level: _, object, field, message } = self;
        match field.as_str() {
            "" => write!(f, "{object}: {message}"),
            field => write!(f, "{object}: {field}: {message}"),
        }
    }
}
