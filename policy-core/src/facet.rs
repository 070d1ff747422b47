//! Facets: what live rules ask of a peer, each kept with the groups that answer it.
//!
//! The *signature* of a group is the set of facets that match it. Only facets of rules that some endpoint of this node
//! lives under exist at all, so what no rule asks costs nothing.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use smallvec::SmallVec;

use crate::index::{ClusterIndex, ClusterLabel, Group, GroupId, View};
use crate::intern::{Effect, Interner};
use crate::model::{
    ClusterLabels, IpBlock, Labels, NamespaceKey, Operator, Protocol, Scope, Selector, Text, is_cluster_key,
};
use crate::shelves::take_from;
use crate::signatures::Signatures;

/// The number of a facet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FacetId(pub u32);

/// One question about a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Facet {
    /// Is it a pod that these selectors match?
    Pods(PodFacet),
    /// Is its address in this block?
    Block(IpBlock),
    /// Is it a pod that declares this port name with this number?
    NamedPort {
        /// The protocol.
        protocol: Protocol,
        /// The name.
        name: Text,
        /// The number.
        number: u16,
    },
}

/// A peer given by selectors, with everything settled that the policy's place decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodFacet {
    /// The clusters it ranges over.
    pub clusters: PeerClusters,
    /// The namespaces.
    pub namespaces: NamespaceMatch,
    /// The pods in them; `None`: all.
    pub pods: Option<Selector>,
}

/// The clusters a peer ranges over (docs/semantics.md §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerClusters {
    /// The peer does not name the cluster's key.
    Scope(Scope),
    /// It does, so it ranges over all and the key filters.
    Qualified,
}

/// The namespaces of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamespaceMatch {
    /// Those of this name, in every cluster of the scope.
    Named(Text),
    /// Those whose labels match.
    Selected(Selector),
}

impl PodFacet {
    /// Whether pods of the viewed namespace can match at all.
    pub fn admits_namespace(&self, mode: ClusterLabels, view: &View<'_>) -> bool {
        let cluster = match self.clusters {
            PeerClusters::Scope(Scope::Local) => view.local,
            PeerClusters::Scope(Scope::ClusterSet) => true,
            PeerClusters::Qualified => match (mode, view.cluster_label) {
                (ClusterLabels::Implicit, _) | (ClusterLabels::Explicit, ClusterLabel::Is(_)) => true,
                (ClusterLabels::Explicit, ClusterLabel::Unknown) => false,
                // A remote namespace that does not carry its label gains nothing by `NotIn`.
                (ClusterLabels::Explicit, ClusterLabel::Missing) => view.local,
            },
        };
        cluster
            && match &self.namespaces {
                NamespaceMatch::Named(name) => view.namespace == name,
                NamespaceMatch::Selected(selector) => view.namespace_matches(selector),
            }
    }

    /// Whether the viewed pods match, if their namespace does.
    pub fn admits_pods(&self, view: &View<'_>) -> bool {
        self.pods.as_ref().is_none_or(|selector| view.pods_match(selector))
    }

    /// The labels of which a matching pod must carry one; `None`: no label is needed.
    fn needed_labels(&self) -> Option<(&Text, &[Text])> {
        self.pods.as_ref()?.requirements.iter().find_map(|requirement| match &requirement.operator {
            Operator::In(values) if !is_cluster_key(&requirement.key) => Some((&requirement.key, values.as_slice())),
            _ => None,
        })
    }
}

/// The facets of one group, ascending.
pub type Signature = SmallVec<[FacetId; 4]>;

/// The live facets and who matches them.
#[derive(Debug)]
pub struct FacetTable {
    facets: Interner<Facet>,
    groups: HashMap<FacetId, RoaringBitmap>,
    signatures: Signatures,
    by_namespace: HashMap<Text, BTreeSet<FacetId>>,
    by_label: HashMap<(Text, Text), BTreeSet<FacetId>>,
    broad: BTreeSet<FacetId>,
    port_names: HashMap<(Protocol, Text), PortName>,
}

/// A port name that live egress rules use, with peers that they ask it of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPeers {
    /// The name.
    pub name: (Protocol, Text),
    /// The peers.
    pub peers: PortPeers,
}

/// The peers of which a rule asks a port name: only theirs need to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortPeers {
    /// All, or those of some address block.
    Everybody,
    /// Those that a facet matches.
    Matching(FacetId),
}

/// A port name that live egress rules use.
#[derive(Debug, Default)]
struct PortName {
    /// How many contents ask it of each kind of peers.
    users: HashMap<PortPeers, usize>,
    facets: BTreeMap<u16, FacetId>,
}

impl PortName {
    /// Whether some rule asks it of peers with this signature.
    fn is_asked_of(&self, signature: &[FacetId]) -> bool {
        self.users.contains_key(&PortPeers::Everybody)
            || signature.iter().any(|facet| self.users.contains_key(&PortPeers::Matching(*facet)))
    }
}

