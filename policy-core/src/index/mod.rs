//! The cluster index: every object of every member, pods grouped by what selectors can tell apart.

mod claims;
mod labels;
mod ports;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;

pub use claims::{Claim, Claims, admissible};
pub use labels::{ClusterLabel, View, cluster_label};
pub use ports::NamedPorts;

use crate::model::{ClusterConfig, ClusterId, Labels, Namespace, NamespaceKey, Pod, PodKey, Text};

/// A pod's number inside the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodIndex(u32);

/// The number of a group: all pods that no selector and no port name can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// What makes a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// The cluster and the namespace.
    pub namespace: NamespaceKey,
    /// The labels that the pods carry.
    pub labels: Arc<Labels>,
    /// The ports that they name.
    pub ports: NamedPorts,
}

/// A group.
#[derive(Debug)]
pub struct Group {
    /// What makes it.
    pub key: GroupKey,
    /// Its pods.
    pub pods: BTreeSet<PodIndex>,
}

/// A pod as the index holds it.
#[derive(Debug)]
pub struct PodEntry {
    /// The pod.
    pub pod: Pod,
    /// Its group, if it is a workload.
    pub group: Option<GroupId>,
}

/// What a change of one pod moved.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PodChange {
    /// Addresses whose owner may be another one now, or of another group.
    pub addresses: Vec<IpAddr>,
    /// A group that did not exist before.
    pub born: Option<GroupId>,
    /// A group that has no pod any more.
    pub died: Option<GroupId>,
}

/// All objects, and the indices over them.
#[derive(Debug)]
pub struct ClusterIndex {
    config: ClusterConfig,
    namespaces: HashMap<NamespaceKey, Namespace>,
    pods: Slots<PodEntry>,
    pod_numbers: HashMap<PodKey, PodIndex>,
    groups: Slots<Group>,
    group_numbers: HashMap<GroupKey, GroupId>,
    groups_by_namespace: HashMap<NamespaceKey, RoaringBitmap>,
    namespaces_by_name: HashMap<Text, BTreeSet<NamespaceKey>>,
    groups_by_label: HashMap<(Text, Text), RoaringBitmap>,
    claims: Claims,
    outside: BTreeSet<(IpAddr, PodKey)>,
}

/// Values by reusable number.
#[derive(Debug)]
struct Slots<T> {
    values: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    const EMPTY: Self = Self { values: Vec::new(), free: Vec::new() };

    fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.values[number as usize] = Some(value);
            return number;
        }
        self.values.push(Some(value));
        u32::try_from(self.values.len() - 1).expect("fewer than 2^32 pods fit into memory")
    }

    fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.values.get_mut(number as usize)?.take();
        self.free.push(number);
        value
    }

    fn get(&self, number: u32) -> Option<&T> {
        self.values.get(number as usize)?.as_ref()
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.values.get_mut(number as usize)?.as_mut()
    }
}

impl ClusterIndex {
    /// An empty index of a ClusterSet.
    pub fn new(config: ClusterConfig) -> Self {
        Self {
            config,
            namespaces: HashMap::new(),
            pods: Slots::EMPTY,
            pod_numbers: HashMap::new(),
            groups: Slots::EMPTY,
            group_numbers: HashMap::new(),
            groups_by_namespace: HashMap::new(),
            namespaces_by_name: HashMap::new(),
            groups_by_label: HashMap::new(),
            claims: Claims::default(),
            outside: BTreeSet::new(),
        }
    }

    /// The ClusterSet.
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// Whether `cluster` is the local one.
    pub fn is_local(&self, cluster: &ClusterId) -> bool {
        self.config.local == *cluster
    }

    /// A namespace object.
    pub fn namespace(&self, key: &NamespaceKey) -> Option<&Namespace> {
        self.namespaces.get(key)
    }

