//! Groups: pods that no selector and no port name can tell apart.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use roaring::RoaringBitmap;

use super::pods::PodIndex;
use super::ports::NamedPorts;
use super::posting::Posting;
use super::slots::Slots;
use super::texts::Texts;
use crate::model::{ContainerPort, Labels, NamespaceKey, Pod, Text};
use crate::shelves::take_from;

/// The number of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// What makes a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// The cluster and the namespace.
    pub namespace: NamespaceKey,
    /// The labels that the pods carry.
    pub labels: Labels,
    /// The ports that they declare.
    pub ports: Arc<[ContainerPort]>,
}

impl GroupKey {
    /// The ports by name.
    pub fn named_ports(&self) -> NamedPorts<'_> {
        NamedPorts::of(&self.ports)
    }
}

/// A group.
#[derive(Debug)]
pub struct Group {
    /// What makes it.
    pub key: GroupKey,
    /// Its pods: workloads all.
    pub pods: BTreeSet<PodIndex>,
    /// How many pods that are no workloads look like them.
    idle: u32,
    /// How the names of its pods begin.
    pub(super) stem: Box<str>,
}

/// All groups, and what finds those that a selector matches; there only such that have pods are found.
#[derive(Debug, Default)]
pub struct Groups {
    groups: Slots<Group>,
    numbers: HashTable<GroupId>,
    hasher: DefaultHashBuilder,
    /// The one that was asked for last: listings name the pods of a Deployment one after the other.
    last: Option<GroupId>,
    texts: Texts,
    by_namespace: HashMap<NamespaceKey, RoaringBitmap>,
    namespaces_by_name: HashMap<Text, BTreeSet<NamespaceKey>>,
    by_label: HashMap<(Text, Text), Posting>,
}

/// A pod's share in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// It is one of its pods.
    Workload(PodIndex),
    /// It only looks like them.
    Idle,
}

