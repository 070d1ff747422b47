//! Which collections of an API server are followed, and what of their objects is kept.

use std::fmt;
use std::marker::PhantomData;

use policy_core::model::Listing;
use serde::de::{Deserialize, DeserializeSeed as _, Deserializer};
use serde_json::Value;

use super::slim::Keep;
use crate::convert::ObjectKey;

/// A collection of an API server: all objects of a kind, in all namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collection {
    /// Namespaces.
    Namespaces,
    /// Nodes.
    Nodes,
    /// NetworkPolicies.
    NetworkPolicies,
    /// Pods.
    Pods,
    /// Services.
    Services,
    /// EndpointSlices.
    EndpointSlices,
}

impl Collection {
    /// Those of the local cluster that are followed.
    pub const LOCAL: &[Self] =
        &[Self::Namespaces, Self::Nodes, Self::NetworkPolicies, Self::Pods, Self::Services, Self::EndpointSlices];
    /// Those of a remote member that are followed: a member's policies are none of ours.
    pub const REMOTE: &[Self] = &[Self::Namespaces, Self::Pods];

    /// Whether verdicts may rest on its objects. Of those on which none does nobody waits for.
    pub fn decides(self) -> bool {
        match self {
            Self::Namespaces | Self::Nodes | Self::NetworkPolicies | Self::Pods => true,
            Self::Services | Self::EndpointSlices => false,
        }
    }

    /// Its name in paths and in permissions.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::NetworkPolicies => "networkpolicies",
            Self::Pods => "pods",
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
        }
    }

    /// Version and kind of its objects, which elements of a list do not repeat.
    pub fn object_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Namespaces => ("v1", "Namespace"),
            Self::Nodes => ("v1", "Node"),
            Self::NetworkPolicies => ("networking.k8s.io/v1", "NetworkPolicy"),
            Self::Pods => ("v1", "Pod"),
            Self::Services => ("v1", "Service"),
            Self::EndpointSlices => ("discovery.k8s.io/v1", "EndpointSlice"),
        }
    }

    /// Where an API server has it.
    pub fn path(self) -> String {
        let (version, _) = self.object_type();
        let root = if version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{version}/{}", self.resource())
    }

    /// The permission to follow it, as RBAC words it.
    pub fn permission(self) -> String {
        let (version, _) = self.object_type();
        let group = version.split_once('/').map_or("", |(group, _)| group);
        format!("apiGroups: [{group:?}], resources: [{:?}], verbs: [\"list\", \"watch\"]", self.resource())
    }

    /// What policy needs of an object. Of a policy's spec it is everything: what is not known there must be seen.
    pub fn keep(self) -> Keep {
        match self {
            Self::Namespaces => NAMESPACE,
            Self::Nodes => NODE,
            Self::NetworkPolicies => NETWORK_POLICY,
            Self::Pods => POD,
            Self::Services => SERVICE,
            Self::EndpointSlices => ENDPOINT_SLICE,
        }
    }

    /// The listing of objects with these names; those of other kinds are passed over.
    pub fn listing(self, keys: impl IntoIterator<Item = ObjectKey>) -> Listing {
        macro_rules! only {
            ($kind:ident) => {
                keys.into_iter().filter_map(|key| if let ObjectKey::$kind(key) = key { Some(key) } else { None })
            };
        }
        match self {
            Self::Namespaces => Listing::Namespaces(only!(Namespace).collect()),
            Self::Nodes => Listing::Nodes(only!(Node).collect()),
            Self::NetworkPolicies => Listing::Policies(only!(Policy).collect()),
            Self::Pods => Listing::Pods(only!(Pod).collect()),
            Self::Services => Listing::Services(only!(Service).collect()),
            Self::EndpointSlices => Listing::EndpointSlices(only!(EndpointSlice).collect()),
        }
    }

    /// Whether an object with this name is one of its objects.
    pub fn holds(self, key: &ObjectKey) -> bool {
        match key {
            ObjectKey::Namespace(_) => self == Self::Namespaces,
            ObjectKey::Node(_) => self == Self::Nodes,
            ObjectKey::Policy(_) => self == Self::NetworkPolicies,
            ObjectKey::Pod(_) => self == Self::Pods,
            ObjectKey::Service(_) => self == Self::Services,
            ObjectKey::EndpointSlice(_) => self == Self::EndpointSlices,
        }
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource())
    }
}

