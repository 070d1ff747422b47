//! Policies as the compiler and the oracle see them: read, checked, with unreadable rules marked.

use std::fmt;

use ipnet::IpNet;

use super::{ClusterId, NamespaceKey, ScopeAnnotation, Selector, Text};

/// The kind of object a policy was written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy,
}

/// Names one policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    /// The cluster whose API holds it.
    pub cluster: ClusterId,
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace.
    pub namespace: Text,
    /// Its name.
    pub name: Text,
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PolicyKind::NetworkPolicy = self.kind;
        write!(f, "{}/NetworkPolicy/{}/{}", self.cluster, self.namespace, self.name)
    }
}

impl PolicyKey {
    /// Its namespace, by name.
    pub fn namespace_key(&self) -> NamespaceKey {
        NamespaceKey { cluster: self.cluster.clone(), name: self.namespace.clone() }
    }
}

/// The direction of a connection, seen from the pod that a policy isolates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The pod opens the connection.
    Egress,
    /// The pod is connected to.
    Ingress,
}

impl Direction {
    /// Both, egress first.
    pub const BOTH: [Self; 2] = [Self::Egress, Self::Ingress];

    /// `egress` or `ingress`, as policies spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }

    /// `to` or `from`: the field in which a rule of this direction has its peers.
    pub fn peers_field(self) -> &'static str {
        match self {
            Self::Egress => "to",
            Self::Ingress => "from",
        }
    }
}

/// A NetworkPolicy whose subject could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Which policy it is.
    pub key: PolicyKey,
    /// The scope its annotation sets.
    pub peer_scope: Option<ScopeAnnotation>,
    /// Which pods of its namespace it isolates.
    pub subject: Selector,
    /// Its ingress rules; `None`: it does not isolate ingress.
    pub ingress: Option<Vec<Rule>>,
    /// Its egress rules; `None`: it does not isolate egress.
    pub egress: Option<Vec<Rule>>,
}

impl NetworkPolicy {
    /// The rules of one direction; `None`: the policy does not isolate it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Egress => self.egress.as_deref(),
            Direction::Ingress => self.ingress.as_deref(),
        }
    }
}

/// One rule, at the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Some part of it cannot be read, so it allows nothing.
    Unreadable,
    /// What it allows.
    Allow(Allowance),
}

/// What a rule that allows covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Allowance {
    /// The peers; `None`: everybody, addresses outside the ClusterSet included.
    pub peers: Option<Vec<Peer>>,
    /// The ports; `None`: every protocol and port, ICMP included.
    pub ports: Option<Vec<Port>>,
}

/// Who a rule admits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Pods by selectors; at least one of the two is there.
    Pods {
        /// Absent: the policy's own namespace, by name.
        namespaces: Option<Selector>,
        /// Absent: all pods of those namespaces.
        pods: Option<Selector>,
    },
    /// Addresses.
    Block(IpBlock),
}

/// A range of addresses with holes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpBlock {
    /// The range, host bits cleared.
    pub cidr: IpNet,
    /// The holes, each strictly inside, host bits cleared.
    pub except: Vec<IpNet>,
}

/// A transport protocol that policies can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, protocol number 6.
    Tcp,
    /// UDP, protocol number 17.
    Udp,
    /// SCTP, protocol number 132.
    Sctp,
}

impl Protocol {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// A protocol and the ports of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// Which of its ports.
    pub selection: PortSelection,
}

/// Which ports of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortSelection {
    /// All.
    All,
    /// From the first to the last, both included.
    Range(u16, u16),
    /// The port that the destination pod declares under this name.
    Named(Text),
}
