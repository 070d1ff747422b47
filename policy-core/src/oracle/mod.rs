//! The naive evaluator: who may talk to whom, straight from the semantics, quadratic and readable above all.
//!
//! It shares no code with the compiler. When the two differ, one of them has read `docs/semantics.md` wrongly.

mod owner;
mod peers;

use std::net::IpAddr;

use crate::model::{
    ClusterConfig, ClusterId, Connection, Direction, Lifecycle, NetworkPolicy, Pod, PodKey, PolicyKey, Rule,
};
use crate::world::World;

/// What happens to a connection at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// This end lets it pass.
    Allow,
    /// This end drops it.
    Deny,
}

/// Why an end decided so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The pod talks to itself on its own address.
    SelfTraffic,
    /// The pod's own node opens the connection.
    Node,
    /// No policy isolates the pod in this direction, or it is no workload.
    NotIsolated,
    /// A rule allows it.
    Rule,
    /// The pod is isolated and no rule allows it.
    NoRule,
}

/// The judgement of one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Whether this end lets the connection pass.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The policies that isolate the pod in this direction, in order, whatever the reason.
    pub isolated_by: Vec<PolicyKey>,
    /// Every rule that allows it, as policy and index of the rule, in order; empty unless the reason is `Rule`.
    pub allowed_by: Vec<(PolicyKey, usize)>,
}

/// Judges connections in one unchanging world.
#[derive(Clone, Copy, Debug)]
pub struct Oracle<'w> {
    world: &'w World,
}

impl<'w> Oracle<'w> {
    /// An oracle of this world.
    pub fn new(world: &'w World) -> Self {
        Self { world }
    }

    /// Whether the subject's end lets a new connection pass. The subject's cluster is the local one: its policies
    /// count, and its view of who owns an address. A pod that is no workload is nobody's subject, so not isolated.
    pub fn judge(&self, subject: &PodKey, direction: Direction, connection: &Connection) -> End {
        let subject = self.world.pods.get(subject).filter(|pod| is_workload(pod));
        match (subject, &self.world.config) {
            (Some(subject), Some(config)) => {
                let view = View { world: self.world, config, local: &subject.key.cluster };
                view.judge(subject, direction, connection)
            }
            _ => End::allow(Reason::NotIsolated, Vec::new()),
        }
    }

    /// The workload that `local` means by an address: whose labels and named ports the address has. `None`: nobody's,
    /// be it outside the ClusterSet, rejected, or claimed twice.
    pub fn owner(&self, local: &ClusterId, address: IpAddr) -> Option<&'w Pod> {
        let config = self.world.config.as_ref()?;
        View { world: self.world, config, local }.owner(address)
    }

    /// The workload that a person means by an address: the only one that has it, rejected or not; of several, the
    /// one that owns it in the eyes of the configured local cluster.
    pub fn endpoint_of(&self, address: IpAddr) -> Option<&'w Pod> {
        let mut claimants = self.world.pods.values().filter(|pod| is_workload(pod) && pod.addresses.contains(&address));
        match (claimants.next(), claimants.next()) {
            (Some(only), None) => Some(only),
            _ => self.owner(&self.world.config.as_ref()?.local, address),
        }
    }
}

impl End {
    fn allow(reason: Reason, isolated_by: Vec<PolicyKey>) -> Self {
        Self { verdict: Verdict::Allow, reason, isolated_by, allowed_by: Vec::new() }
    }
}

/// The world as one member sees it that takes the role *local*.
#[derive(Clone, Copy)]
struct View<'w, 'l> {
    world: &'w World,
    config: &'w ClusterConfig,
    local: &'l ClusterId,
}

/// Whether a policy applies to a pod.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Selection {
    /// It isolates the pod and its rules count.
    Selected,
    /// It looks at a label that is not known: it isolates the pod, but allows nothing.
    Unknown,
    /// It has nothing to do with the pod.
    NotSelected,
}

impl<'w> View<'w, '_> {
    fn judge(&self, subject: &Pod, direction: Direction, connection: &Connection) -> End {
        let isolating: Vec<(&NetworkPolicy, Selection)> = self
            .world
            .policies
            .values()
            .filter(|policy| policy.key.cluster == *self.local && policy.rules(direction).is_some())
            .map(|policy| (policy, self.selection(policy, subject)))
            .filter(|(_, selection)| *selection != Selection::NotSelected)
            .collect();
        let isolated_by: Vec<PolicyKey> = isolating.iter().map(|(policy, _)| policy.key.clone()).collect();

        if is_self_traffic(subject, connection) {
            return End::allow(Reason::SelfTraffic, isolated_by);
        }
        if direction == Direction::Ingress && self.is_own_node(subject, connection.source) {
            return End::allow(Reason::Node, isolated_by);
        }
        if isolated_by.is_empty() {
            return End::allow(Reason::NotIsolated, isolated_by);
        }

        let mut allowed_by = Vec::new();
        for (policy, selection) in isolating {
            for (index, rule) in policy.rules(direction).into_iter().flatten().enumerate() {
                if selection == Selection::Selected && self.rule_allows(policy, rule, subject, direction, connection) {
                    allowed_by.push((policy.key.clone(), index));
                }
            }
        }
        let (verdict, reason) = match allowed_by.is_empty() {
            true => (Verdict::Deny, Reason::NoRule),
            false => (Verdict::Allow, Reason::Rule),
        };
        End { verdict, reason, isolated_by, allowed_by }
    }

    fn rule_allows(
        &self,
        policy: &NetworkPolicy,
        rule: &Rule,
        subject: &Pod,
        direction: Direction,
        connection: &Connection,
    ) -> bool {
        let Rule::Allow(allowance) = rule else { return false };
        let (peer_address, destination) = match direction {
            Direction::Ingress => (connection.source, Some(subject)),
            Direction::Egress => (connection.destination, self.owner(connection.destination)),
        };
        let peer_matches = match &allowance.peers {
            None => true,
            Some(peers) => peers.iter().any(|peer| self.peer_matches(policy, peer, peer_address)),
        };
        let port_matches = match &allowance.ports {
            None => true,
            Some(ports) => ports.iter().any(|port| peers::port_matches(port, connection.transport, destination)),
        };
        peer_matches && port_matches
    }

    /// Whether an address is one of the subject's node: of its object, or of a pod that shares the node's network.
    fn is_own_node(&self, subject: &Pod, address: IpAddr) -> bool {
        let Some(name) = &subject.node else { return false };
        let of_object = self.world.nodes.values().any(|node| {
            node.key.cluster == subject.key.cluster && node.key.name == *name && node.addresses.contains(&address)
        });
        let of_host_network_pod = self.world.pods.values().any(|pod| {
            pod.key.cluster == subject.key.cluster
                && pod.node.as_ref() == Some(name)
                && pod.host_network
                && pod.lifecycle != Lifecycle::Finished
                && pod.addresses.contains(&address)
        });
        of_object || of_host_network_pod
    }
}

/// Whether a pod is one that policies speak of. A pending pod with an address is; a terminating one still is.
fn is_workload(pod: &Pod) -> bool {
    !pod.addresses.is_empty() && !pod.host_network && pod.lifecycle != Lifecycle::Finished
}

fn is_self_traffic(subject: &Pod, connection: &Connection) -> bool {
    connection.source == connection.destination && subject.addresses.contains(&connection.source)
}