const METADATA: Keep = Keep::Members(&[
    ("name", Keep::All),
    ("namespace", Keep::All),
    ("uid", Keep::All),
    ("resourceVersion", Keep::All),
    ("labels", Keep::All),
    ("creationTimestamp", Keep::All),
    ("deletionTimestamp", Keep::All),
    (
        "annotations",
        Keep::Members(&[("crosswall.dev/peer-scope", Keep::All), ("crosswall.dev/enforcement", Keep::All)]),
    ),
]);

const NAMESPACE: Keep = Keep::Members(&[("metadata", METADATA)]);

const NODE: Keep = Keep::Members(&[("metadata", METADATA), ("status", Keep::Members(&[("addresses", Keep::All)]))]);

const NETWORK_POLICY: Keep = Keep::Members(&[("metadata", METADATA), ("spec", Keep::All)]);

const CONTAINERS: Keep = Keep::Elements(&Keep::Members(&[("ports", Keep::All)]));

const POD: Keep = Keep::Members(&[
    ("metadata", METADATA),
    (
        "spec",
        Keep::Members(&[
            ("nodeName", Keep::All),
            ("hostNetwork", Keep::All),
            ("containers", CONTAINERS),
            ("initContainers", CONTAINERS),
        ]),
    ),
    ("status", Keep::Members(&[("phase", Keep::All), ("podIP", Keep::All), ("podIPs", Keep::All)])),
]);

/// What tells an object from others.
const NAME: [(&str, Keep); 3] = [("name", Keep::All), ("namespace", Keep::All), ("resourceVersion", Keep::All)];

const PORTS: Keep =
    Keep::Elements(&Keep::Members(&[("name", Keep::All), ("protocol", Keep::All), ("port", Keep::All)]));

const SERVICE: Keep = Keep::Members(&[
    ("metadata", Keep::Members(&NAME)),
    ("spec", Keep::Members(&[("clusterIP", Keep::All), ("clusterIPs", Keep::All), ("ports", PORTS)])),
]);

const ENDPOINT_SLICE: Keep = Keep::Members(&[
    (
        "metadata",
        Keep::Members(&[
            NAME[0],
            NAME[1],
            NAME[2],
            ("labels", Keep::Members(&[("kubernetes.io/service-name", Keep::All)])),
        ]),
    ),
    ("addressType", Keep::All),
    ("ports", PORTS),
    ("endpoints", Keep::Elements(&Keep::Members(&[("addresses", Keep::All), ("conditions", Keep::All)]))),
]);

/// A collection as a type, so that decoding knows what to keep.
pub trait Kind: Send + Sync + 'static {
    /// Which collection.
    const COLLECTION: Collection;
}

/// Namespaces.
pub struct Namespaces;
/// Nodes.
pub struct Nodes;
/// NetworkPolicies.
pub struct NetworkPolicies;
/// Pods.
pub struct Pods;
/// Services.
pub struct Services;
/// EndpointSlices.
pub struct EndpointSlices;

impl Kind for Namespaces {
    const COLLECTION: Collection = Collection::Namespaces;
}

impl Kind for Nodes {
    const COLLECTION: Collection = Collection::Nodes;
}

impl Kind for NetworkPolicies {
    const COLLECTION: Collection = Collection::NetworkPolicies;
}

impl Kind for Pods {
    const COLLECTION: Collection = Collection::Pods;
}

impl Kind for Services {
    const COLLECTION: Collection = Collection::Services;
}

impl Kind for EndpointSlices {
    const COLLECTION: Collection = Collection::EndpointSlices;
}

/// What is kept of an object.
#[derive(Debug)]
pub struct Slim<K>(pub Value, PhantomData<K>);

impl<K> Slim<K> {
    /// The version of the collection that brought it.
    pub fn resource_version(&self) -> Option<&str> {
        self.0.get("metadata")?.get("resourceVersion")?.as_str()
    }
}

// Derived, it would ask the same of the kind.
impl<K> Clone for Slim<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Slim<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        K::COLLECTION.keep().deserialize(deserializer).map(|value| Self(value, PhantomData))
    }
}
