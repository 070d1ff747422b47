//! A node that is told everything, cluster by cluster, as an agent is when it starts.

use std::time::Duration;

use policy_core::compile::Subjects;
use policy_core::index::{ClusterIndex, PodEntry};
use policy_core::model::Event;
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Limits, TableState};

use crate::cluster_set::{ClusterSet, NODE};
use crate::sys::cpu_time;

/// The first of the interfaces that endpoints have.
const FIRST_INTERFACE: u32 = 10;

/// Which cluster's listing comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The local one's, with the policies.
    LocalFirst,
    /// The local one's is the last.
    LocalLast,
}

/// A node whose modelled tables enforce all it was told.
pub struct Listed {
    /// The node.
    pub node: Node,
    /// How long it took to take the listings in.
    pub applying: Duration,
    /// How long the plan took, carried out on the modelled tables.
    pub planning: Duration,
}

/// Tells a node everything; generating it is not measured. What is measured is what one core does for it, whoever else
/// has it meanwhile.
pub fn list(set: &ClusterSet, order: Order) -> Listed {
    let (mut node, applying) = apply(set, order);
    let begun = cpu_time();
    attach(&mut node);
    node.settle().expect("modelled tables have no limits");
    Listed { node, applying, planning: cpu_time() - begun }
}

/// A node that knows everything but has no plan yet, and how long it took to take the listings in.
pub fn apply(set: &ClusterSet, order: Order) -> (Node, Duration) {
    let mut node = Node::new(set.config(), Subjects::OnNode(NODE.into()), TableState::default(), Limits::default());
    let clusters = match order {
        Order::LocalFirst => (0..set.clusters).collect::<Vec<_>>(),
        Order::LocalLast => (1..set.clusters).chain([0]).collect(),
    };
    let mut applying = Duration::ZERO;
    for cluster in clusters {
        let events = set.listing(cluster);
        let begun = cpu_time();
        node.apply(&events);
        applying += cpu_time() - begun;
    }
    (node, applying)
}

/// An index that knows one of every so many pods, and nothing else.
pub fn index(set: &ClusterSet, one_of: u32) -> ClusterIndex {
    let mut index = ClusterIndex::new(set.config());
    for cluster in 0..set.clusters {
        let mut pods = 0;
        for event in set.listing(cluster) {
            match event {
                Event::NamespaceApplied(namespace) => {
                    index.apply_namespace(&namespace);
                }
                Event::PodApplied(pod) => {
                    if pods % one_of == 0 {
                        index.apply_pod(&pod);
                    }
                    pods += 1;
                }
                _ => {}
            }
        }
    }
    index
}

/// Finds an interface for each endpoint that has none.
pub fn attach(node: &mut Node) {
    let taken = node.endpoints().values().map(|endpoint| endpoint.attachment.ifindex).max();
    let free = taken.map_or(FIRST_INTERFACE, |taken| taken + 1)..;
    let keys: Vec<_> = node.detached().map(PodEntry::key).collect();
    for (key, ifindex) in keys.into_iter().zip(free) {
        node.attach(&key, Attachment { ifindex, bridge: None });
    }
}
