//! Why a connection is denied at one end, and what would have to change: every rule that could have allowed it, held
//! against it.

use std::net::IpAddr;

use crate::compile::{Compiler, facet_of, scope};
use crate::facet::{Facet, NamespaceMatch, PeerClusters, PodFacet};
use crate::index::{ClusterLabel, NamedPorts, View};
use crate::model::{
    Allowance, CLUSTER_KEY, ClusterLabels, Connection, Direction, IpBlock, METADATA_NAME_KEY, NamespaceKey,
    NetworkPolicy, Pod, PodKey, PolicyKey, Port, PortSelection, Rule, Scope, Selector, Transport,
};
use crate::show;

/// Why no rule allows a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What keeps each rule from allowing it.
    pub findings: Vec<Finding>,
    /// A rule that would allow it.
    pub remedy: String,
}

/// What keeps one part of a policy from allowing a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The policy.
    pub policy: PolicyKey,
    /// The part, as `spec.ingress[0].from[1]`.
    pub field: String,
    /// What keeps it, for a person.
    pub message: String,
}

/// Why the policies that isolate `subject` in a direction do not allow a connection.
///
/// The subject is the source where the direction is [`Direction::Egress`], else the destination.
pub fn denial(compiler: &Compiler, subject: &PodKey, direction: Direction, connection: &Connection) -> Option<Denial> {
    let pod = compiler.pod(subject)?;
    let isolated_by = compiler.subjects().get(subject)?.isolated_by(direction);
    let case = Case::new(compiler, pod, direction, connection);
    let policies = isolated_by.iter().filter_map(|key| compiler.policy(key));
    let findings = policies.flat_map(|policy| case.policy(policy)).collect();
    Some(Denial { findings, remedy: case.remedy(isolated_by.first()) })
}

/// A connection at one end.
struct Case<'a> {
    compiler: &'a Compiler,
    subject: &'a Pod,
    direction: Direction,
    transport: Transport,
    other: IpAddr,
    peer: Option<Counterpart<'a>>,
}

/// The pod at the other end.
struct Counterpart<'a> {
    pod: &'a Pod,
    namespace: NamespaceKey,
}

fn namespace_of(pod: &Pod) -> NamespaceKey {
    NamespaceKey { cluster: pod.key.cluster.clone(), name: pod.key.namespace.clone() }
}

impl<'a> Case<'a> {
    fn new(compiler: &'a Compiler, subject: &'a Pod, direction: Direction, connection: &Connection) -> Self {
        let other = match direction {
            Direction::Egress => connection.destination,
            Direction::Ingress => connection.source,
        };
        let owner = compiler.index().owner(other).map(|entry| &entry.pod);
        let peer = owner.map(|pod| Counterpart { pod, namespace: namespace_of(pod) });
        Self { compiler, subject, direction, transport: connection.transport, other, peer }
    }

    fn peer_name(&self) -> String {
        self.peer.as_ref().map_or_else(|| self.other.to_string(), |peer| peer.pod.key.to_string())
    }