impl Default for FacetTable {
    fn default() -> Self {
        Self {
            facets: Interner::starting_at(0),
            groups: HashMap::new(),
            signatures: Signatures::default(),
            by_namespace: HashMap::new(),
            by_label: HashMap::new(),
            broad: BTreeSet::new(),
            port_names: HashMap::new(),
        }
    }
}

impl FacetTable {
    /// The facets that match a group.
    pub fn signature(&self, group: GroupId) -> &[FacetId] {
        self.signatures.get(group)
    }

    /// A live facet.
    pub fn facet(&self, id: FacetId) -> Option<&Facet> {
        self.facets.get(id.0).map(|facet| &**facet)
    }

    /// The groups that match a facet; `None`: it is not live.
    pub fn groups_of(&self, facet: &Facet) -> Option<RoaringBitmap> {
        let id = FacetId(self.facets.find(facet)?);
        Some(self.groups.get(&id).cloned().unwrap_or_default())
    }

    /// How many facets are live.
    pub fn len(&self) -> usize {
        self.facets.len()
    }

    /// Whether no facet is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more user of a facet; groups whose signature this changes are added to `moved`.
    pub fn acquire(&mut self, facet: &Facet, index: &ClusterIndex, moved: &mut BTreeSet<GroupId>) -> FacetId {
        let (number, effect) = self.facets.acquire(facet.clone());
        let id = FacetId(number);
        if effect == Effect::Changed
            && let Facet::Pods(pods) = facet
        {
            self.file(id, pods);
            for group in matching_groups(pods, index) {
                self.mark(id, GroupId(group));
                moved.insert(GroupId(group));
            }
        }
        id
    }

    /// One user less of a facet; returns the facet when that was the last.
    pub fn release(&mut self, id: FacetId, moved: &mut BTreeSet<GroupId>) -> Option<Facet> {
        let facet = self.facets.release(id.0)?;
        if let Facet::Pods(pods) = &*facet {
            self.unfile(id, pods);
        }
        for group in self.groups.remove(&id).into_iter().flatten() {
            self.signatures.remove(GroupId(group), id);
            moved.insert(GroupId(group));
        }
        Some((*facet).clone())
    }

    /// One more content asks for a port name of peers.
    pub fn acquire_name(&mut self, named: &NamedPeers, index: &ClusterIndex, moved: &mut BTreeSet<GroupId>) {
        let NamedPeers { name, peers } = named;
        let users = self.port_names.entry(name.clone()).or_default().users.entry(*peers).or_default();
        *users += 1;
        if *users > 1 {
            return;
        }
        let asked: Vec<GroupId> = match peers {
            PortPeers::Everybody => index.groups().map(|(id, _)| id).collect(),
            PortPeers::Matching(facet) => self.groups.get(facet).into_iter().flatten().map(GroupId).collect(),
        };
        for id in asked {
            if let Some(number) = number_of(index, id, name)
                && let Some(facet) = self.join_named(name, number, id)
            {
                self.signatures.insert(id, facet);
                moved.insert(id);
            }
        }
    }

    /// One content less asks for a port name of peers, whose facet is still live.
    pub fn release_name(&mut self, named: &NamedPeers, moved: &mut BTreeSet<GroupId>) {
        let NamedPeers { name, peers } = named;
        let Some(entry) = self.port_names.get_mut(name) else { return };
        let Some(users) = entry.users.get_mut(peers) else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        entry.users.remove(peers);
        let facets: Vec<FacetId> = entry.facets.values().copied().collect();
        let none = RoaringBitmap::new();
        for facet in &facets {
            let having = self.groups.get(facet).unwrap_or(&none);
            let concerned = match peers {
                PortPeers::Everybody => having.clone(),
                PortPeers::Matching(peers) => having & self.groups.get(peers).unwrap_or(&none),
            };
            for id in concerned.into_iter().map(GroupId) {
                if !self.port_names.get(name).is_some_and(|entry| entry.is_asked_of(self.signature(id))) {
                    self.groups.entry(*facet).or_default().remove(id.0);
                    self.signatures.remove(id, *facet);
                    moved.insert(id);
                }
            }
        }
        self.retire_numbers(&facets);
        if self.port_names.get(name).is_some_and(|entry| entry.users.is_empty()) {
            self.port_names.remove(name);
        }
    }

    /// The number that a signature's pods have behind a port name.
    pub fn named_number(&self, name: &(Protocol, Text), signature: &[FacetId]) -> Option<u16> {
        let entry = self.port_names.get(name)?;
        entry.facets.iter().find(|(_, id)| signature.binary_search(id).is_ok()).map(|(number, _)| *number)
    }

