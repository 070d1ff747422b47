//! The ports of Services with some of the pods behind them, and which of them stand behind the pods that peers match.

use std::net::IpAddr;
use std::rc::Rc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::groups::Groups;
use crate::compile::facet_of;
use crate::facet::{Facet, PeerClusters, PodFacet};
use crate::index::{ClusterIndex, GroupId, PodEntry, ServiceEntry, View};
use crate::model::{
    Labels, METADATA_NAME_KEY, NamespaceKey, Operator, Peer, Protocol, Requirement, Scope, Selector, Text,
    is_cluster_key,
};

/// How many backends of a port stand for all of them.
const SAMPLE: usize = 4;
/// So many groups are looked at one by one sooner than all namespaces.
const FEW: u64 = 32;

/// A port of a Service at one of its addresses, and a group of local pods that answer there.
pub struct Entry<'a> {
    /// The namespace of the Service.
    pub namespace: &'a Text,
    /// The name of the Service.
    pub name: &'a Text,
    /// The address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port at that address.
    pub port: u16,
    /// The port of the pods.
    pub target: u16,
    group: GroupId,
}

/// All of them, by the name of the Service, and within it as it has them.
pub struct Backed<'a> {
    index: &'a ClusterIndex,
    entries: Vec<Entry<'a>>,
    by_group: HashMap<u32, Vec<u32>>,
    groups: RoaringBitmap,
    /// The lowest and the highest address of each family.
    spans: Vec<[IpAddr; 2]>,
}

impl<'a> Backed<'a> {
    /// Those of the Services that an index has.
    pub fn new(index: &'a ClusterIndex) -> Self {
        let mut services: Vec<ServiceEntry<'_>> = index.services().iter().collect();
        services.sort_unstable_by_key(|service| (service.namespace(), service.name()));
        let mut entries = Vec::new();
        for service in services {
            add_entries(index, service, &mut entries);
        }
        let mut by_group: HashMap<u32, Vec<u32>> = HashMap::new();
        for (id, entry) in (0..).zip(&entries) {
            by_group.entry(entry.group.0).or_default().push(id);
        }
        let span = |is_v4: bool| {
            let addresses = || entries.iter().map(|entry| entry.address).filter(|address| address.is_ipv4() == is_v4);
            Some([addresses().min()?, addresses().max()?])
        };
        let spans = [true, false].into_iter().filter_map(span).collect();
        Self { index, groups: by_group.keys().copied().collect(), by_group, entries, spans }
    }

    /// One by its number.
    pub fn entry(&self, id: u32) -> &Entry<'a> {
        &self.entries[id as usize]
    }

    /// The lowest and the highest address of each family.
    pub fn spans(&self) -> &[[IpAddr; 2]] {
        &self.spans
    }

    /// The number that the pods of an entry have behind a port name.
    pub fn named_port(&self, entry: &Entry<'_>, name: &str) -> Option<u16> {
        self.index.group(entry.group)?.key.named_ports().number(entry.protocol, name)
    }

    /// Who finds them by peers.
    pub fn finder(&self) -> Finder<'_, 'a> {
        let local = self.index.populated_namespaces().filter(|key| self.index.is_local(&key.cluster));
        let mut finder = Finder {
            backed: self,
            groups: Groups::new(self.index),
            namespaces: local.collect(),
            namespaces_by_label: HashMap::new(),
            by_selector: HashMap::new(),
            known: HashMap::new(),
        };
        for key in finder.namespaces.clone() {
            let object = self.index.namespace(key);
            let labels =
                object.iter().flat_map(|namespace| &namespace.labels).map(|(label, value)| (&**label, &**value));
            // Its name is what it is, whatever its object says.
            let others = labels.filter(|(label, _)| *label != METADATA_NAME_KEY);
            for label in others.chain([(METADATA_NAME_KEY, &*key.name)]) {
                finder.namespaces_by_label.entry(label).or_default().push(key);
            }
        }
        finder
    }
}

fn add_entries<'a>(index: &'a ClusterIndex, service: ServiceEntry<'a>, entries: &mut Vec<Entry<'a>>) {
    // The ports of a Service mostly lead to the same pods.
    let mut known: Vec<(IpAddr, Option<GroupId>)> = Vec::new();
    let mut group_at = |address: IpAddr| {
        if let Some((_, group)) = known.iter().find(|(other, _)| *other == address) {
            return *group;
        }
        let owner = index.owner(address).filter(|owner| index.is_local(owner.cluster()));
        let group = owner.and_then(PodEntry::group);
        known.push((address, group));
        group
    };
    for address in service.addresses() {
        // Where a pod has it, selectors may find it, too.
        if index.claimants(*address).next().is_some() {
            continue;
        }
        for port in service.ports() {
            let first = entries.len();
            for target in service.ready(port, address.is_ipv4()).take(SAMPLE) {
                let Some(group) = group_at(target.address) else { continue };
                let is_known = |entry: &Entry<'_>| entry.group == group && entry.target == target.port;
                if !entries[first..].iter().any(is_known) {
                    entries.push(Entry {
                        namespace: service.namespace(),
                        name: service.name(),
                        address: *address,
                        protocol: port.protocol,
                        port: port.port,
                        target: target.port,
                        group,
                    });
                }
            }
        }
    }
}