    fn peers_field(&self) -> &'static str {
        match self.direction {
            Direction::Egress => "to",
            Direction::Ingress => "from",
        }
    }

    fn policy(&self, policy: &NetworkPolicy) -> Vec<Finding> {
        let rules = policy.rules(self.direction).unwrap_or_default();
        let field = format!("spec.{}", self.direction.as_str());
        let finding = |field: String, message| Finding { policy: policy.key.clone(), field, message };
        let namespace = namespace_of(self.subject);
        let view = self.compiler.index().view_of(&namespace, &self.subject.labels);
        if view.subject_matches(&policy.subject).is_none() {
            let message = format!(
                "whether it selects {} depends on namespace {}, whose object is not known; until it is, the policy \
                 isolates the pod and allows it nothing",
                self.subject.key, namespace.name
            );
            return vec![finding("spec.podSelector".to_owned(), message)];
        }
        if rules.is_empty() {
            return vec![finding(field, format!("has no {} rule, so it allows nothing", self.direction.as_str()))];
        }
        let scope = scope(policy, self.compiler.index().namespace(&namespace), self.compiler.index().config());
        let mut findings = Vec::new();
        for (item, rule) in rules.iter().enumerate() {
            let field = format!("{field}[{item}]");
            match rule {
                Rule::Unreadable => {
                    findings.push(finding(field, "cannot be read, so it allows nothing (see the issues)".to_owned()));
                }
                Rule::Allow(allowance) => {
                    let gaps = self.rule(allowance, policy, scope);
                    findings.extend(gaps.into_iter().map(|(part, message)| finding(field.clone() + &part, message)));
                }
            }
        }
        findings
    }

    /// What keeps a rule from allowing the connection: nearest misses first.
    fn rule(&self, allowance: &Allowance, policy: &NetworkPolicy, scope: Scope) -> Vec<(String, String)> {
        let ports = allowance.ports.as_deref().filter(|ports| !ports.iter().any(|port| self.admits(port)));
        let mut gaps = Vec::new();
        let peers = allowance.peers.as_deref();
        let mut admitted = peers.is_none();
        for (item, peer) in peers.unwrap_or_default().iter().enumerate() {
            match self.gap(&facet_of(peer, &policy.key.namespace, scope)) {
                None => admitted = true,
                Some(gap) => gaps.push((format!(".{}[{item}]", self.peers_field()), gap)),
            }
        }
        if admitted {
            gaps.clear();
        }
        if let Some(ports) = ports {
            let listed: Vec<String> = ports.iter().map(show::port).collect();
            let also = if admitted { format!("admits {}, but only", self.peer_name()) } else { "is only".to_owned() };
            gaps.push((".ports".to_owned(), format!("{also} for {}, not {}", listed.join(", "), self.asked())));
        }
        gaps
    }

    fn asked(&self) -> String {
        match self.transport {
            Transport::Port(protocol, port) => format!("{}/{port}", protocol.as_str()),
            Transport::Icmp => "ICMP (which only a rule without ports admits)".to_owned(),
            Transport::Other(number) => format!("protocol {number} (which only a rule without ports admits)"),
        }
    }

    fn admits(&self, port: &Port) -> bool {
        let Transport::Port(protocol, number) = self.transport else { return false };
        let destination = match self.direction {
            Direction::Egress => self.peer.as_ref().map(|peer| peer.pod),
            Direction::Ingress => Some(self.subject),
        };
        protocol == port.protocol
            && match &port.selection {
                PortSelection::All => true,
                PortSelection::Range(first, last) => (*first..=*last).contains(&number),
                PortSelection::Named(name) => {
                    destination.and_then(|pod| NamedPorts::of(&pod.ports).number(protocol, name)) == Some(number)
                }
            }
    }

    /// What keeps a peer from matching; `None`: it matches.
    fn gap(&self, facet: &Facet) -> Option<String> {
        match facet {
            Facet::Block(block) => self.block_gap(block),
            Facet::Pods(pods) => self.pods_gap(pods),
            Facet::NamedPort { .. } => None,
        }
    }

    fn block_gap(&self, IpBlock { cidr, except }: &IpBlock) -> Option<String> {
        if !cidr.contains(&self.other) {
            return Some(format!("{cidr} does not hold {}", self.other));
        }
        let hole = except.iter().find(|hole| hole.contains(&self.other))?;
        Some(format!("{} lies in the exception {hole}", self.other))
    }

    fn pods_gap(&self, facet: &PodFacet) -> Option<String> {
        let Some(peer) = &self.peer else {
            return Some(format!("selects pods, and {} is no pod's address that selectors can find", self.other));
        };
        let view = self.compiler.index().view_of(&peer.namespace, &peer.pod.labels);
        let gaps: Vec<String> = [namespace_gap(&facet.namespaces, &view), pods_gap(facet.pods.as_ref(), &view)]
            .into_iter()
            .flatten()
            .collect();
        match (self.cluster_gap(facet, &view), gaps.is_empty()) {
            (None, true) => None,
            (None, false) => Some(gaps.join("; ")),
            (Some(cluster), true) => Some(format!("would match, but {cluster}")),
            (Some(cluster), false) => Some(format!("{}; and {cluster}", gaps.join("; "))),
        }
    }

    fn cluster_gap(&self, facet: &PodFacet, view: &View<'_>) -> Option<String> {
        let config = self.compiler.index().config();
        match facet.clusters {
            PeerClusters::Scope(Scope::ClusterSet) => None,
            PeerClusters::Scope(Scope::Local) if view.local => None,
            PeerClusters::Scope(Scope::Local) => Some(format!(
                "it names no cluster, so it ranges over {} only: name {CLUSTER_KEY} in it (In [{}]), or annotate the \
                 policy with crosswall.dev/peer-scope: ClusterSet",
                config.local, view.cluster
            )),
            PeerClusters::Qualified => match (config.cluster_labels, view.cluster_label) {
                (ClusterLabels::Implicit, _) | (_, ClusterLabel::Is(_)) => None,
                (ClusterLabels::Explicit, ClusterLabel::Missing) if view.local => None,
                (ClusterLabels::Explicit, ClusterLabel::Missing) => Some(format!(
                    "namespace {} of {} carries no label {CLUSTER_KEY}={}, so no cluster-qualified peer finds it",
                    view.namespace, view.cluster, view.cluster
                )),
                (ClusterLabels::Explicit, ClusterLabel::Unknown) => {
                    Some(format!("the Namespace object {} of {} is not known", view.namespace, view.cluster))
                }
            },
        }
    }

    /// A rule that would allow the connection.
    fn remedy(&self, policy: Option<&PolicyKey>) -> String {
        let peer = match &self.peer {
            None => {
                let bits = if self.other.is_ipv4() { 32 } else { 128 };
                format!("{{ipBlock: {{cidr: {}/{bits}}}}}", self.other)
            }
            Some(peer) => {
                let NamespaceKey { cluster, name } = &peer.namespace;
                let qualified = if self.compiler.index().is_local(cluster) {
                    String::new()
                } else {
                    format!(", {CLUSTER_KEY}: {cluster}")
                };
                format!("{{namespaceSelector: {{matchLabels: {{{METADATA_NAME_KEY}: {name}{qualified}}}}}}}")
            }
        };
        let ports = match self.transport {
            Transport::Port(protocol, port) => {
                format!(", ports: [{{protocol: {}, port: {port}}}]", protocol.as_str())
            }
            Transport::Icmp | Transport::Other(_) => String::new(),
        };
        let place = policy.map_or_else(
            || format!("a NetworkPolicy that selects {}", self.subject.key),
            |policy| format!("{}/{} (or another policy that selects the pod)", policy.namespace, policy.name),
        );
        let direction = self.direction.as_str();
        format!("to allow it, add to spec.{direction} of {place}: {{{}: [{peer}]{ports}}}", self.peers_field())
    }
}