    /// Asks all facets about a group, new or with another view than before; returns whether its signature changed.
    pub fn examine(&mut self, id: GroupId, group: &Group, index: &ClusterIndex) -> bool {
        let before = Signature::from_slice(self.signature(id));
        for facet in &before {
            if let Some(groups) = self.groups.get_mut(facet) {
                groups.remove(id.0);
            }
        }
        let view = index.view(&group.key);
        let mut signature = Signature::new();
        for facet in self.candidates(group) {
            if let Some(Facet::Pods(pods)) = self.facets.get(facet.0).map(|facet| &**facet)
                && pods.admits_namespace(index.config().cluster_labels, &view)
                && pods.admits_pods(&view)
            {
                self.groups.entry(facet).or_default().insert(id.0);
                signature.push(facet);
            }
        }
        let asked = self.port_names.iter().filter(|(_, entry)| entry.is_asked_of(&signature));
        let names: Vec<_> = asked.map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(number) = group.key.named_ports().number(name.0, &name.1) {
                signature.extend(self.join_named(&name, number, id));
            }
        }
        signature.sort_unstable();
        self.signatures.set(id, signature);
        self.retire_numbers(&before);
        *before != *self.signature(id)
    }

    /// Forgets a group.
    pub fn forget(&mut self, id: GroupId) {
        let signature = Signature::from_slice(self.signature(id));
        self.signatures.set(id, Signature::new());
        for facet in &signature {
            if let Some(groups) = self.groups.get_mut(facet) {
                groups.remove(id.0);
            }
        }
        self.retire_numbers(&signature);
    }

    /// Drops those of these facets that are numbers of port names which no group has any more.
    fn retire_numbers(&mut self, facets: &[FacetId]) {
        for id in facets {
            if self.groups.get(id).is_none_or(|groups| !groups.is_empty()) {
                continue;
            }
            if let Some(Facet::NamedPort { protocol, name, number }) = self.facet(*id)
                && let (place, number) = ((*protocol, name.clone()), *number)
                && let Some(entry) = self.port_names.get_mut(&place)
            {
                entry.facets.remove(&number);
                self.facets.release(id.0);
                self.groups.remove(id);
            }
        }
    }

    fn mark(&mut self, facet: FacetId, group: GroupId) {
        self.groups.entry(facet).or_default().insert(group.0);
        self.signatures.insert(group, facet);
    }

    /// Adds a group to those that have a number behind a port name.
    fn join_named(&mut self, name: &(Protocol, Text), number: u16, group: GroupId) -> Option<FacetId> {
        let entry = self.port_names.get_mut(name)?;
        let facets = &mut self.facets;
        let id = *entry.facets.entry(number).or_insert_with(|| {
            FacetId(facets.acquire(Facet::NamedPort { protocol: name.0, name: name.1.clone(), number }).0)
        });
        self.groups.entry(id).or_default().insert(group.0);
        Some(id)
    }

    /// The pod facets that could match a group.
    fn candidates(&self, group: &Group) -> BTreeSet<FacetId> {
        let mut candidates = self.broad.clone();
        candidates.extend(self.by_namespace.get(&group.key.namespace.name).into_iter().flatten());
        for (key, value) in group.key.labels.iter() {
            candidates.extend(self.by_label.get(&(key.clone(), value.clone())).into_iter().flatten());
        }
        candidates
    }

    /// Files a facet under what a group must have to match it.
    fn file(&mut self, id: FacetId, facet: &PodFacet) {
        if let NamespaceMatch::Named(name) = &facet.namespaces {
            self.by_namespace.entry(name.clone()).or_default().insert(id);
        } else if let Some((key, values)) = facet.needed_labels() {
            for value in values {
                self.by_label.entry((key.clone(), value.clone())).or_default().insert(id);
            }
        } else {
            self.broad.insert(id);
        }
    }

    fn unfile(&mut self, id: FacetId, facet: &PodFacet) {
        if let NamespaceMatch::Named(name) = &facet.namespaces {
            take_from(&mut self.by_namespace, name, &id);
        } else if let Some((key, values)) = facet.needed_labels() {
            for value in values {
                take_from(&mut self.by_label, &(key.clone(), value.clone()), &id);
            }
        } else {
            self.broad.remove(&id);
        }
    }
}

/// The number behind a port name in a group.
fn number_of(index: &ClusterIndex, id: GroupId, (protocol, name): &(Protocol, Text)) -> Option<u16> {
    index.group(id)?.key.named_ports().number(*protocol, name)
}

/// The groups that a facet matches, found without looking at every group.
fn matching_groups(facet: &PodFacet, index: &ClusterIndex) -> RoaringBitmap {
    let nobody = Labels::new();
    let mode = index.config().cluster_labels;
    let mut candidates = RoaringBitmap::new();
    let mut consider = |namespace: &NamespaceKey| {
        if facet.admits_namespace(mode, &index.view_of(namespace, &nobody))
            && let Some(groups) = index.groups_of(namespace)
        {
            candidates |= groups;
        }
    };
    match &facet.namespaces {
        NamespaceMatch::Named(name) => index.namespaces_named(name).for_each(&mut consider),
        NamespaceMatch::Selected(_) => index.populated_namespaces().for_each(&mut consider),
    }
    if let Some((key, values)) = facet.needed_labels() {
        let mut labelled = RoaringBitmap::new();
        for groups in values.iter().filter_map(|value| index.groups_labelled(key, value)) {
            groups.add_to(&mut labelled);
        }
        candidates &= labelled;
    }
    candidates
        .into_iter()
        .filter(|id| index.group(GroupId(*id)).is_some_and(|group| facet.admits_pods(&index.view(&group.key))))
        .collect()
}
