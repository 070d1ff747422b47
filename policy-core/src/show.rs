//! Writes objects of the model on one line each, for people who read a failing test or a log.

use std::fmt::{self, Display, Write as _};

use crate::facet::{Facet, NamespaceMatch, PeerClusters, PodFacet};
use crate::model::{
    Allowance, ClusterConfig, Direction, EndpointSlice, EndpointSliceKey, Event, Labels, Namespace, NetworkPolicy,
    Node, Operator, Peer, Pod, Port, PortSelection, Protocol, Requirement, Rule, Scope, ScopeAnnotation, Selector,
    Service, Text, Timestamp,
};

pub(crate) fn config(config: &ClusterConfig) -> String {
    let ClusterConfig { local, default_scope, cluster_labels, members } = config;
    let mut line = format!("ClusterSet local={local} scope={default_scope:?} labels={cluster_labels:?}");
    for member in members {
        let _ = write!(line, " {}[{}]", member.id, list(&member.pod_cidrs, " "));
    }
    line
}

pub(crate) fn namespace(namespace: &Namespace) -> String {
    let Namespace { key, labels: own, peer_scope } = namespace;
    format!("namespace {}/{} {}{}", key.cluster, key.name, labels(own), scope(peer_scope.as_ref()))
}

pub(crate) fn node(node: &Node) -> String {
    let Node { key, addresses } = node;
    format!("node {}/{} {}", key.cluster, key.name, list(addresses, " "))
}

pub(crate) fn pod(pod: &Pod) -> String {
    let Pod { key, uid, labels: own, addresses, ports, node, host_network, lifecycle, created } = pod;
    let mut line = format!("pod {key} uid={uid} {} [{}]", labels(own), list(addresses, " "));
    for port in ports {
        let name = port.name.as_deref().unwrap_or("-");
        let _ = write!(line, " {name}={}/{}", port.protocol.as_str(), port.number);
    }
    if let Some(node) = node {
        let _ = write!(line, " node={node}");
    }
    if *host_network {
        line.push_str(" host-network");
    }
    let _ = write!(line, " {lifecycle:?}");
    if let Some(Timestamp { s, ns }) = created {
        let _ = write!(line, " created={s}.{ns:09}");
    }
    line
}

pub(crate) fn policy(policy: &NetworkPolicy) -> String {
    let NetworkPolicy { key, peer_scope, subject, ingress, egress } = policy;
    let mut lines = format!("policy {key} {}{}", selector(subject), scope(peer_scope.as_ref()));
    for (direction, rules) in [("ingress", ingress), ("egress", egress)] {
        let Some(rules) = rules else { continue };
        if rules.is_empty() {
            let _ = write!(lines, "\n    {direction}: nothing");
        }
        for (index, one) in rules.iter().enumerate() {
            let _ = write!(lines, "\n    {direction}[{index}]: {}", rule(one));
        }
    }
    lines
}

/// Only tests print events.
#[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "only tests print events"))]
pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::Configured(to) => format!("configured {}", config(to)),
        Event::Synced(cluster) => format!("synced {cluster}"),
        Event::Relisted(cluster, listing) => format!("relisted {cluster}: {listing:?}"),
        Event::NamespaceApplied(applied) => format!("+ {}", namespace(applied)),
        Event::NamespaceDeleted(key) => format!("- namespace {}/{}", key.cluster, key.name),
        Event::PodApplied(applied) => format!("+ {}", pod(applied)),
        Event::PodDeleted { key, uid } => format!("- pod {key} uid={uid}"),
        Event::NodeApplied(applied) => format!("+ {}", node(applied)),
        Event::NodeDeleted(key) => format!("- node {}/{}", key.cluster, key.name),
        Event::PolicyApplied(applied) => format!("+ {}", policy(applied)),
        Event::PolicyDeleted(key) => format!("- policy {key}"),
        Event::ServiceApplied(applied) => format!("+ {}", service(applied)),
        Event::ServiceDeleted(key) => format!("- service {key}"),
        Event::EndpointSliceApplied(applied) => format!("+ {}", slice(applied)),
        Event::EndpointSliceDeleted(key) => format!("- slice {}/{}/{}", key.cluster, key.namespace, key.name),
    }
}

pub(crate) fn service(service: &Service) -> String {
    let Service { key, addresses, ports } = service;
    let ports: Vec<String> = ports.iter().map(|it| named_port(it.name.as_ref(), it.protocol, it.port)).collect();
    format!("service {key} {} {}", list(addresses, ","), ports.join(" "))
}

pub(crate) fn slice(slice: &EndpointSlice) -> String {
    let EndpointSlice { key: EndpointSliceKey { cluster, namespace, name }, service, ports, backends } = slice;
    let ports: Vec<String> = ports.iter().map(|it| named_port(it.name.as_ref(), it.protocol, it.number)).collect();
    let backends: Vec<String> = backends.iter().map(|it| format!("{}({:?})", it.address, it.state)).collect();
    format!(
        "slice {cluster}/{namespace}/{name} of {} {}: {}",
        service.as_deref().unwrap_or("nothing"),
        ports.join(" "),
        backends.join(" ")
    )
}

fn named_port(name: Option<&Text>, protocol: Protocol, number: u16) -> String {
    format!("{}{}/{number}", name.map(|name| format!("{name}=")).unwrap_or_default(), protocol.as_str())
}

