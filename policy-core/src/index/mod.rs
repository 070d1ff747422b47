//! The cluster index: every object of every member, pods grouped by what selectors can tell apart.

mod claims;
mod groups;
mod labels;
mod names;
mod numbers;
mod pods;
mod ports;
mod posting;
mod services;
mod slots;
mod texts;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use smallvec::SmallVec;

pub use claims::admissible;
pub use groups::{Group, GroupId, GroupKey};
pub use labels::{ClusterLabel, View, cluster_label};
pub use pods::{Addresses, Note, PodEntry, PodIndex};
pub use ports::NamedPorts;
pub use posting::Posting;
pub use services::{ServiceEntry, Services, Target};

use crate::model::{
    ClusterConfig, ClusterId, Event, Labels, Listing, Member, Namespace, NamespaceKey, Pod, PodKey, Text,
};
use claims::Claims;
use pods::{GroupChange, Pods};

/// What a change of one pod moved.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PodChange {
    /// Addresses whose owner may be another one now, or of another group.
    pub addresses: Addresses,
    /// What was noted of addresses with the pod as it was before.
    pub notes: SmallVec<[(IpAddr, NonZeroU32); 2]>,
    /// A group that did not exist before.
    pub born: Option<GroupId>,
    /// A group that has no pod any more.
    pub died: Option<GroupId>,
}

/// All objects, and the indices over them.
#[derive(Debug)]
pub struct ClusterIndex {
    config: ClusterConfig,
    /// The places of members in `config`.
    members: HashMap<ClusterId, usize>,
    namespaces: HashMap<NamespaceKey, Namespace>,
    pods: Pods,
    claims: Claims,
    outside: BTreeSet<(IpAddr, PodKey)>,
    services: Services,
}

impl ClusterIndex {
    /// An empty index of a ClusterSet.
    pub fn new(config: ClusterConfig) -> Self {
        let mut members = HashMap::new();
        for (place, member) in config.members.iter().enumerate() {
            members.entry(member.id.clone()).or_insert(place);
        }
        Self {
            config,
            members,
            namespaces: HashMap::new(),
            pods: Pods::default(),
            claims: Claims::default(),
            outside: BTreeSet::new(),
            services: Services::default(),
        }
    }

    /// The ClusterSet.
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// The join record of a cluster, as [`ClusterConfig::member`] has it: there may be thousands.
    pub fn member(&self, cluster: &ClusterId) -> Option<&Member> {
        self.members.get(cluster).and_then(|place| self.config.members.get(*place))
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
    pub fn pod(&self, key: &PodKey) -> Option<PodEntry<'_>> {
        self.pods.find(key)
    }

