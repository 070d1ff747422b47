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

/// An object's labels, by key: a short sorted list, since most objects have few and there are very many objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Box<[(Text, Text)]>);

impl Labels {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&Text> {
        self.place(key).ok().map(|place| &self.0[place].1)
    }

    /// All labels, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Text, &Text)> {
        self.into_iter()
    }

    /// Sets a label.
    pub fn insert(&mut self, key: Text, value: Text) {
        match self.place(&key) {
            Ok(place) => self.0[place].1 = value,
            Err(place) => self.edit(|labels| labels.insert(place, (key, value))),
        }
    }

    /// Takes a label away.
    pub fn remove(&mut self, key: &str) {
        if let Ok(place) = self.place(key) {
            self.edit(|labels| drop(labels.remove(place)));
        }
    }

    fn place(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(key))
    }

    fn edit(&mut self, change: impl FnOnce(&mut Vec<(Text, Text)>)) {
        let mut labels = std::mem::take(&mut self.0).into_vec();
        change(&mut labels);
        self.0 = labels.into_boxed_slice();
    }
}

/// Of a key that stands twice the last one counts.
impl FromIterator<(Text, Text)> for Labels {
    fn from_iter<I: IntoIterator<Item = (Text, Text)>>(labels: I) -> Self {
        Self(labels.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a Text, &'a Text);
    type IntoIter = std::iter::Map<std::slice::Iter<'a, (Text, Text)>, fn(&'a (Text, Text)) -> (&'a Text, &'a Text)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(key, value)| (key, value))
    }
}

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
