//! Builders that hide the model from hand-written tests: `pod("b/shop/web-1").labels("app=web").ip("10.2.0.5")`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::parse;
use crate::model::{
    Allowance, ClusterConfig, ClusterLabels, Connection, ContainerPort, Event, IpBlock, Labels, Lifecycle, Member,
    Namespace, NamespaceKey, NetworkPolicy, Node, NodeKey, Peer, Pod, PodKey, PolicyKey, PolicyKind, Rule, Scope,
    ScopeAnnotation, Selector, Timestamp,
};
use crate::world::World;

/// A ClusterSet without members yet, scope `Local`, labels `Implicit`.
pub fn cluster_set(local: &str) -> ClusterSetBuilder {
    let config = ClusterConfig {
        local: parse::cluster(local),
        default_scope: Scope::Local,
        cluster_labels: ClusterLabels::Implicit,
        members: Vec::new(),
    };
    ClusterSetBuilder { config, objects: Vec::new() }
}

/// The ClusterSet of most tests: `a` (local), `b` and `c`, with the ranges `10.N.0.0/16` and `fd00:N::/48`, N = 1, 2, 3.
pub fn abc() -> ClusterSetBuilder {
    cluster_set("a")
        .member("a", "10.1.0.0/16 fd00:1::/48")
        .member("b", "10.2.0.0/16 fd00:2::/48")
        .member("c", "10.3.0.0/16 fd00:3::/48")
}

/// A ClusterSet and what is in it.
#[derive(Clone, Debug)]
pub struct ClusterSetBuilder {
    config: ClusterConfig,
    objects: Vec<Event>,
}

impl ClusterSetBuilder {
    /// A member (again: its new record), its podCIDRs between blanks.
    pub fn member(mut self, id: &str, pod_cidrs: &str) -> Self {
        let pod_cidrs = pod_cidrs.split_whitespace().map(net).collect();
        let member = Member { id: parse::cluster(id), pod_cidrs, labels: Labels::new() };
        match self.config.members.iter_mut().find(|known| known.id == member.id) {
            Some(known) => *known = member,
            None => self.config.members.push(member),
        }
        self
    }

    /// The default scope.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.config.default_scope = scope;
        self
    }

    /// The label mode `Explicit`.
    pub fn explicit(mut self) -> Self {
        self.config.cluster_labels = ClusterLabels::Explicit;
        self
    }

    /// An object of any kind, or any event.
    pub fn with(mut self, object: impl Into<Event>) -> Self {
        self.objects.push(object.into());
        self
    }

    /// The configuration alone.
    pub fn config(&self) -> ClusterConfig {
        self.config.clone()
    }

    /// The configuration and then the objects as they were given.
    pub fn events(&self) -> Vec<Event> {
        [Event::Configured(self.config())].into_iter().chain(self.objects.iter().cloned()).collect()
    }

    /// The world that these events make.
    pub fn world(&self) -> World {
        World::from_events(&self.events())
    }
}

impl From<ClusterSetBuilder> for Event {
    fn from(builder: ClusterSetBuilder) -> Self {
        Self::Configured(builder.config)
    }
}

/// A live pod `cluster/namespace/name` without labels or addresses; its uid is its key and `#1`.
pub fn pod(key: &str) -> PodBuilder {
    let [cluster, namespace, name] = parse::key(key);
    PodBuilder(Pod {
        key: PodKey { cluster: parse::cluster(cluster), namespace: namespace.into(), name: name.into() },
        uid: format!("{key}#1").into(),
        labels: Labels::new(),
        addresses: Vec::new(),
        ports: Vec::new(),
        node: None,
        host_network: false,
        lifecycle: Lifecycle::Live,
        created: None,
    })
}

/// A pod in the making.
#[derive(Clone, Debug)]
pub struct PodBuilder(Pod);

impl PodBuilder {
    /// Its labels, as `app=web,tier=x`.
    pub fn labels(mut self, labels: &str) -> Self {
        self.0.labels = parse::labels(labels);
        self
    }

    /// One more address.
    pub fn ip(mut self, address: &str) -> Self {
        self.0.addresses.push(ip(address));
        self
    }

