//! What a lab shall look like: clusters, nodes, pods, outside hosts, as plain builders.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Serialize;

/// How pods are attached to their node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wiring {
    /// Each pod hangs on a veth of its own with a host route to it and a link-local
    /// gateway (as Calico, Cilium and the `ptp` plugin do).
    #[default]
    Ptp,
    /// Pods are ports of a bridge `cni0` and share a subnet (as the `bridge` plugin does).
    Bridge,
}

/// The default peer scope of a ClusterSet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum PeerScope {
    /// Selectors match pods of the policy's own cluster.
    #[default]
    Local,
    /// Selectors match pods of all members.
    ClusterSet,
}

/// Who gives namespaces their cluster label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum ClusterLabels {
    /// Every namespace of a member has it.
    #[default]
    Implicit,
    /// Only namespaces that carry it themselves.
    Explicit,
}

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;

/// A cluster.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    pub(crate) id: String,
    pub(crate) labels: Labels,
    pub(crate) namespaces: Vec<NamespaceSpec>,
    pub(crate) nodes: Vec<NodeSpec>,
    pub(crate) pod_cidrs: Option<Vec<IpNet>>,
}

impl ClusterSpec {
    /// A cluster without nodes. `id` becomes its member id.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), labels: Labels::new(), namespaces: Vec::new(), nodes: Vec::new(), pod_cidrs: None }
    }

    /// Adds a cluster label, for `clusterSelector`.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Adds a namespace with labels. Namespaces of pods that are not declared exist without labels.
    #[must_use]
    pub fn namespace(mut self, namespace: NamespaceSpec) -> Self {
        self.namespaces.push(namespace);
        self
    }

    /// Adds a node with its pods.
    #[must_use]
    pub fn node(mut self, node: NodeSpec) -> Self {
        self.nodes.push(node);
        self
    }

    /// Replaces the podCIDRs of the member record (not the addresses that pods really get).
    #[must_use]
    pub fn pod_cidrs(mut self, cidrs: impl IntoIterator<Item = IpNet>) -> Self {
        self.pod_cidrs = Some(cidrs.into_iter().collect());
        self
    }
}

/// A Kubernetes namespace.
#[derive(Debug, Clone)]
pub struct NamespaceSpec {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
}

impl NamespaceSpec {
    /// A namespace that has only the label `kubernetes.io/metadata.name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), labels: Labels::new(), annotations: Labels::new() }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }
}

/// A node.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    pub(crate) name: String,
    pub(crate) wiring: Option<Wiring>,
    pub(crate) pods: Vec<PodSpec>,
}

impl NodeSpec {
    /// A node without pods. `name` is its Kubernetes name, unique in its cluster.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), wiring: None, pods: Vec::new() }
    }

    /// Attaches this node's pods otherwise than the lab's default.
    #[must_use]
    pub fn wiring(mut self, wiring: Wiring) -> Self {
        self.wiring = Some(wiring);
        self
    }

    /// Adds a pod.
    #[must_use]
    pub fn pod(mut self, pod: PodSpec) -> Self {
        self.pods.push(pod);
        self
    }
}

/// The transport of a container port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP (declared in the manifest; nothing listens, see `traffic::packet`).
    Sctp,
}

/// A port of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortSpec {
    pub(crate) name: Option<String>,
    pub(crate) protocol: PortProtocol,
    pub(crate) port: u16,
    /// Whether the manifest declares it; it is served in any case.
    pub(crate) declared: bool,
}

/// Which families of addresses a pod gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PodFamilies {
    #[default]
    Dual,
    OnlyV4,
    OnlyV6,
}

/// Where a pod's traffic comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PodNetwork {
    #[default]
    Own,
    Host,
}

/// A pod with echo servers on its ports.
#[derive(Debug, Clone)]
pub struct PodSpec {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) ports: Vec<PortSpec>,
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
    pub(crate) families: PodFamilies,
    pub(crate) network: PodNetwork,
    pub(crate) in_manifests: bool,
}

impl PodSpec {
    /// A pod by `NAMESPACE/NAME`, or a name in the namespace `default`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        Self {
            namespace: namespace.into(),
            name: name.into(),
            labels: Labels::new(),
            ports: Vec::new(),
            v4: None,
            v6: None,
            families: PodFamilies::Dual,
            network: PodNetwork::Own,
            in_manifests: true,
        }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Declares a TCP port and echoes what comes there.
    #[must_use]
    pub fn tcp(self, port: u16) -> Self {
        self.port(None, PortProtocol::Tcp, port, true)
    }

    /// Declares a UDP port and echoes what comes there.
    #[must_use]
    pub fn udp(self, port: u16) -> Self {
        self.port(None, PortProtocol::Udp, port, true)
    }

    /// Declares an SCTP port; nothing listens there.
    #[must_use]
    pub fn sctp(self, port: u16) -> Self {
        self.port(None, PortProtocol::Sctp, port, true)
    }

    /// Declares a port by name, and serves it.
    #[must_use]
    pub fn named_port(self, name: &str, protocol: PortProtocol, port: u16) -> Self {
        self.port(Some(name.into()), protocol, port, true)
    }

    /// Serves a port that the manifest does not declare.
    #[must_use]
    pub fn undeclared_port(self, protocol: PortProtocol, port: u16) -> Self {
        self.port(None, protocol, port, false)
    }

    /// Gives the pod a certain IPv4 address (one that another pod had, or one outside the
    /// node's network); other nodes get a route to it.
    #[must_use]
    pub fn ipv4(mut self, address: Ipv4Addr) -> Self {
        self.v4 = Some(address);
        self
    }

    /// As [`PodSpec::ipv4`] for IPv6.
    #[must_use]
    pub fn ipv6(mut self, address: Ipv6Addr) -> Self {
        self.v6 = Some(address);
        self
    }

    /// Leaves out the IPv6 address.
    #[must_use]
    pub fn only_ipv4(mut self) -> Self {
        self.families = PodFamilies::OnlyV4;
        self
    }

    /// Leaves out the IPv4 address.
    #[must_use]
    pub fn only_ipv6(mut self) -> Self {
        self.families = PodFamilies::OnlyV6;
        self
    }

    /// Puts the pod into its node's namespace, with the node's addresses (`hostNetwork: true`).
    #[must_use]
    pub fn host_network(mut self) -> Self {
        self.network = PodNetwork::Host;
        self
    }

    /// Makes the pod's network, but writes no manifest: a pod that the agents have not heard of.
    #[must_use]
    pub fn without_manifest(mut self) -> Self {
        self.in_manifests = false;
        self
    }

    fn port(mut self, name: Option<String>, protocol: PortProtocol, port: u16, declared: bool) -> Self {
        self.ports.push(PortSpec { name, protocol, port, declared });
        self
    }
}
