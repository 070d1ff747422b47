//! Labels and the selectors over them.

use std::collections::BTreeMap;

use super::Text;

/// The label that names a workload's cluster.
pub const CLUSTER_KEY: &str = "cluster.clusterset.k8s.io";
/// Cilium's name of the same label.
pub const CLUSTER_KEY_ALIAS: &str = "io.cilium.k8s.policy.cluster";
/// The label that always holds a namespace's name.
pub const METADATA_NAME_KEY: &str = "kubernetes.io/metadata.name";

/// Whether `key` is the cluster label or its alias.
pub fn is_cluster_key(key: &str) -> bool {
    key == CLUSTER_KEY || key == CLUSTER_KEY_ALIAS
}

/// An object's labels.
pub type Labels = BTreeMap<Text, Text>;

/// A label selector; empty selects everything. Values are known to be readable.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// All must hold.
    pub requirements: Vec<Requirement>,
}

/// One condition on one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: Text,
    /// What must hold of it.
    pub operator: Operator,
}

/// What a requirement asks of its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// The key exists and has one of these values (`matchLabels` is this with one value).
    In(Vec<Text>),
    /// The key does not exist, or has none of these values.
    NotIn(Vec<Text>),
    /// The key exists.
    Exists,
    /// The key does not exist.
    DoesNotExist,
}

impl Selector {
    /// Whether a requirement names the cluster label or its alias.
    pub fn names_cluster(&self) -> bool {
        self.requirements.iter().any(|requirement| is_cluster_key(&requirement.key))
    }
}