    /// One more named TCP port.
    pub fn port(self, name: &str, number: u16) -> Self {
        self.protocol_port("TCP", name, number)
    }

    /// One more named port of a protocol.
    pub fn protocol_port(mut self, protocol: &str, name: &str, number: u16) -> Self {
        let protocol = parse::protocol(protocol);
        self.0.ports.push(ContainerPort { name: Some(name.into()), protocol, number });
        self
    }

    /// Another uid than the one of its key.
    pub fn uid(mut self, uid: &str) -> Self {
        self.0.uid = uid.into();
        self
    }

    /// The node it is bound to.
    pub fn node(mut self, node: &str) -> Self {
        self.0.node = Some(node.into());
        self
    }

    /// It shares its node's network.
    pub fn host_network(mut self) -> Self {
        self.0.host_network = true;
        self
    }

    /// It has a `deletionTimestamp`.
    pub fn terminating(mut self) -> Self {
        self.0.lifecycle = Lifecycle::Terminating;
        self
    }

    /// It has succeeded or failed.
    pub fn finished(mut self) -> Self {
        self.0.lifecycle = Lifecycle::Finished;
        self
    }

    /// When it was made, on the second.
    pub fn created_s(self, s: i64) -> Self {
        self.created(s, 0)
    }

    /// When it was made, in seconds and nanoseconds.
    pub fn created(mut self, s: i64, ns: u32) -> Self {
        self.0.created = Some(Timestamp { s, ns });
        self
    }

    /// The pod.
    pub fn build(self) -> Pod {
        self.0
    }

    /// The deletion of this very pod.
    pub fn deleted(self) -> Event {
        Event::PodDeleted { key: self.0.key, uid: self.0.uid }
    }
}

impl From<PodBuilder> for Event {
    fn from(builder: PodBuilder) -> Self {
        Self::PodApplied(builder.0)
    }
}

/// A namespace object `cluster/name` without labels.
pub fn namespace(key: &str) -> NamespaceBuilder {
    let [cluster, name] = parse::key(key);
    NamespaceBuilder(Namespace {
        key: NamespaceKey { cluster: parse::cluster(cluster), name: name.into() },
        labels: Labels::new(),
        peer_scope: None,
    })
}

/// A namespace in the making.
#[derive(Clone, Debug)]
pub struct NamespaceBuilder(Namespace);

impl NamespaceBuilder {
    /// Its labels, as `team=x`.
    pub fn labels(mut self, labels: &str) -> Self {
        self.0.labels = parse::labels(labels);
        self
    }

    /// Its annotation `crosswall.dev/peer-scope`.
    pub fn annotated(mut self, value: &str) -> Self {
        self.0.peer_scope = Some(annotation(value));
        self
    }

    /// The namespace.
    pub fn build(self) -> Namespace {
        self.0
    }

    /// Its deletion.
    pub fn deleted(self) -> Event {
        Event::NamespaceDeleted(self.0.key)
    }
}

impl From<NamespaceBuilder> for Event {
    fn from(builder: NamespaceBuilder) -> Self {
        Self::NamespaceApplied(builder.0)
    }
}

/// A node `cluster/name`, its addresses between blanks.
pub fn node(key: &str, addresses: &str) -> Event {
    let [cluster, name] = parse::key(key);
    let key = NodeKey { cluster: parse::cluster(cluster), name: name.into() };
    Event::NodeApplied(Node { key, addresses: addresses.split_whitespace().map(ip).collect() })
}

/// A NetworkPolicy `cluster/namespace/name` that selects every pod of its namespace and isolates nothing yet.
pub fn policy(key: &str) -> PolicyBuilder {
    let [cluster, namespace, name] = parse::key(key);
    PolicyBuilder(NetworkPolicy {
        key: policy_key(cluster, namespace, name),
        peer_scope: None,
        subject: Selector::default(),
        ingress: None,
        egress: None,
    })
}

fn policy_key(cluster: &str, namespace: &str, name: &str) -> PolicyKey {
    PolicyKey {
        cluster: parse::cluster(cluster),
        kind: PolicyKind::NetworkPolicy,
        namespace: namespace.into(),
        name: name.into(),
    }
}