    /// All namespace objects.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.values()
    }

    /// A pod by its name.
    pub fn pod(&self, key: &PodKey) -> Option<&PodEntry> {
        self.entry(*self.pod_numbers.get(key)?)
    }

    /// A pod by its number.
    pub fn entry(&self, number: PodIndex) -> Option<&PodEntry> {
        self.pods.get(number.0)
    }

    /// All pods.
    pub fn pods(&self) -> impl Iterator<Item = &PodEntry> {
        self.pods.values.iter().flatten()
    }

    /// A group.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id.0)
    }

    /// All groups, by number.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        let numbered = (0..).zip(&self.groups.values);
        numbered.filter_map(|(number, group)| Some((GroupId(number), group.as_ref()?)))
    }

    /// The groups of a namespace.
    pub fn groups_of(&self, namespace: &NamespaceKey) -> Option<&RoaringBitmap> {
        self.groups_by_namespace.get(namespace)
    }

    /// The namespaces that have groups and this name, in all clusters.
    pub fn namespaces_named(&self, name: &str) -> impl Iterator<Item = &NamespaceKey> {
        self.namespaces_by_name.get(name).into_iter().flatten()
    }

    /// All namespaces that have groups.
    pub fn populated_namespaces(&self) -> impl Iterator<Item = &NamespaceKey> {
        self.groups_by_namespace.keys()
    }

    /// The groups whose pods carry a label.
    pub fn groups_labelled(&self, key: &Text, value: &Text) -> Option<&RoaringBitmap> {
        self.groups_by_label.get(&(key.clone(), value.clone()))
    }

    /// The groups by each label that pods carry.
    pub fn groups_by_label(&self) -> impl Iterator<Item = (&str, &RoaringBitmap)> {
        self.groups_by_label.iter().map(|((key, _), groups)| (&**key, groups))
    }

    /// What selectors see of a group.
    pub fn view<'a>(&'a self, key: &'a GroupKey) -> View<'a> {
        self.view_of(&key.namespace, &key.labels)
    }

    /// What selectors see of pods with these labels in this namespace.
    pub fn view_of<'a>(&'a self, namespace: &'a NamespaceKey, labels: &'a Labels) -> View<'a> {
        let object = self.namespaces.get(namespace);
        View {
            cluster: &namespace.cluster,
            local: self.is_local(&namespace.cluster),
            namespace: &namespace.name,
            namespace_labels: object.map(|object| &object.labels),
            pod_labels: labels,
            cluster_label: cluster_label(self.config.cluster_labels, &namespace.cluster, object),
        }
    }

    /// The pod whose an address is, if it is anybody's.
    pub fn owner(&self, address: IpAddr) -> Option<&PodEntry> {
        self.entry(claims::owner(&self.config.local, self.claims.of(address))?)
    }

    /// The pods that claim an address.
    pub fn claimants(&self, address: IpAddr) -> impl Iterator<Item = &PodEntry> {
        self.claims.of(address).iter().filter_map(|claim| self.entry(claim.pod))
    }

    /// The pod that somebody means who names an address: its owner, or, where every pod that has it has it against the
    /// podCIDRs, the one that would own it without them. No selector finds that one by the address.
    pub fn named_by(&self, address: IpAddr) -> Option<&PodEntry> {
        if !self.claims.of(address).is_empty() {
            return self.owner(address);
        }
        let refused = self.outside.iter().filter(|(outside, _)| *outside == address);
        let claims: Vec<Claim> = refused
            .filter_map(|(_, key)| {
                let number = *self.pod_numbers.get(key)?;
                Some(Claim::new(number, &self.entry(number)?.pod))
            })
            .collect();
        self.entry(claims::owner(&self.config.local, &claims)?)
    }

    /// The addresses that several pods claim, with their claims, in order.
    pub fn contested(&self) -> impl Iterator<Item = (IpAddr, &[Claim])> {
        self.claims.contested()
    }

    /// The addresses that lie outside the ranges of their cluster, with the pods that have them.
    pub fn outside(&self) -> &BTreeSet<(IpAddr, PodKey)> {
        &self.outside
    }

    /// Puts a namespace object in place; returns whether it is another one than before.
    pub fn apply_namespace(&mut self, namespace: &Namespace) -> bool {
        if self.namespaces.get(&namespace.key) == Some(namespace) {
            return false;
        }
        self.namespaces.insert(namespace.key.clone(), namespace.clone());
        true
    }

    /// Forgets a namespace object; returns whether it was known.
    pub fn delete_namespace(&mut self, key: &NamespaceKey) -> bool {
        self.namespaces.remove(key).is_some()
    }

    /// Puts a pod in place; `None`: it is there already, just so.
    pub fn apply_pod(&mut self, pod: &Pod) -> Option<PodChange> {
        if self.pod(&pod.key).is_some_and(|known| known.pod == *pod) {
            return None;
        }
        let mut change = self.remove_pod(&pod.key).unwrap_or_default();
        let number = PodIndex(self.pods.insert(PodEntry { pod: pod.clone(), group: None }));
        self.pod_numbers.insert(pod.key.clone(), number);
        if pod.is_workload() {
            self.add_claims(number, pod, &mut change);
            let (group, born) = self.join_group(number, pod);
            // A pod that leaves its group and comes back to it is no news of the group.
            if born {
                change.born = Some(group);
            }
            if let Some(entry) = self.pods.get_mut(number.0) {
                entry.group = Some(group);
            }
        }
        Some(change)
    }

    /// Forgets a pod if it is still the one with this uid; `None`: it is not known.
    pub fn delete_pod(&mut self, key: &PodKey, uid: &Text) -> Option<PodChange> {
        let known = self.pod(key)?;
        if known.pod.uid != *uid {
            return None;
        }
        self.remove_pod(key)
    }

    fn remove_pod(&mut self, key: &PodKey) -> Option<PodChange> {
        let number = self.pod_numbers.remove(key)?;
        let entry = self.pods.remove(number.0)?;
        let mut change = PodChange::default();
        for &address in &entry.pod.addresses {
            self.claims.remove(address, number);
            self.outside.remove(&(address, key.clone()));
            change.addresses.push(address);
        }
        if let Some(group) = entry.group {
            change.died = self.leave_group(group, number);
        }
        Some(change)
    }

    fn add_claims(&mut self, number: PodIndex, pod: &Pod, change: &mut PodChange) {
        for &address in &pod.addresses {
            if !admissible(&self.config, &pod.key.cluster, address) {
                self.outside.insert((address, pod.key.clone()));
                continue;
            }
            self.claims.add(address, Claim::new(number, pod));
            if !change.addresses.contains(&address) {
                change.addresses.push(address);
            }
        }
    }

    fn join_group(&mut self, number: PodIndex, pod: &Pod) -> (GroupId, bool) {
        let namespace = pod.key.namespace_key();
        let key = GroupKey { namespace, labels: Arc::new(pod.labels.clone()), ports: NamedPorts::of(&pod.ports) };
        if let Some(&id) = self.group_numbers.get(&key) {
            if let Some(group) = self.groups.get_mut(id.0) {
                group.pods.insert(number);
            }
            return (id, false);
        }
        let id = GroupId(self.groups.insert(Group { key: key.clone(), pods: BTreeSet::from([number]) }));
        for (label, value) in key.labels.iter() {
            self.groups_by_label.entry((label.clone(), value.clone())).or_default().insert(id.0);
        }
        self.namespaces_by_name.entry(key.namespace.name.clone()).or_default().insert(key.namespace.clone());
        self.groups_by_namespace.entry(key.namespace.clone()).or_default().insert(id.0);
        self.group_numbers.insert(key, id);
        (id, true)
    }

    /// Takes a pod out of its group; returns the group when that leaves it empty.
    fn leave_group(&mut self, id: GroupId, number: PodIndex) -> Option<GroupId> {
        let group = self.groups.get_mut(id.0)?;
        group.pods.remove(&number);
        if !group.pods.is_empty() {
            return None;
        }
        let Group { key, pods: _ } = self.groups.remove(id.0)?;
        for (label, value) in key.labels.iter() {
            drop_from(&mut self.groups_by_label, &(label.clone(), value.clone()), id);
        }
        if drop_from(&mut self.groups_by_namespace, &key.namespace, id)
            && let Some(namespaces) = self.namespaces_by_name.get_mut(&key.namespace.name)
        {
            namespaces.remove(&key.namespace);
            if namespaces.is_empty() {
                self.namespaces_by_name.remove(&key.namespace.name);
            }
        }
        self.group_numbers.remove(&key);
        Some(id)
    }
}

/// Takes a group out of one posting; returns whether the posting is empty and gone.
fn drop_from<K: Eq + std::hash::Hash>(postings: &mut HashMap<K, RoaringBitmap>, key: &K, id: GroupId) -> bool {
    let Some(posting) = postings.get_mut(key) else { return false };
    posting.remove(id.0);
    let empty = posting.is_empty();
    if empty {
        postings.remove(key);
    }
    empty
}
