//! Why a connection is denied at one end, and what would have to change: every rule that could have allowed it, held
//! against it.

use std::fmt;
use std::net::IpAddr;

use crate::compile::{Compiler, facet_of, scope};
use crate::facet::{Facet, NamespaceMatch, PeerClusters, PodFacet};
use crate::index::{ClusterLabel, NamedPorts, PodEntry, View};
use crate::model::{
    Allowance, CLUSTER_KEY, ClusterLabels, Connection, Direction, IpBlock, METADATA_NAME_KEY, NamespaceKey,
    NetworkPolicy, Operator, Peer, Pod, PodKey, PolicyKey, Port, PortSelection, Requirement, Rule, Scope, Selector,
    Text, Transport, is_cluster_key,
};
use crate::show;

/// Why no rule allows a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What keeps each rule from allowing it.
    pub findings: Vec<Finding>,
    /// A rule that would allow it.
    pub remedy: Remedy,
}

/// A rule that would allow a connection, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// The pod.
    pub subject: PodKey,
    /// The direction.
    pub direction: Direction,
    /// A policy that selects the pod in this direction; `None`: it is not known of any that it does.
    pub policy: Option<PolicyKey>,
    /// The rule.
    pub rule: Allowance,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, direction, policy, rule } = self;
        let place = match policy {
            Some(policy) => format!("{}/{} (or another policy that selects the pod)", policy.namespace, policy.name),
            None => format!("a NetworkPolicy that selects {subject}"),
        };
        write!(f, "to allow it, add to spec.{} of {place}: {}", direction.as_str(), show::yaml(rule, *direction))
    }
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
    let pod = compiler.pod(subject)?.to_pod();
    let isolated_by = compiler.subjects().get(subject)?.isolated_by(direction);
    let case = Case::new(compiler, pod, direction, connection);
    let policies = isolated_by.iter().filter_map(|key| compiler.policy(key));
    let findings = policies.flat_map(|policy| case.policy(policy)).collect();
    let mut policies = isolated_by.iter().filter_map(|key| compiler.policy(key));
    let remedy = case.remedy(policies.find(|policy| case.selects(policy)));
    Some(Denial { findings, remedy })
}

/// A connection at one end.
struct Case<'a> {
    compiler: &'a Compiler,
    subject: Pod,
    direction: Direction,
    transport: Transport,
    other: IpAddr,
    peer: Option<Counterpart>,
}

/// The pod at the other end.
struct Counterpart {
    pod: Pod,
    namespace: NamespaceKey,
}

impl<'a> Case<'a> {
    fn new(compiler: &'a Compiler, subject: Pod, direction: Direction, connection: &Connection) -> Self {
        let other = match direction {
            Direction::Egress => connection.destination,
            Direction::Ingress => connection.source,
        };
        let owner = compiler.index().owner(other).map(PodEntry::to_pod);
        let peer = owner.map(|pod| Counterpart { namespace: pod.key.namespace_key(), pod });
        Self { compiler, subject, direction, transport: connection.transport, other, peer }
    }

    fn peer_name(&self) -> String {
        self.peer.as_ref().map_or_else(|| self.other.to_string(), |peer| peer.pod.key.to_string())
    }

    /// Whether a policy that isolates the subject is known to select it.
    fn selects(&self, policy: &NetworkPolicy) -> bool {
        let namespace = self.subject.key.namespace_key();
        let view = self.compiler.index().view_of(&namespace, &self.subject.labels);
        view.subject_matches(&policy.subject) == Some(true)
    }

    fn scope(&self, policy: &NetworkPolicy) -> Scope {
        let index = self.compiler.index();
        scope(policy, index.namespace(&policy.key.namespace_key()), index.config())
    }