/// A policy in the making.
#[derive(Clone, Debug)]
pub struct PolicyBuilder(NetworkPolicy);

impl PolicyBuilder {
    /// Its subject.
    pub fn select(mut self, selector: &str) -> Self {
        self.0.subject = parse::selector(selector);
        self
    }

    /// Its annotation `crosswall.dev/peer-scope`.
    pub fn annotated(mut self, value: &str) -> Self {
        self.0.peer_scope = Some(annotation(value));
        self
    }

    /// It isolates ingress, with these rules.
    pub fn ingress<R: Into<Rule>>(mut self, rules: impl IntoIterator<Item = R>) -> Self {
        self.0.ingress = Some(rules.into_iter().map(Into::into).collect());
        self
    }

    /// It isolates egress, with these rules.
    pub fn egress<R: Into<Rule>>(mut self, rules: impl IntoIterator<Item = R>) -> Self {
        self.0.egress = Some(rules.into_iter().map(Into::into).collect());
        self
    }

    /// It isolates ingress and allows nothing.
    pub fn no_ingress(self) -> Self {
        self.ingress::<Rule>([])
    }

    /// It isolates egress and allows nothing.
    pub fn no_egress(self) -> Self {
        self.egress::<Rule>([])
    }

    /// The policy.
    pub fn build(self) -> NetworkPolicy {
        self.0
    }

    /// Its deletion.
    pub fn deleted(self) -> Event {
        Event::PolicyDeleted(self.0.key)
    }
}

impl From<PolicyBuilder> for Event {
    fn from(builder: PolicyBuilder) -> Self {
        Self::PolicyApplied(builder.0)
    }
}

/// A rule that allows everybody everything, until it is narrowed.
pub fn rule() -> RuleBuilder {
    RuleBuilder(Allowance { peers: None, ports: None })
}

/// A rule that cannot be read.
pub fn unreadable() -> Rule {
    Rule::Unreadable
}

/// A rule in the making.
#[derive(Clone, Debug)]
pub struct RuleBuilder(Allowance);

impl RuleBuilder {
    /// One more peer.
    pub fn peer(mut self, peer: Peer) -> Self {
        self.0.peers.get_or_insert_default().push(peer);
        self
    }

    /// More ports, as `TCP/80 UDP/53-60 TCP/http SCTP`.
    pub fn ports(mut self, ports: &str) -> Self {
        self.0.ports.get_or_insert_default().extend(parse::ports(ports));
        self
    }
}

impl From<RuleBuilder> for Rule {
    fn from(builder: RuleBuilder) -> Self {
        Self::Allow(builder.0)
    }
}

/// A peer with a `podSelector` alone.
pub fn pods(selector: &str) -> Peer {
    Peer::Pods { namespaces: None, pods: Some(parse::selector(selector)) }
}

/// A peer with a `namespaceSelector` alone.
pub fn namespaces(selector: &str) -> Peer {
    Peer::Pods { namespaces: Some(parse::selector(selector)), pods: None }
}

/// A peer with a `namespaceSelector` and a `podSelector`.
pub fn pods_in(namespaces: &str, pods: &str) -> Peer {
    Peer::Pods { namespaces: Some(parse::selector(namespaces)), pods: Some(parse::selector(pods)) }
}

/// A peer by address, the `except` ranges between blanks.
pub fn block(cidr: &str, except: &str) -> Peer {
    Peer::Block(IpBlock { cidr: net(cidr), except: except.split_whitespace().map(net).collect() })
}

/// A connection: from, to, and `TCP/80`, `ICMP` or `IP/47`.
pub fn connection(source: &str, destination: &str, transport: &str) -> Connection {
    Connection { source: ip(source), destination: ip(destination), transport: parse::transport(transport) }
}

fn annotation(value: &str) -> ScopeAnnotation {
    match value {
        "Local" => ScopeAnnotation::Known(Scope::Local),
        "ClusterSet" => ScopeAnnotation::Known(Scope::ClusterSet),
        other => ScopeAnnotation::Unknown(other.into()),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("no address: {text:?}"))
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|_| panic!("no CIDR: {text:?}"))
}