    /// A pod by its number.
    pub fn entry(&self, number: PodIndex) -> Option<PodEntry<'_>> {
        self.pods.get(number)
    }

    /// All pods.
    pub fn pods(&self) -> impl Iterator<Item = PodEntry<'_>> {
        self.pods.iter()
    }

    /// The pods of a group.
    pub fn pods_of(&self, group: GroupId) -> impl Iterator<Item = PodEntry<'_>> {
        let pods = self.group(group).into_iter().flat_map(|group| &group.pods);
        pods.filter_map(|number| self.entry(*number))
    }

    /// A group.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.pods.groups().get(id)
    }

    /// All groups, by number.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.pods.groups().iter()
    }

    /// The groups of a namespace.
    pub fn groups_of(&self, namespace: &NamespaceKey) -> Option<&RoaringBitmap> {
        self.pods.groups().of_namespace(namespace)
    }

    /// The namespaces that have groups and this name, in all clusters.
    pub fn namespaces_named(&self, name: &str) -> impl Iterator<Item = &NamespaceKey> {
        self.pods.groups().namespaces_named(name)
    }

    /// All namespaces that have groups.
    pub fn populated_namespaces(&self) -> impl Iterator<Item = &NamespaceKey> {
        self.pods.groups().namespaces()
    }

    /// The groups whose pods carry a label.
    pub fn groups_labelled(&self, key: &Text, value: &Text) -> Option<&Posting> {
        self.pods.groups().labelled(key, value)
    }

    /// The groups by each label that pods carry.
    pub fn groups_by_label(&self) -> impl Iterator<Item = (&str, &Posting)> {
        self.pods.groups().by_label()
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
    pub fn owner(&self, address: IpAddr) -> Option<PodEntry<'_>> {
        claims::owner(&self.config.local, self.claimants(address))
    }

    /// The pods that claim an address.
    pub fn claimants(&self, address: IpAddr) -> impl Iterator<Item = PodEntry<'_>> {
        self.claims.of(address, &self.pods).iter().filter_map(|number| self.entry(*number))
    }

    /// The pod that somebody means who names an address: its owner, or, where every pod that has it has it against the
    /// podCIDRs, the one that would own it without them. No selector finds that one by the address.
    pub fn named_by(&self, address: IpAddr) -> Option<PodEntry<'_>> {
        if !self.claims.of(address, &self.pods).is_empty() {
            return self.owner(address);
        }
        let refused = self.outside.iter().filter(|(outside, _)| *outside == address);
        claims::owner(&self.config.local, refused.filter_map(|(_, key)| self.pod(key)))
    }

    /// What is noted of an address, with whomever of its claimants.
    pub fn note(&self, address: IpAddr) -> Note {
        self.claimants(address).find_map(|claimant| claimant.note(address))
    }

    /// All addresses of which something is noted.
    pub fn notes(&self) -> impl Iterator<Item = (IpAddr, NonZeroU32)> {
        self.pods().flat_map(|entry| {
            let noted = move |address| Some((address, entry.note(address)?));
            entry.addresses().into_iter().filter_map(noted)
        })
    }

    /// Notes something of an address with its owner, and with nobody else; returns the note before. Of an address without
    /// an owner nothing is noted.
    pub fn set_note(&mut self, address: IpAddr, note: Note) -> Note {
        let is_v4 = address.is_ipv4();
        if let [alone] = *self.claims.of(address, &self.pods) {
            return self.pods.set_note(alone, is_v4, note);
        }
        let owner = self.owner(address).map(PodEntry::number);
        let claimants: SmallVec<[PodIndex; 4]> = self.claims.of(address, &self.pods).into();
        let before = claimants.into_iter().filter_map(|claimant| self.pods.set_note(claimant, is_v4, None)).last();
        if let Some(owner) = owner {
            self.pods.set_note(owner, is_v4, note);
        }
        before
    }

    /// Notes something of an address of a pod that alone claims it; returns the note before.
    pub fn set_note_of(&mut self, pod: PodIndex, address: IpAddr, note: Note) -> Note {
        self.pods.set_note(pod, address.is_ipv4(), note)
    }

    /// The addresses of a group's pods, with each the pod if it alone claims it.
    pub fn addresses_of(&self, group: GroupId) -> impl Iterator<Item = (IpAddr, Option<PodIndex>)> {
        let claims_alone = |address: &IpAddr, entry: PodEntry<'_>| {
            !self.claims.is_contested(address)
                && (self.outside.is_empty() || !self.outside.contains(&(*address, entry.key())))
        };
        self.pods_of(group).flat_map(move |entry| {
            let addresses = entry.addresses().into_iter();
            addresses.map(move |address| (address, claims_alone(&address, entry).then_some(entry.number())))
        })
    }

    /// The addresses that several pods claim, with the pods, in order.
    pub fn contested(&self) -> impl Iterator<Item = (IpAddr, &[PodIndex])> {
        self.claims.contested()
    }

    /// The addresses that lie outside the ranges of their cluster, with the pods that have them.
    pub fn outside(&self) -> &BTreeSet<(IpAddr, PodKey)> {
        &self.outside
    }

    /// The Services of the local cluster.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Takes the Services out of another index of the same local cluster: no ClusterSet says anything of them.
    pub fn take_services(&mut self, other: &mut Self) {
        if self.config.local == other.config.local {
            self.services = std::mem::take(&mut other.services);
        }
    }

    /// Takes in what an event says of Services. Those of other clusters are nobody's here, and nothing is kept of them.
    pub fn hear_of_services(&mut self, event: &Event) {
        match event {
            Event::ServiceApplied(service) if self.is_local(&service.key.cluster) => self.services.apply(service),
            Event::ServiceDeleted(key) if self.is_local(&key.cluster) => self.services.delete(key),
            Event::EndpointSliceApplied(slice) if self.is_local(&slice.key.cluster) => self.services.apply_slice(slice),
            Event::EndpointSliceDeleted(key) if self.is_local(&key.cluster) => self.services.delete_slice(key),
            Event::Relisted(cluster, listing) if self.is_local(cluster) => match listing {
                Listing::Services(keys) => self.services.keep(keys),
                Listing::EndpointSlices(keys) => self.services.keep_slices(cluster, keys),
                _ => {}
            },
            _ => {}
        }
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
        let known = self.pod(&pod.key);
        if known.is_some_and(|known| known.is(pod)) {
            return None;
        }
        let known = known.map(PodEntry::number);
        let mut change = known.map(|number| self.remove_pod(number)).unwrap_or_default();
        let (number, group) = self.pods.insert(pod);
        if pod.is_workload() {
            self.add_claims(number, pod, &mut change);
        }
        // A pod that leaves its group and comes back to it is no news of the group.
        if let GroupChange::Born(group) = group {
            change.born = Some(group);
        }
        Some(change)
    }

    /// Forgets a pod if it is still the one with this uid; `None`: it is not known.
    pub fn delete_pod(&mut self, key: &PodKey, uid: &Text) -> Option<PodChange> {
        let known = self.pod(key).filter(|known| known.uid() == *uid)?.number();
        Some(self.remove_pod(known))
    }

    fn remove_pod(&mut self, number: PodIndex) -> PodChange {
        let mut change = PodChange::default();
        let Some(entry) = self.pods.get(number) else { return change };
        for address in entry.addresses() {
            self.claims.remove(address, number, &self.pods);
            if !self.outside.is_empty() {
                self.outside.remove(&(address, entry.key()));
            }
            change.addresses.push(address);
            change.notes.extend(entry.note(address).map(|note| (address, note)));
        }
        if let GroupChange::Died(group) = self.pods.remove(number) {
            change.died = Some(group);
        }
        change
    }

    fn add_claims(&mut self, number: PodIndex, pod: &Pod, change: &mut PodChange) {
        for &address in &pod.addresses {
            let member = self.member(&pod.key.cluster);
            if !member.is_some_and(|member| claims::admits(&self.config, member, address)) {
                self.outside.insert((address, pod.key.clone()));
                continue;
            }
            self.claims.add(address, number, &self.pods);
            if !change.addresses.contains(&address) {
                change.addresses.push(address);
            }
        }
    }
}
