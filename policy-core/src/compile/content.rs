//! The content of one direction of one endpoint: the rules it lives under, peers turned into facets.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use crate::facet::{Facet, FacetId, NamedPeers, NamespaceMatch, PeerClusters, PodFacet, PortPeers};
use crate::index::NamedPorts;
use crate::model::{
    Allowance, Direction, NetworkPolicy, Peer, PolicyKey, PortSelection, Protocol, Rule, Scope, Selector, Text,
};

/// A rule's place: which policy, which direction, which item of its list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulePlace {
    /// The policy.
    pub policy: PolicyKey,
    /// The direction.
    pub direction: Direction,
    /// The item of `spec.ingress` or `spec.egress`.
    pub item: usize,
}

impl RulePlace {
    /// The rule as outputs name it: `egress[0]`.
    pub fn rule(&self) -> String {
        format!("{}[{}]", self.direction.as_str(), self.item)
    }
}

/// Whom a rule admits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Everybody.
    Everybody,
    /// Whoever matches one of these.
    AnyOf(Vec<Facet>),
}

/// The ports a rule admits, names of the endpoint itself already resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Every protocol and port.
    All,
    /// These; maybe none.
    Some(Vec<ContentPort>),
}

/// Ports of one protocol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentPort {
    /// From the first to the last, both included.
    Range(Protocol, u16, u16),
    /// The port that the peer names so.
    PeerNamed(Protocol, Text),
}

/// One rule that allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContentRule {
    /// Where it stands.
    pub place: RulePlace,
    /// Whom it admits.
    pub peers: Peers,
    /// To which ports.
    pub ports: Ports,
}

/// All rules of a direction, in the order in which verdicts name them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Content {
    /// The rules.
    pub rules: Vec<ContentRule>,
}

impl Content {
    /// The facets that it asks for, each once.
    pub fn facets(&self) -> Vec<&Facet> {
        let mut seen = hashbrown::HashSet::new();
        let facets = self.rules.iter().filter_map(|rule| match &rule.peers {
            Peers::Everybody => None,
            Peers::AnyOf(facets) => Some(facets),
        });
        facets.flatten().filter(|facet| seen.insert(*facet)).collect()
    }

    /// The port names of peers that it asks for, each once.
    pub fn names(&self) -> BTreeSet<(Protocol, Text)> {
        let ports = self.rules.iter().filter_map(|rule| match &rule.ports {
            Ports::All => None,
            Ports::Some(ports) => Some(ports),
        });
        let named = ports.flatten().filter_map(|port| match port {
            ContentPort::Range(..) => None,
            ContentPort::PeerNamed(protocol, name) => Some((*protocol, name.clone())),
        });
        named.collect()
    }

    /// The port names of peers, each with the facets of the peers that it is asked of; these have the given numbers.
    pub fn named_peers(&self, facets: &HashMap<Facet, FacetId>) -> BTreeSet<NamedPeers> {
        let mut named = BTreeSet::new();
        for ContentRule { peers, ports, place: _ } in &self.rules {
            let Ports::Some(ports) = ports else { continue };
            for port in ports {
                let ContentPort::PeerNamed(protocol, name) = port else { continue };
                let name = (*protocol, name.clone());
                match peers {
                    Peers::Everybody => drop(named.insert(NamedPeers { name, peers: PortPeers::Everybody })),
                    Peers::AnyOf(peers) => named.extend(peers.iter().filter_map(|peer| {
                        let peers = match peer {
                            Facet::Pods(_) => PortPeers::Matching(*facets.get(peer)?),
                            Facet::Block(_) | Facet::NamedPort { .. } => PortPeers::Everybody,
                        };
                        Some(NamedPeers { name: name.clone(), peers })
                    })),
                }
            }
        }
        named
    }

    /// Adds the rules of one policy that selects the endpoint.
    pub fn add_policy(
        &mut self,
        policy: &NetworkPolicy,
        direction: Direction,
        scope: Scope,
        own_ports: NamedPorts<'_>,
    ) {
        for (item, rule) in policy.rules(direction).unwrap_or_default().iter().enumerate() {
            let Rule::Allow(allowance) = rule else { continue };
            let place = RulePlace { policy: policy.key.clone(), direction, item };
            let peers = peers(allowance, &policy.key.namespace, scope);
            let ports = ports(allowance, direction, own_ports);
            self.rules.push(ContentRule { place, peers, ports });
        }
    }
}

fn peers(allowance: &Allowance, namespace: &Text, scope: Scope) -> Peers {
    let Some(peers) = &allowance.peers else { return Peers::Everybody };
    Peers::AnyOf(peers.iter().map(|peer| facet_of(peer, namespace, scope)).collect())
}

/// What a peer of a policy in `namespace` asks, where its unqualified peers range over `scope`.
pub fn facet_of(peer: &Peer, namespace: &Text, scope: Scope) -> Facet {
    match peer {
        Peer::Block(block) => Facet::Block(block.clone()),
        Peer::Pods { namespaces, pods } => {
            let qualified = namespaces.iter().chain(pods).any(Selector::names_cluster);
            Facet::Pods(PodFacet {
                clusters: if qualified { PeerClusters::Qualified } else { PeerClusters::Scope(scope) },
                namespaces: match namespaces {
                    None => NamespaceMatch::Named(namespace.clone()),
                    Some(selector) => NamespaceMatch::Selected(selector.clone()),
                },
                pods: pods.clone(),
            })
        }
    }
}

/// Names are resolved on the destination: at ingress that is the endpoint itself, at egress each peer.
fn ports(allowance: &Allowance, direction: Direction, own_ports: NamedPorts<'_>) -> Ports {
    let Some(ports) = &allowance.ports else { return Ports::All };
    let resolved = ports.iter().filter_map(|port| {
        let protocol = port.protocol;
        match (&port.selection, direction) {
            (PortSelection::All, _) => Some(ContentPort::Range(protocol, 0, u16::MAX)),
            (PortSelection::Range(first, last), _) => Some(ContentPort::Range(protocol, *first, *last)),
            (PortSelection::Named(name), Direction::Egress) => Some(ContentPort::PeerNamed(protocol, name.clone())),
            (PortSelection::Named(name), Direction::Ingress) => {
                own_ports.number(protocol, name).map(|number| ContentPort::Range(protocol, number, number))
            }
        }
    });
    Ports::Some(resolved.collect())
}