fn rule(rule: &Rule) -> String {
    let Rule::Allow(Allowance { peers, ports }) = rule else { return "unreadable".to_owned() };
    let peers = match peers {
        None => "everybody".to_owned(),
        Some(peers) => peers.iter().map(peer).collect::<Vec<_>>().join(" | "),
    };
    let ports = match ports {
        None => "everything".to_owned(),
        Some(ports) => ports.iter().map(port).collect::<Vec<_>>().join(" "),
    };
    format!("{peers} : {ports}")
}

fn peer(peer: &Peer) -> String {
    match peer {
        Peer::Pods { namespaces, pods } => {
            let part = |name, part: &Option<Selector>| part.as_ref().map(|it| format!("{name}{}", selector(it)));
            [part("namespaces", namespaces), part("pods", pods)].into_iter().flatten().collect::<Vec<_>>().join("+")
        }
        Peer::Block(block) if block.except.is_empty() => block.cidr.to_string(),
        Peer::Block(block) => format!("{} except {}", block.cidr, list(&block.except, ",")),
    }
}

pub(crate) fn port(port: &Port) -> String {
    let protocol = port.protocol.as_str();
    match &port.selection {
        PortSelection::All => protocol.to_owned(),
        PortSelection::Range(first, last) if first == last => format!("{protocol}/{first}"),
        PortSelection::Range(first, last) => format!("{protocol}/{first}-{last}"),
        PortSelection::Named(name) => format!("{protocol}/{name}"),
    }
}

/// A rule of equality selectors, blocks and single ports as its author would write it.
pub(crate) fn yaml(allowance: &Allowance, direction: Direction) -> String {
    let Allowance { peers, ports } = allowance;
    let labels = |selector: &Selector| {
        let label = |requirement: &Requirement| match &requirement.operator {
            Operator::In(values) => format!("{}: {}", requirement.key, values.join(", ")),
            Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist => self::requirement(requirement),
        };
        let labels: Vec<String> = selector.requirements.iter().map(label).collect();
        format!("{{matchLabels: {{{}}}}}", labels.join(", "))
    };
    let peer = |peer: &Peer| match peer {
        Peer::Pods { namespaces, pods } => {
            let part = |name, part: &Option<Selector>| part.as_ref().map(|it| format!("{name}: {}", labels(it)));
            let parts = [part("namespaceSelector", namespaces), part("podSelector", pods)];
            format!("{{{}}}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
        }
        Peer::Block(block) => format!("{{ipBlock: {{cidr: {}}}}}", block.cidr),
    };
    let port = |port: &Port| match &port.selection {
        PortSelection::Range(first, _) => format!("{{protocol: {}, port: {first}}}", port.protocol.as_str()),
        PortSelection::Named(name) => format!("{{protocol: {}, port: {name}}}", port.protocol.as_str()),
        PortSelection::All => format!("{{protocol: {}}}", port.protocol.as_str()),
    };
    let listed = |items: Vec<String>| format!("[{}]", items.join(", "));
    let field = direction.peers_field();
    let peers = peers.iter().map(|peers| format!("{field}: {}", listed(peers.iter().map(peer).collect())));
    let ports = ports.iter().map(|ports| format!("ports: {}", listed(ports.iter().map(port).collect())));
    format!("{{{}}}", peers.chain(ports).collect::<Vec<_>>().join(", "))
}

fn selector(selector: &Selector) -> String {
    let parts: Vec<_> = selector.requirements.iter().map(requirement).collect();
    format!("{{{}}}", parts.join(", "))
}

/// A requirement as `kubectl get -l` has it.
pub(crate) fn requirement(requirement: &Requirement) -> String {
    let key = &requirement.key;
    let values = |values: &[Text]| values.join(",");
    match &requirement.operator {
        Operator::In(any) if any.len() == 1 => format!("{key}={}", any[0]),
        Operator::In(any) => format!("{key} in ({})", values(any)),
        Operator::NotIn(none) => format!("{key} notin ({})", values(none)),
        Operator::Exists => key.to_string(),
        Operator::DoesNotExist => format!("!{key}"),
    }
}

impl Display for Facet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pods(pods) => f.write_str(&pod_facet(pods)),
            Self::Block(block) => f.write_str(&peer(&Peer::Block(block.clone()))),
            Self::NamedPort { protocol, name, number } => {
                write!(f, "port {name:?} is {}/{number}", protocol.as_str())
            }
        }
    }
}

fn pod_facet(facet: &PodFacet) -> String {
    let PodFacet { clusters, namespaces, pods } = facet;
    let pods = pods.as_ref().filter(|pods| !pods.requirements.is_empty());
    let pods = pods.map_or_else(|| "all pods".to_owned(), |pods| format!("pods{}", selector(pods)));
    let namespaces = match namespaces {
        NamespaceMatch::Named(name) => format!("namespace {name}"),
        NamespaceMatch::Selected(all) if all.requirements.is_empty() => "every namespace".to_owned(),
        NamespaceMatch::Selected(some) => format!("namespaces{}", selector(some)),
    };
    let clusters = match clusters {
        PeerClusters::Scope(Scope::Local) => " of the local cluster",
        PeerClusters::Scope(Scope::ClusterSet) => " of every cluster",
        PeerClusters::Qualified => "",
    };
    format!("{pods} in {namespaces}{clusters}")
}

fn labels(labels: &Labels) -> String {
    let parts: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{{{}}}", parts.join(", "))
}

fn scope(annotation: Option<&ScopeAnnotation>) -> String {
    match annotation {
        None => String::new(),
        Some(ScopeAnnotation::Known(scope)) => format!(" peer-scope={scope:?}"),
        Some(ScopeAnnotation::Unknown(value)) => format!(" peer-scope={value:?}?"),
    }
}

fn list<T: Display>(items: &[T], separator: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}
