//! What selectors see: labels with the cluster's key laid over them (docs/semantics.md §2).

use crate::model::{
    CLUSTER_KEY, ClusterId, ClusterLabels, Labels, METADATA_NAME_KEY, Namespace, Operator, Requirement, Selector, Text,
    is_cluster_key,
};

/// The value of the cluster label on a namespace and its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterLabel<'a> {
    /// It exists.
    Is(&'a str),
    /// It does not exist.
    Missing,
    /// Whether it exists depends on a namespace object that is not known.
    Unknown,
}

/// What selectors see of one group of pods.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The cluster.
    pub cluster: &'a ClusterId,
    /// Whether that is the local one.
    pub local: bool,
    /// The name of the namespace.
    pub namespace: &'a Text,
    /// The namespace's own labels; `None`: the object is not known.
    pub namespace_labels: Option<&'a Labels>,
    /// The pods' own labels.
    pub pod_labels: &'a Labels,
    /// The cluster label of both.
    pub cluster_label: ClusterLabel<'a>,
}

/// The cluster label of a namespace of `cluster` and of the pods in it.
pub fn cluster_label<'a>(
    mode: ClusterLabels,
    cluster: &'a ClusterId,
    namespace: Option<&Namespace>,
) -> ClusterLabel<'a> {
    match (mode, namespace) {
        (ClusterLabels::Implicit, _) => ClusterLabel::Is(cluster.as_str()),
        (ClusterLabels::Explicit, None) => ClusterLabel::Unknown,
        (ClusterLabels::Explicit, Some(namespace)) => match namespace.labels.get(CLUSTER_KEY) {
            Some(value) if **value == *cluster.as_str() => ClusterLabel::Is(cluster.as_str()),
            _ => ClusterLabel::Missing,
        },
    }
}

impl View<'_> {
    /// Whether the selector matches the namespace; not when its labels are not known.
    pub fn namespace_matches(&self, selector: &Selector) -> bool {
        let Some(labels) = self.namespace_labels else { return false };
        selector.requirements.iter().all(|requirement| match &*requirement.key {
            METADATA_NAME_KEY => holds(requirement, Some(self.namespace)),
            key if is_cluster_key(key) => self.cluster_holds(requirement),
            key => holds(requirement, labels.get(key).map(|value| &**value)),
        })
    }

    /// Whether the selector matches the pods; not when it asks for a cluster label that is not known.
    pub fn pods_match(&self, selector: &Selector) -> bool {
        selector.requirements.iter().all(|requirement| {
            if is_cluster_key(&requirement.key) {
                self.cluster_holds(requirement)
            } else {
                holds(requirement, self.pod_labels.get(&requirement.key).map(|value| &**value))
            }
        })
    }

    /// Whether the selector of a policy's subject matches the pods; `None`: it would, but for a cluster label that is
    /// not known.
    pub fn subject_matches(&self, selector: &Selector) -> Option<bool> {
        let unknown = |requirement: &&Requirement| {
            self.cluster_label == ClusterLabel::Unknown && is_cluster_key(&requirement.key)
        };
        let known = selector.requirements.iter().filter(|requirement| !unknown(requirement)).cloned().collect();
        if !self.pods_match(&Selector { requirements: known }) {
            return Some(false);
        }
        if selector.requirements.iter().any(|requirement| unknown(&requirement)) { None } else { Some(true) }
    }

    fn cluster_holds(&self, requirement: &Requirement) -> bool {
        match self.cluster_label {
            ClusterLabel::Is(id) => holds(requirement, Some(id)),
            ClusterLabel::Missing => holds(requirement, None),
            ClusterLabel::Unknown => false,
        }
    }
}

fn holds(requirement: &Requirement, value: Option<&str>) -> bool {
    let one_of = |values: &[Text]| value.is_some_and(|value| values.iter().any(|candidate| **candidate == *value));
    match &requirement.operator {
        Operator::In(values) => one_of(values),
        Operator::NotIn(values) => !one_of(values),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
    }
}
