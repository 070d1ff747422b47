//! A whole ClusterSet decided without a kernel: every member is local for its own pods, and both ends count.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_common::reason::Reason;

use crate::compile::Subjects;
use crate::index::PodEntry;
use crate::judge::{End, Origin};
use crate::model::{
    ClusterConfig, ClusterId, Connection, Direction, Event, Lifecycle, Listing, Node as ClusterNode, NodeKey, PodKey,
};
use crate::node::{Attachment, Node};
use crate::plan::{Limits, TableState};

/// A ClusterSet whose members each enforce their own policies.
#[derive(Debug)]
pub struct Simulation {
    local: ClusterId,
    members: BTreeMap<ClusterId, Node>,
    nodes: BTreeMap<NodeKey, ClusterNode>,
}

/// What both ends say of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The source's end; `None`: no workload.
    pub egress: Option<End>,
    /// The destination's end; `None`: no workload.
    pub ingress: Option<End>,
}

impl Outcome {
    /// Whether the connection comes about.
    pub fn allow(&self) -> bool {
        self.ends().all(|end| end.allow)
    }

    /// The reason that counts most: of a denial that of the first end that denies.
    pub fn reason(&self) -> Reason {
        if let Some(denial) = self.ends().find(|end| !end.allow) {
            return denial.reason;
        }
        let telling = [Reason::Rule, Reason::Node, Reason::SelfTraffic];
        let told = |reason: &&Reason| self.ends().any(|end| end.reason == **reason);
        telling.iter().find(told).copied().unwrap_or(Reason::NotIsolated)
    }

    fn ends(&self) -> impl Iterator<Item = &End> {
        self.egress.iter().chain(&self.ingress)
    }
}

/// One end of a probe: an address, and the pod that has it if it is a workload's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The workload.
    pub pod: Option<PodKey>,
    /// Its address, or the address itself.
    pub address: IpAddr,
}

impl Simulation {
    /// Compiles every member's policies over the objects of all.
    pub fn new(config: &ClusterConfig, events: &[Event]) -> Self {
        let mut nodes: BTreeMap<NodeKey, _> = BTreeMap::new();
        for event in events {
            match event {
                Event::NodeApplied(node) => drop(nodes.insert(node.key.clone(), node.clone())),
                Event::NodeDeleted(key) => drop(nodes.remove(key)),
                Event::Relisted(cluster, Listing::Nodes(keys)) => {
                    nodes.retain(|key, _| key.cluster != *cluster || keys.contains(key));
                }
                _ => {}
            }
        }
        let mut simulation = Self { local: config.local.clone(), members: BTreeMap::new(), nodes };
        for member in &config.members {
            let own = ClusterConfig { local: member.id.clone(), ..config.clone() };
            let mut node = Node::new(own, Subjects::All, TableState::default(), Limits::default());
            // Each member's own view of who is local stays.
            node.apply(events.iter().filter(|event| !matches!(event, Event::Configured(_))));
            let subjects: Vec<PodKey> = node.compiler().subjects().keys().cloned().collect();
            for (ifindex, key) in (1..).zip(&subjects) {
                node.attach(key, Attachment { ifindex, bridge: None });
            }
            simulation.members.insert(member.id.clone(), node);
            let hosts = simulation.host_addresses(&member.id, None);
            if let Some(node) = simulation.members.get_mut(&member.id) {
                node.set_host_addresses(hosts);
                // Modelled tables have no limits, so the plan cannot be refused.
                drop(node.settle());
            }
        }
        simulation
    }

    /// A member's node, which holds its compiled policies.
    pub fn member(&self, cluster: &ClusterId) -> Option<&Node> {
        self.members.get(cluster)
    }

    /// All members.
    pub fn members(&self) -> &BTreeMap<ClusterId, Node> {
        &self.members
    }

    /// A pod of any member.
    pub fn pod(&self, key: &PodKey) -> Option<PodEntry<'_>> {
        self.members.get(&key.cluster)?.compiler().pod(key)
    }

    /// The workload that an address means: of several claimants the one that the local cluster believes. A claim against
    /// the podCIDRs counts where there is no other: it names the pod, though no selector finds the pod by it.
    pub fn workload_at(&self, address: IpAddr) -> Option<PodEntry<'_>> {
        let node = self.members.get(&self.local)?;
        node.compiler().index().named_by(address)
    }

    /// Judges a new connection between two parties by its addresses, as packets are.
    pub fn judge(&self, from: &Party, to: &Party, connection: &Connection) -> Outcome {
        Outcome {
            egress: from.pod.as_ref().and_then(|pod| self.end(pod, Direction::Egress, connection)),
            ingress: to.pod.as_ref().and_then(|pod| self.end(pod, Direction::Ingress, connection)),
        }
    }

    /// What one pod's end says, by its own cluster's policies; `None`: it is no workload.
    pub fn end(&self, pod: &PodKey, direction: Direction, connection: &Connection) -> Option<End> {
        let member = self.members.get(&pod.cluster)?;
        let origin = match direction {
            Direction::Egress => Origin::Network,
            Direction::Ingress => self.origin(member.compiler().pod(pod)?, connection.source),
        };
        member.judge(pod, direction, connection, origin)
    }

    /// A source that is an address of the pod's own node is the node's own.
    fn origin(&self, pod: PodEntry<'_>, source: IpAddr) -> Origin {
        let own = pod.node().map(|name| NodeKey { cluster: pod.cluster().clone(), name: name.clone() });
        let is_own = own.is_some_and(|own| self.host_addresses(&own.cluster, Some(&own)).contains(&source));
        if is_own { Origin::OwnNode } else { Origin::Network }
    }

    /// The addresses of one node or of all nodes of a cluster: what the Node says, and its host-network pods.
    fn host_addresses(&self, cluster: &ClusterId, node: Option<&NodeKey>) -> BTreeSet<IpAddr> {
        let objects = self.nodes.values().filter(|object| match node {
            Some(key) => object.key == *key,
            None => object.key.cluster == *cluster,
        });
        let declared = objects.flat_map(|object| object.addresses.iter().copied());
        let pods = self.members.get(cluster).into_iter().flat_map(|member| member.compiler().index().pods());
        let on_node = |pod: &PodEntry<'_>| match (node, pod.node()) {
            (Some(key), Some(name)) => key.name == *name,
            (Some(_), None) => false,
            (None, _) => true,
        };
        let host_network = pods
            .filter(|pod| pod.cluster() == cluster && pod.is_host_network() && pod.lifecycle() != Lifecycle::Finished)
            .filter(on_node)
            .flat_map(PodEntry::addresses);
        declared.chain(host_network).collect()
    }
}
