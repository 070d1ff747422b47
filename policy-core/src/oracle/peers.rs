//! Which policies select a pod, which peers an address is, and which ports a rule covers.

use std::net::IpAddr;

use super::{Selection, View};
use crate::model::{
    CLUSTER_KEY, CLUSTER_KEY_ALIAS, ClusterId, ClusterLabels, IpBlock, Labels, METADATA_NAME_KEY, Namespace,
    NamespaceKey, NetworkPolicy, Operator, Peer, Pod, Port, PortSelection, Requirement, Scope, ScopeAnnotation,
    Selector, Text, Transport,
};

/// Whether a workload carries the label that names its cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClusterLabel {
    Carried,
    Missing,
    /// The namespace object that would say so is not known.
    Unknown,
}

impl View<'_, '_> {
    /// Whether a policy of the local cluster applies to a pod of it.
    pub(super) fn selection(&self, policy: &NetworkPolicy, pod: &Pod) -> Selection {
        if policy.key.namespace != pod.key.namespace {
            return Selection::NotSelected;
        }
        let labels = self.pod_labels(pod);
        let unknown = |requirement: &&Requirement| {
            is_cluster_key(&requirement.key) && self.cluster_label(pod) == ClusterLabel::Unknown
        };
        let requirements = &policy.subject.requirements;
        if !requirements.iter().filter(|it| !unknown(it)).all(|it| requirement_holds(it, &labels)) {
            Selection::NotSelected
        } else if requirements.iter().any(|it| unknown(&it)) {
            Selection::Unknown
        } else {
            Selection::Selected
        }
    }

    /// Whether a peer of a rule that allows covers an address.
    pub(super) fn peer_matches(&self, policy: &NetworkPolicy, peer: &Peer, address: IpAddr) -> bool {
        match peer {
            Peer::Block(block) => block_contains(block, address),
            Peer::Pods { namespaces, pods } => self
                .owner(address)
                .is_some_and(|workload| self.selectors_match(policy, namespaces.as_ref(), pods.as_ref(), workload)),
        }
    }

    fn selectors_match(
        &self,
        policy: &NetworkPolicy,
        namespaces: Option<&Selector>,
        pods: Option<&Selector>,
        workload: &Pod,
    ) -> bool {
        let is_local = workload.key.cluster == *self.local;
        let is_qualified = [namespaces, pods].into_iter().flatten().any(names_cluster);
        let in_range = if is_qualified {
            match self.cluster_label(workload) {
                ClusterLabel::Carried => true,
                ClusterLabel::Missing => is_local,
                ClusterLabel::Unknown => false,
            }
        } else {
            is_local || self.scope(policy) == Scope::ClusterSet
        };
        let namespace_matches = match namespaces {
            None => workload.key.namespace == policy.key.namespace,
            Some(selector) => self.namespace_labels(workload).is_some_and(|labels| selector_holds(selector, &labels)),
        };
        let pod_matches = pods.is_none_or(|selector| selector_holds(selector, &self.pod_labels(workload)));
        in_range && namespace_matches && pod_matches
    }

    /// What the rules of a policy range over when they do not name a cluster: as the policy says, else its
    /// namespace, else the configuration. A value that is not known means `Local`, for rules that allow.
    fn scope(&self, policy: &NetworkPolicy) -> Scope {
        let namespace = self.namespace(&policy.key.cluster, &policy.key.namespace);
        let annotation = policy.peer_scope.as_ref().or_else(|| namespace?.peer_scope.as_ref());
        match annotation {
            Some(ScopeAnnotation::Known(scope)) => *scope,
            Some(ScopeAnnotation::Unknown(_)) => Scope::Local,
            None => self.config.default_scope,
        }
    }

    fn namespace(&self, cluster: &ClusterId, name: &Text) -> Option<&Namespace> {
        self.world.namespaces.get(&NamespaceKey { cluster: cluster.clone(), name: name.clone() })
    }

    fn cluster_label(&self, pod: &Pod) -> ClusterLabel {
        let namespace = self.namespace(&pod.key.cluster, &pod.key.namespace);
        match (self.config.cluster_labels, namespace) {
            (ClusterLabels::Implicit, _) => ClusterLabel::Carried,
            (ClusterLabels::Explicit, None) => ClusterLabel::Unknown,
            (ClusterLabels::Explicit, Some(namespace)) => match namespace.labels.get(CLUSTER_KEY) {
                Some(value) if **value == *pod.key.cluster.as_str() => ClusterLabel::Carried,
                _ => ClusterLabel::Missing,
            },
        }
    }

    /// The labels that selectors see on a pod.
    fn pod_labels(&self, pod: &Pod) -> Labels {
        self.with_cluster_label(pod, &pod.labels)
    }

    /// The labels that selectors see on a pod's namespace; `None`: the object is not known, so no label of it is.
    fn namespace_labels(&self, pod: &Pod) -> Option<Labels> {
        let namespace = self.namespace(&pod.key.cluster, &pod.key.namespace)?;
        let mut labels = self.with_cluster_label(pod, &namespace.labels);
        labels.insert(METADATA_NAME_KEY.into(), namespace.key.name.clone());
        Some(labels)
    }

    /// What an object says of its cluster gives way to what the join record says.
    fn with_cluster_label(&self, pod: &Pod, written: &Labels) -> Labels {
        let mut labels = written.clone();
        for key in [CLUSTER_KEY, CLUSTER_KEY_ALIAS] {
            labels.remove(key);
            if self.cluster_label(pod) == ClusterLabel::Carried {
                labels.insert(key.into(), pod.key.cluster.as_str().into());
            }
        }
        labels
    }
}

/// Whether a port of a rule covers what is asked of a destination; `None`: the destination is no workload.
pub(super) fn port_matches(port: &Port, transport: Transport, destination: Option<&Pod>) -> bool {
    let Transport::Port(protocol, number) = transport else { return false };
    let number_matches = match &port.selection {
        PortSelection::All => true,
        PortSelection::Range(first, last) => *first <= number && number <= *last,
        PortSelection::Named(name) => {
            let meant = destination.and_then(|pod| {
                pod.ports.iter().find(|declared| declared.name.as_ref() == Some(name) && declared.protocol == protocol)
            });
            meant.is_some_and(|declared| declared.number == number)
        }
    };
    port.protocol == protocol && number_matches
}

fn block_contains(block: &IpBlock, address: IpAddr) -> bool {
    block.cidr.contains(&address) && !block.except.iter().any(|hole| hole.contains(&address))
}

fn selector_holds(selector: &Selector, labels: &Labels) -> bool {
    selector.requirements.iter().all(|requirement| requirement_holds(requirement, labels))
}

fn requirement_holds(requirement: &Requirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    match &requirement.operator {
        Operator::In(any_of) => value.is_some_and(|value| any_of.contains(value)),
        Operator::NotIn(none_of) => value.is_none_or(|value| !none_of.contains(value)),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
    }
}

fn names_cluster(selector: &Selector) -> bool {
    selector.requirements.iter().any(|requirement| is_cluster_key(&requirement.key))
}

fn is_cluster_key(key: &str) -> bool {
    key == CLUSTER_KEY || key == CLUSTER_KEY_ALIAS
}