    fn policy(&self, policy: &NetworkPolicy) -> Vec<Finding> {
        let rules = policy.rules(self.direction).unwrap_or_default();
        let field = format!("spec.{}", self.direction.as_str());
        let finding = |field: String, message| Finding { policy: policy.key.clone(), field, message };
        let namespace = self.subject.key.namespace_key();
        if !self.selects(policy) {
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
        let scope = self.scope(policy);
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
                Some(gap) => gaps.push((format!(".{}[{item}]", self.direction.peers_field()), gap)),
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
            Direction::Egress => self.peer.as_ref().map(|peer| &peer.pod),
            Direction::Ingress => Some(&self.subject),
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
            PeerClusters::Scope(Scope::Local) => {
                // Where the label does not exist, naming it is of no use.
                let name_it = match view.cluster_label {
                    ClusterLabel::Is(id) => format!("name {CLUSTER_KEY} in it (In [{id}]), or "),
                    ClusterLabel::Missing | ClusterLabel::Unknown => String::new(),
                };
                Some(format!(
                    "it names no cluster, so it ranges over {} only: {name_it}annotate the policy with \
                     crosswall.dev/peer-scope: ClusterSet",
                    config.local
                ))
            }
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

    /// A rule that would allow the connection, in a policy or in a new one: by the peer's namespace where that finds the
    /// peer, else by its address.
    fn remedy(&self, policy: Option<&NetworkPolicy>) -> Remedy {
        // A new policy has no annotation, but its namespace may.
        let scopes = policy.map_or_else(|| vec![Scope::Local, Scope::ClusterSet], |policy| vec![self.scope(policy)]);
        let finds = |peer: &Peer| {
            let found = |scope: &Scope| self.gap(&facet_of(peer, &self.subject.key.namespace, *scope)).is_none();
            scopes.iter().all(found)
        };
        let peer = self.peer.as_ref().and_then(|peer| {
            // What names the cluster admits no more than that; in a scope of one cluster it need not be named.
            let is_alone = scopes == [Scope::Local] && self.compiler.index().is_local(&peer.namespace.cluster);
            [!is_alone, is_alone].map(|qualified| by_namespace(&peer.namespace, qualified)).into_iter().find(finds)
        });
        let peer = peer.unwrap_or_else(|| Peer::Block(IpBlock { cidr: self.other.into(), except: Vec::new() }));
        let ports = match self.transport {
            Transport::Port(protocol, port) => {
                Some(vec![Port { protocol, selection: PortSelection::Range(port, port) }])
            }
            Transport::Icmp | Transport::Other(_) => None,
        };
        Remedy {
            subject: self.subject.key.clone(),
            direction: self.direction,
            policy: policy.map(|policy| policy.key.clone()),
            rule: Allowance { peers: Some(vec![peer]), ports },
        }
    }
}

/// All pods of a namespace, of its cluster alone or of those in the scope.
fn by_namespace(namespace: &NamespaceKey, qualified: bool) -> Peer {
    let is = |key: &str, value: &str| Requirement { key: key.into(), operator: Operator::In(vec![value.into()]) };
    let mut requirements = vec![is(METADATA_NAME_KEY, &namespace.name)];
    if qualified {
        requirements.push(is(CLUSTER_KEY, namespace.cluster.as_str()));
    }
    Peer::Pods { namespaces: Some(Selector { requirements }), pods: None }
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
                METADATA_NAME_KEY => Some(view.namespace),
                key => labels.get(key),
            };
            (!missing.is_empty()).then(|| format!("needs namespace label {}", said(&missing, view, has)))
        }
    }
}

fn pods_gap(pods: Option<&Selector>, view: &View<'_>) -> Option<String> {
    let missing = unmet(pods?, |one| view.pods_match(one));
    (!missing.is_empty()).then(|| format!("needs pod label {}", said(&missing, view, |key| view.pod_labels.get(key))))
}

/// The requirements that do not hold, each as a selector of its own.
fn unmet(selector: &Selector, holds: impl Fn(&Selector) -> bool) -> Vec<Selector> {
    let single = selector.requirements.iter().map(|one| Selector { requirements: vec![one.clone()] });
    single.filter(|one| !holds(one)).collect()
}

fn said<'a>(missing: &[Selector], view: &View<'_>, label: impl Fn(&str) -> Option<&'a Text>) -> String {
    let one = |requirement: &Requirement| {
        let needed = show::requirement(requirement);
        let value = match (is_cluster_key(&requirement.key), view.cluster_label) {
            (true, ClusterLabel::Is(id)) => Some(id),
            (true, ClusterLabel::Missing) => None,
            (true, ClusterLabel::Unknown) => return format!("{needed} (it is not known)"),
            (false, _) => label(&requirement.key).map(|value| &**value),
        };
        match value {
            Some(value) => format!("{needed} (it is {value:?})"),
            None => format!("{needed} (it has none)"),
        }
    };
    let parts: Vec<String> = missing.iter().flat_map(|selector| &selector.requirements).map(one).collect();
    parts.join(" and ")
}