impl Groups {
    /// A group.
    pub fn get(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id.0)
    }

    /// All that have pods, by number.
    pub fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        let numbered = self.groups.iter().map(|(number, group)| (GroupId(number), group));
        numbered.filter(|(_, group)| !group.pods.is_empty())
    }

    /// Those of a namespace.
    pub fn of_namespace(&self, namespace: &NamespaceKey) -> Option<&RoaringBitmap> {
        self.by_namespace.get(namespace)
    }

    /// The namespaces that have groups and this name, in all clusters.
    pub fn namespaces_named(&self, name: &str) -> impl Iterator<Item = &NamespaceKey> {
        self.namespaces_by_name.get(name).into_iter().flatten()
    }

    /// All namespaces that have groups.
    pub fn namespaces(&self) -> impl Iterator<Item = &NamespaceKey> {
        self.by_namespace.keys()
    }

    /// Those whose pods carry a label.
    pub fn labelled(&self, key: &Text, value: &Text) -> Option<&Posting> {
        self.by_label.get(&(key.clone(), value.clone()))
    }

    /// Those of each label that pods carry.
    pub fn by_label(&self) -> impl Iterator<Item = (&str, &Posting)> {
        self.by_label.iter().map(|((key, _), groups)| (&**key, groups))
    }

    /// The group of pods like this one, which may have no pod yet.
    pub fn of(&mut self, pod: &Pod) -> GroupId {
        if let Some(id) = self.last.filter(|id| self.is_of(*id, pod)) {
            return id;
        }
        let id = self.find_or_make(pod);
        self.last = Some(id);
        id
    }

    /// Whether a group is the one of pods like this one. What tells Deployments apart stands in their labels.
    fn is_of(&self, id: GroupId, pod: &Pod) -> bool {
        self.groups.get(id.0).is_some_and(|Group { key, .. }| {
            key.labels == pod.labels
                && key.namespace.name == pod.key.namespace
                && key.namespace.cluster == pod.key.cluster
                && *key.ports == *pod.ports
        })
    }

    fn find_or_make(&mut self, pod: &Pod) -> GroupId {
        let (cluster, namespace) = (&pod.key.cluster, &pod.key.namespace);
        let hash = hash(&self.hasher, cluster.as_str(), namespace, &pod.labels, &pod.ports);
        if let Some(id) = self.numbers.find(hash, |id| self.is_of(*id, pod)) {
            return *id;
        }
        let texts = &mut self.texts;
        let key = GroupKey {
            namespace: NamespaceKey { cluster: cluster.clone(), name: texts.share(namespace) },
            labels: texts.share_labels(&pod.labels),
            ports: texts.share_ports(&pod.ports),
        };
        let stem = pod.key.name.rfind('-').map_or("", |dash| &pod.key.name[..=dash]);
        let id = GroupId(self.groups.insert(Group { key, pods: BTreeSet::new(), idle: 0, stem: stem.into() }));
        let (groups, hasher) = (&self.groups, &self.hasher);
        self.numbers.insert_unique(hash, id, |id| groups.get(id.0).map_or(0, |group| hash_of(hasher, &group.key)));
        id
    }

    /// A pod joins a group; returns whether it is its first workload.
    pub fn join(&mut self, id: GroupId, share: Share) -> bool {
        let Some(group) = self.groups.get_mut(id.0) else { return false };
        let Share::Workload(pod) = share else {
            group.idle += 1;
            return false;
        };
        group.pods.insert(pod);
        if group.pods.len() > 1 {
            return false;
        }
        let key = &group.key;
        for (label, value) in &key.labels {
            let posting = self.by_label.entry((label.clone(), value.clone()));
            posting.and_modify(|posting| posting.insert(id)).or_insert(Posting::One(id));
        }
        self.namespaces_by_name.entry(key.namespace.name.clone()).or_default().insert(key.namespace.clone());
        self.by_namespace.entry(key.namespace.clone()).or_default().insert(id.0);
        true
    }

    /// A pod leaves its group; returns whether it was its last workload.
    pub fn leave(&mut self, id: GroupId, share: Share) -> bool {
        let Some(group) = self.groups.get_mut(id.0) else { return false };
        let was_last = match share {
            Share::Workload(pod) => group.pods.remove(&pod) && group.pods.is_empty(),
            Share::Idle => {
                group.idle -= 1;
                false
            }
        };
        if was_last {
            self.unlist(id);
        }
        if self.groups.get(id.0).is_some_and(|group| group.pods.is_empty() && group.idle == 0) {
            self.forget(id);
        }
        was_last
    }

    fn unlist(&mut self, id: GroupId) {
        let Some(Group { key, .. }) = self.groups.get(id.0) else { return };
        for (label, value) in &key.labels {
            let label = (label.clone(), value.clone());
            if self.by_label.get_mut(&label).is_some_and(|posting| posting.remove(id)) {
                self.by_label.remove(&label);
            }
        }
        if let Some(groups) = self.by_namespace.get_mut(&key.namespace)
            && groups.remove(id.0)
            && groups.is_empty()
            && self.by_namespace.remove(&key.namespace).is_some()
        {
            take_from(&mut self.namespaces_by_name, &key.namespace.name, &key.namespace);
        }
    }

    fn forget(&mut self, id: GroupId) {
        let Some(Group { key, .. }) = self.groups.remove(id.0) else { return };
        if let Ok(entry) = self.numbers.find_entry(hash_of(&self.hasher, &key), |number| *number == id) {
            entry.remove();
        }
        let GroupKey { namespace: NamespaceKey { cluster: _, name }, labels, ports } = key;
        self.texts.release_labels(labels);
        self.texts.release_ports(ports);
        self.texts.release([name].into());
    }
}

fn hash_of(hasher: &DefaultHashBuilder, key: &GroupKey) -> u64 {
    hash(hasher, key.namespace.cluster.as_str(), &key.namespace.name, &key.labels, &key.ports)
}

fn hash(hasher: &DefaultHashBuilder, cluster: &str, namespace: &str, labels: &Labels, ports: &[ContainerPort]) -> u64 {
    hasher.hash_one((cluster, namespace, labels, ports))
}
