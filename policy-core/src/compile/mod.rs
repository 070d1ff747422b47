//! Who may talk: from the cluster index and the local policies to identities, policies and their rows, kept up to date
//! by touching only what a change can touch.

mod blocks;
mod content;
mod dirty;
mod flatten;
mod relist;
mod rows;
mod settle;
mod subjects;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU32;

use hashbrown::HashMap;
use ipnet::IpNet;
use policy_common::table::IDENTITY_WORLD;

pub use blocks::prefix_of;
pub use content::{RulePlace, facet_of};
pub use dirty::Dirty;
pub use flatten::{PortRange, PortTable, RuleId};
pub use rows::Rows;
pub use subjects::{SubjectPolicies, Subjects, scope};

use crate::facet::{FacetId, FacetTable, Signature};
use crate::index::{ClusterIndex, GroupId, Note, PodChange, PodEntry};
use crate::intern::Interner;
use crate::model::{ClusterConfig, ClusterId, Event, Listing, NamespaceKey, NetworkPolicy, PodKey, PolicyKey, Text};
use crate::shelves::take_from;
use blocks::BlockTable;
use subjects::SubjectTable;

/// The number of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub u32);

/// The number of a flattened policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(pub u32);

impl Identity {
    /// Nobody, the world.
    pub const WORLD: Self = Self(IDENTITY_WORLD);

    fn noted(note: NonZeroU32) -> Self {
        Self(note.get())
    }

    /// As it is noted of an address; the world is no address's own.
    fn note(self) -> Note {
        NonZeroU32::new(self.0)
    }
}

const _: () = assert!(IDENTITY_WORLD == 0, "a note of zero is none");

/// What a batch of events has touched so far.
#[derive(Debug, Default)]
struct Touched {
    addresses: Vec<IpAddr>,
    /// The identities that addresses had with pods that are gone, or were put in place anew.
    left: HashMap<IpAddr, NonZeroU32>,
    groups: BTreeSet<GroupId>,
    subjects: BTreeSet<PodKey>,
    blocks: bool,
}

/// The compiler and everything it knows.
#[derive(Debug)]
pub struct Compiler {
    index: ClusterIndex,
    policies: BTreeMap<PolicyKey, NetworkPolicy>,
    policies_by_namespace: HashMap<NamespaceKey, BTreeSet<PolicyKey>>,
    subjects: SubjectTable,
    facets: FacetTable,
    blocks: BlockTable,
    identities: Interner<Signature>,
    prefixes: BTreeMap<IpNet, Identity>,
    rows: Rows,
    dirty: Dirty,
}

impl Compiler {
    /// A compiler for the endpoints that `subjects` names, before any event.
    pub fn new(config: ClusterConfig, subjects: Subjects) -> Self {
        Self {
            index: ClusterIndex::new(config),
            policies: BTreeMap::new(),
            policies_by_namespace: HashMap::new(),
            subjects: SubjectTable::new(subjects),
            facets: FacetTable::default(),
            blocks: BlockTable::default(),
            identities: Interner::starting_at(IDENTITY_WORLD + 1),
            prefixes: BTreeMap::new(),
            rows: Rows::default(),
            dirty: Dirty::default(),
        }
    }

    /// From now on numbers what is new beyond these: what other tables hold keeps its meaning.
    pub fn skip_numbers(&mut self, identities: u32, policies: u32, port_tables: u32, rules: u32) {
        self.identities.skip_to(identities + 1);
        self.rows.skip_numbers(policies, port_tables, rules);
    }

    /// The objects.
    pub fn index(&self) -> &ClusterIndex {
        &self.index
    }

    /// The policies of the local cluster, by name.
    pub fn policies(&self) -> impl Iterator<Item = &NetworkPolicy> {
        self.policies.values().filter(|policy| self.index.is_local(&policy.key.cluster))
    }

    /// A policy by its name.
    pub fn policy(&self, key: &PolicyKey) -> Option<&NetworkPolicy> {
        self.policies.get(key)
    }