/// Finds entries by the pods behind them; the same peers are looked for once.
pub struct Finder<'b, 'a> {
    backed: &'b Backed<'a>,
    groups: Groups<'a>,
    /// The namespaces of the local cluster that have pods.
    namespaces: Vec<&'a NamespaceKey>,
    namespaces_by_label: HashMap<(&'a str, &'a str), Vec<&'a NamespaceKey>>,
    /// The groups of the namespaces that selectors match.
    by_selector: HashMap<(&'a Selector, PeerClusters), RoaringBitmap>,
    /// By peers, and by the policy's namespace where that counts.
    known: HashMap<(&'a [Peer], Option<&'a Text>), Rc<RoaringBitmap>>,
}

impl<'a> Finder<'_, 'a> {
    /// The entries whose pods these peers of a policy in `namespace` match.
    pub fn entries(&mut self, peers: &'a [Peer], namespace: &'a Text) -> Rc<RoaringBitmap> {
        let is_of_own = |peer: &Peer| matches!(peer, Peer::Pods { namespaces: None, .. });
        let own = peers.iter().any(is_of_own).then_some(namespace);
        if let Some(known) = self.known.get(&(peers, own)) {
            return known.clone();
        }
        let mut matching = RoaringBitmap::new();
        for peer in peers {
            if let Peer::Pods { namespaces, pods } = peer
                // In the local cluster both scopes are the same.
                && let Facet::Pods(facet) = facet_of(peer, namespace, Scope::Local)
            {
                matching |= self.matching(&facet, namespaces.as_ref(), pods.as_ref(), namespace);
            }
        }
        let ids = matching.iter().filter_map(|group| self.backed.by_group.get(&group)).flatten().copied();
        let found = Rc::new(ids.collect());
        self.known.insert((peers, own), Rc::clone(&found));
        found
    }

    /// Those groups with entries that a peer matches.
    fn matching(
        &mut self,
        facet: &PodFacet,
        namespaces: Option<&'a Selector>,
        pods: Option<&Selector>,
        own: &Text,
    ) -> RoaringBitmap {
        let index = self.backed.index;
        let about_pods: Vec<&Requirement> =
            pods.iter().flat_map(|it| &it.requirements).filter(|it| !is_cluster_key(&it.key)).collect();
        let mut found = self.groups.meeting(&self.backed.groups, &about_pods);
        if found.len() > FEW {
            found &= self.in_namespaces(facet, namespaces, own);
        }
        let asks_more = found.len() <= FEW || pods.is_some_and(Selector::names_cluster);
        if asks_more {
            let mode = index.config().cluster_labels;
            let admits = |view: &View<'_>| facet.admits_namespace(mode, view) && facet.admits_pods(view);
            let matches = |id: &u32| index.group(GroupId(*id)).is_some_and(|it| admits(&index.view(&it.key)));
            found = found.into_iter().filter(matches).collect();
        }
        found
    }

    /// The groups of the local namespaces that a peer matches.
    fn in_namespaces(&mut self, facet: &PodFacet, namespaces: Option<&'a Selector>, own: &Text) -> RoaringBitmap {
        let index = self.backed.index;
        let key = namespaces.map(|selector| (selector, facet.clusters));
        if let Some(known) = key.and_then(|key| self.by_selector.get(&key)) {
            return known.clone();
        }
        let (mode, nobody) = (index.config().cluster_labels, Labels::new());
        let admits = |key: &&NamespaceKey| facet.admits_namespace(mode, &index.view_of(key, &nobody));
        let needed = match namespaces {
            None => Some((METADATA_NAME_KEY, std::slice::from_ref(own))),
            Some(selector) => needed_label(selector),
        };
        let admitted: Vec<&NamespaceKey> = match needed {
            Some((key, values)) => {
                let labelled = values.iter().filter_map(|value| self.namespaces_by_label.get(&(key, &**value)));
                labelled.flatten().copied().filter(admits).collect()
            }
            None => self.namespaces.iter().copied().filter(admits).collect(),
        };
        let found = self.groups.of_namespaces(admitted);
        if let Some(key) = key {
            self.by_selector.insert(key, found.clone());
        }
        found
    }
}

/// A label of which a matching namespace carries one of these values.
fn needed_label(selector: &Selector) -> Option<(&str, &[Text])> {
    selector.requirements.iter().find_map(|Requirement { key, operator }| match operator {
        Operator::In(values) if !is_cluster_key(key) => Some((&**key, values.as_slice())),
        _ => None,
    })
}
