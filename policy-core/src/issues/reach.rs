//! Peers that would match pods of other clusters, were the default scope another one.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use roaring::RoaringBitmap;

use super::groups::Groups;
use super::peers::{Place, rules};
use crate::compile::Compiler;
use crate::index::{ClusterIndex, GroupId, PodEntry};
use crate::model::{
    ClusterId, Issue, IssueCode, Labels, METADATA_NAME_KEY, NamespaceKey, NetworkPolicy, Operator, Peer, Scope,
    Selector, Text,
};

/// Unqualified peers of policies that no annotation gives a scope, where that is `Local` by default and `ClusterSet`
/// would match more: what a switch of the default would open.
pub fn would_widen(compiler: &Compiler, issues: &mut Vec<Issue>) {
    let index = compiler.index();
    if index.config().default_scope != Scope::Local || index.config().members.len() < 2 {
        return;
    }
    let mut remote = Remote::new(index);
    for place in compiler.policies().filter(|policy| has_default_scope(policy, index)).flat_map(rules) {
        for (at, peer) in place.peers().iter().enumerate() {
            let clusters = remote.clusters_of(peer, &place.policy.key.namespace);
            if !clusters.is_empty() {
                issues.push(warning(&place, at, &clusters));
            }
        }
    }
}

fn warning(place: &Place<'_>, at: usize, clusters: &[&ClusterId]) -> Issue {
    let own = &place.policy.key.cluster;
    let others = clusters.iter().map(|cluster| cluster.as_str()).collect::<Vec<_>>().join(", ");
    let message = format!(
        "names no cluster, so it matches pods of {own} only; with defaultPeerScope: ClusterSet it would match pods of {others} too. Say which is meant, whatever the default: annotate the policy with crosswall.dev/peer-scope, or name the clusters"
    );
    place.warning(IssueCode::PeerWouldWiden, place.peer_path(at), message)
}

fn has_default_scope(policy: &NetworkPolicy, index: &ClusterIndex) -> bool {
    let namespace = NamespaceKey { cluster: policy.key.cluster.clone(), name: policy.key.namespace.clone() };
    policy.peer_scope.is_none() && index.namespace(&namespace).is_none_or(|namespace| namespace.peer_scope.is_none())
}

/// What selectors find in other clusters; each is asked once.
struct Remote<'a> {
    index: &'a ClusterIndex,
    groups: Groups<'a>,
    /// The other members, each with those groups of its pods that a selector finds by an address.
    clusters: Vec<(&'a ClusterId, RoaringBitmap)>,
    namespaces: Vec<&'a NamespaceKey>,
    namespaces_by_label: HashMap<(&'a str, &'a str), Vec<&'a NamespaceKey>>,
    in_namespaces: HashMap<&'a Selector, RoaringBitmap>,
    /// By peer, and by the policy's namespace where that counts.
    of_peers: HashMap<(&'a Peer, Option<&'a Text>), Vec<&'a ClusterId>>,
}

impl<'a> Remote<'a> {
    fn new(index: &'a ClusterIndex) -> Self {
        let members = index.config().members.iter().filter(|member| !index.is_local(&member.id));
        let mut remote = Self {
            index,
            groups: Groups::new(index),
            clusters: members.map(|member| (&member.id, RoaringBitmap::new())).collect(),
            namespaces: Vec::new(),
            namespaces_by_label: HashMap::new(),
            in_namespaces: HashMap::new(),
            of_peers: HashMap::new(),
        };
        remote.clusters.sort_unstable_by_key(|(id, _)| *id);
        for key in index.populated_namespaces() {
            remote.take_in(key);
        }
        let lost = lost_groups(index);
        for (_, groups) in &mut remote.clusters {
            *groups -= &lost;
        }
        remote
    }

    fn take_in(&mut self, key: &'a NamespaceKey) {
        let Ok(at) = self.clusters.binary_search_by_key(&&key.cluster, |(id, _)| *id) else { return };
        if let Some(groups) = self.index.groups_of(key) {
            self.clusters[at].1 |= groups;
        }
        self.namespaces.push(key);
        for (label, value) in self.index.namespace(key).iter().flat_map(|namespace| &namespace.labels) {
            self.namespaces_by_label.entry((label, value)).or_default().push(key);
        }
    }

    /// The clusters in which a peer of a policy in `namespace` would match a pod; none if it is qualified by cluster.
    fn clusters_of(&mut self, peer: &'a Peer, namespace: &'a Text) -> Vec<&'a ClusterId> {
        let Peer::Pods { namespaces, pods } = peer else { return Vec::new() };
        if namespaces.iter().chain(pods).any(Selector::names_cluster) {
            return Vec::new();
        }
        let own = if namespaces.is_some() { None } else { Some(namespace) };
        if let Some(known) = self.of_peers.get(&(peer, own)) {
            return known.clone();
        }
        if let Some(selector) = namespaces {
            self.ask_namespaces(selector);
        }
        let of_own_name;
        let mut found = match namespaces {
            Some(selector) => &self.in_namespaces[selector],
            None => {
                of_own_name = self.groups.of_namespaces(self.index.namespaces_named(namespace));
                &of_own_name
            }
        };
        let of_both;
        if let Some(selector) = pods {
            let requirements: Vec<_> = selector.requirements.iter().collect();
            of_both = self.groups.meeting(found, &requirements);
            found = &of_both;
        }
        let matching = self.clusters.iter().filter(|(_, groups)| !groups.is_disjoint(found));
        let clusters: Vec<_> = matching.map(|(id, _)| *id).collect();
        self.of_peers.insert((peer, own), clusters.clone());
        clusters
    }

    fn ask_namespaces(&mut self, selector: &'a Selector) {
        if let Entry::Vacant(answer) = self.in_namespaces.entry(selector) {
            let nobody = Labels::new();
            let matches = |key: &&NamespaceKey| self.index.view_of(key, &nobody).namespace_matches(selector);
            let needed = selector.requirements.iter().find_map(|requirement| match &requirement.operator {
                Operator::In(values) => Some((&*requirement.key, values)),
                _ => None,
            });
            answer.insert(match needed {
                Some((METADATA_NAME_KEY, names)) => {
                    let named = names.iter().flat_map(|name| self.index.namespaces_named(name));
                    self.groups.of_namespaces(named.filter(matches))
                }
                Some((key, values)) => {
                    let labelled = values.iter().filter_map(|value| self.namespaces_by_label.get(&(key, &**value)));
                    self.groups.of_namespaces(labelled.flatten().copied().filter(matches))
                }
                None => self.groups.of_namespaces(self.namespaces.iter().copied().filter(matches)),
            });
        }
    }
}

/// The groups of which no pod has an address that selectors find it by.
fn lost_groups(index: &ClusterIndex) -> RoaringBitmap {
    let claimants = index.contested().flat_map(|(_, claimants)| claimants).filter_map(|number| index.entry(*number));
    let outside = index.outside().iter().filter_map(|(_, key)| index.pod(key));
    let doubtful: RoaringBitmap = claimants.chain(outside).filter_map(|entry| Some(entry.group()?.0)).collect();
    let is_found = |entry: PodEntry<'_>| {
        let owns = |address| index.owner(address).is_some_and(|owner| owner.number() == entry.number());
        entry.addresses().into_iter().any(owns)
    };
    let is_lost = |id: &u32| !index.pods_of(GroupId(*id)).any(is_found);
    doubtful.into_iter().filter(is_lost).collect()
}