    /// A pod by its name.
    pub fn pod(&self, key: &PodKey) -> Option<PodEntry<'_>> {
        self.index.pod(key)
    }

    /// The subjects with their policies, by name.
    pub fn subjects(&self) -> &BTreeMap<PodKey, SubjectPolicies> {
        self.subjects.all()
    }

    /// The identity of an exact address, if it has an entry of its own.
    pub fn address(&self, address: IpAddr) -> Option<Identity> {
        self.index.note(address).map(Identity::noted)
    }

    /// All exact addresses.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, Identity)> {
        self.index.notes().map(|(address, note)| (address, Identity::noted(note)))
    }

    /// All prefixes, a longer one after those around it.
    pub fn prefixes(&self) -> &BTreeMap<IpNet, Identity> {
        &self.prefixes
    }

    /// The facets behind an identity.
    pub fn signature(&self, identity: Identity) -> Option<&[FacetId]> {
        self.identities.get(identity.0).map(|signature| signature.as_slice())
    }

    /// How many identities are in use, the world not counted.
    pub fn identity_count(&self) -> usize {
        self.identities.len()
    }

    /// The live facets.
    pub fn facets(&self) -> &FacetTable {
        &self.facets
    }

    /// The rows of the live policies.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// What has changed since it was last taken.
    pub fn dirty(&self) -> &Dirty {
        &self.dirty
    }

    /// What has changed since this was last asked: each address once, in order.
    pub fn take_dirty(&mut self) -> Dirty {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.settle();
        dirty
    }

    /// Gives back what could not be carried out, so that it is tried again with the next change.
    pub fn put_back(&mut self, dirty: Dirty) {
        self.dirty.extend(dirty);
    }

    /// Takes a batch of events as one step.
    pub fn apply<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) {
        let mut touched = Touched::default();
        for event in events {
            self.take_in(event, &mut touched);
        }
        self.settle(touched);
    }

    fn take_in(&mut self, event: &Event, touched: &mut Touched) {
        match event {
            Event::Configured(config) => self.configure(config, touched),
            Event::Synced(_) | Event::NodeApplied(_) | Event::NodeDeleted(_) => {}
            Event::Relisted(_, Listing::Services(_) | Listing::EndpointSlices(_)) => self.index.hear_of_services(event),
            Event::Relisted(cluster, listing) => self.keep_only(cluster, listing, touched),
            Event::NamespaceApplied(namespace) => {
                if self.is_member(&namespace.key.cluster) && self.index.apply_namespace(namespace) {
                    self.namespace_changed(&namespace.key, touched);
                }
            }
            Event::NamespaceDeleted(key) => {
                if self.index.delete_namespace(key) {
                    self.namespace_changed(key, touched);
                }
            }
            Event::PodApplied(pod) => {
                if self.is_member(&pod.key.cluster)
                    && let Some(change) = self.index.apply_pod(pod)
                {
                    self.pod_changed(&pod.key, change, touched);
                }
            }
            Event::PodDeleted { key, uid } => {
                if let Some(change) = self.index.delete_pod(key, uid) {
                    self.pod_changed(key, change, touched);
                }
            }
            Event::PolicyApplied(policy) => self.apply_policy(policy, touched),
            Event::PolicyDeleted(key) => self.delete_policy(key, touched),
            Event::ServiceApplied(_)
            | Event::ServiceDeleted(_)
            | Event::EndpointSliceApplied(_)
            | Event::EndpointSliceDeleted(_) => self.index.hear_of_services(event),
        }
    }

    fn is_member(&self, cluster: &ClusterId) -> bool {
        self.index.member(cluster).is_some()
    }

    /// A change of the ClusterSet can move everything, so everything is indexed anew; numbers keep their meaning.
    fn configure(&mut self, config: &ClusterConfig, touched: &mut Touched) {
        if self.index.config() == config {
            return;
        }
        let mut old = std::mem::replace(&mut self.index, ClusterIndex::new(config.clone()));
        self.index.take_services(&mut old);
        for (group, _) in old.groups() {
            self.facets.forget(group);
        }
        for (address, note) in old.notes() {
            touched.addresses.push(address);
            touched.left.insert(address, note);
        }
        touched.subjects.extend(self.subjects.all().keys().cloned());
        touched.groups.clear();
        for namespace in old.namespaces() {
            self.take_in(&Event::NamespaceApplied(namespace.clone()), touched);
        }
        for entry in old.pods() {
            self.take_in(&Event::PodApplied(entry.to_pod()), touched);
        }
        let strangers: Vec<_> = self.policies.keys().filter(|key| !self.is_member(&key.cluster)).cloned().collect();
        for key in strangers {
            self.delete_policy(&key, touched);
        }
    }

    fn namespace_changed(&mut self, key: &NamespaceKey, touched: &mut Touched) {
        let groups: Vec<u32> = self.index.groups_of(key).into_iter().flatten().collect();
        for id in groups.into_iter().map(GroupId) {
            if let Some(group) = self.index.group(id)
                && self.facets.examine(id, group, &self.index)
            {
                touched.groups.insert(id);
            }
        }
        if self.index.is_local(&key.cluster) {
            self.touch_subjects_of(&key.name, touched);
        }
    }

    fn pod_changed(&mut self, key: &PodKey, change: PodChange, touched: &mut Touched) {
        let PodChange { addresses, notes, born, died } = change;
        if let Some(id) = died {
            self.facets.forget(id);
            touched.groups.remove(&id);
        }
        if let Some(id) = born
            && let Some(group) = self.index.group(id)
        {
            self.facets.examine(id, group, &self.index);
        }
        for address in &addresses {
            let local = self.index.claimants(*address).filter(|entry| self.index.is_local(entry.cluster()));
            let claimants = local.map(PodEntry::key).filter(|key| self.subjects.all().contains_key(key));
            self.dirty.subjects.extend(claimants);
        }
        touched.addresses.extend(addresses);
        touched.left.extend(notes);
        if self.index.is_local(&key.cluster) {
            if self.subjects.all().contains_key(key) {
                self.dirty.subjects.insert(key.clone());
            }
            touched.subjects.insert(key.clone());
        }
    }

    fn apply_policy(&mut self, policy: &NetworkPolicy, touched: &mut Touched) {
        if !self.is_member(&policy.key.cluster) || self.policies.get(&policy.key) == Some(policy) {
            return;
        }
        let namespace = policy.key.namespace_key();
        self.policies_by_namespace.entry(namespace.clone()).or_default().insert(policy.key.clone());
        self.policies.insert(policy.key.clone(), policy.clone());
        if self.index.is_local(&namespace.cluster) {
            self.touch_subjects_of(&namespace.name, touched);
        }
    }

    fn delete_policy(&mut self, key: &PolicyKey, touched: &mut Touched) {
        if self.policies.remove(key).is_none() {
            return;
        }
        let namespace = key.namespace_key();
        take_from(&mut self.policies_by_namespace, &namespace, key);
        if self.index.is_local(&namespace.cluster) {
            self.touch_subjects_of(&namespace.name, touched);
        }
    }

    fn touch_subjects_of(&self, namespace: &Text, touched: &mut Touched) {
        touched.subjects.extend(self.subjects.of_namespace(namespace).cloned());
    }
}