fn namespace_gap(namespaces: &NamespaceMatch, view: &View<'_>) -> Option<String> {
    match namespaces {
        NamespaceMatch::Named(name) if name == view.namespace => None,
        NamespaceMatch::Named(name) => {
            Some(format!("selects pods of namespace {name} only, and the peer is in {}", view.namespace))
        }
        NamespaceMatch::Selected(selector) => {
            let Some(labels) = view.namespace_labels else {
                return Some(format!(
                    "the Namespace object {} of {} is not known, so no selector matches it",
                    view.namespace, view.cluster
                ));
            };
            let missing = unmet(selector, |one| view.namespace_matches(one));
            let has = |key: &str| match key {
                CLUSTER_KEY => Some(view.cluster.to_string()),
                METADATA_NAME_KEY => Some(view.namespace.to_string()),
                key => labels.get(key).map(ToString::to_string),
            };
            (!missing.is_empty()).then(|| format!("needs namespace label {}", said(&missing, has)))
        }
    }
}

fn pods_gap(pods: Option<&Selector>, view: &View<'_>) -> Option<String> {
    let missing = unmet(pods?, |one| view.pods_match(one));
    let has = |key: &str| match key {
        CLUSTER_KEY => Some(view.cluster.to_string()),
        key => view.pod_labels.get(key).map(ToString::to_string),
    };
    (!missing.is_empty()).then(|| format!("needs pod label {}", said(&missing, has)))
}

/// The requirements that do not hold, each as a selector of its own.
fn unmet(selector: &Selector, holds: impl Fn(&Selector) -> bool) -> Vec<Selector> {
    let single = selector.requirements.iter().map(|one| Selector { requirements: vec![one.clone()] });
    single.filter(|one| !holds(one)).collect()
}

fn said(missing: &[Selector], has: impl Fn(&str) -> Option<String>) -> String {
    let one = |requirement: &crate::model::Requirement| {
        let needed = show::requirement(requirement);
        match has(&requirement.key) {
            Some(value) => format!("{needed} (it is {value:?})"),
            None => format!("{needed} (it has none)"),
        }
    };
    let parts: Vec<String> = missing.iter().flat_map(|selector| &selector.requirements).map(one).collect();
    parts.join(" and ")
}
