//! Whose an address is when several pods claim it (docs/semantics.md §9).

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::net::IpAddr;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use super::numbers;
use super::pods::{PodEntry, PodIndex, Pods};
use crate::model::{ClusterConfig, ClusterId, Lifecycle, Member};

/// The pods that claim each address.
#[derive(Debug, Default)]
pub struct Claims {
    /// One of the claimants of each address, found by what its pod says; the families apart, since a pod has one address
    /// of each.
    v4: HashTable<PodIndex>,
    v6: HashTable<PodIndex>,
    hasher: DefaultHashBuilder,
    /// All claimants of the addresses that have several.
    contested: BTreeMap<IpAddr, SmallVec<[PodIndex; 2]>>,
}

impl Claims {
    /// Adds a pod's claim to an address of its.
    pub fn add(&mut self, address: IpAddr, pod: PodIndex, pods: &Pods) {
        match self.of(address, pods) {
            [] => {
                let (hash, hasher) = (self.hasher.hash_one(address), &self.hasher);
                let is_same_family = |other: &IpAddr| other.is_ipv4() == address.is_ipv4();
                let hash_of = |pod: PodIndex| {
                    let own = pods.get(pod).and_then(|entry| entry.addresses().into_iter().find(is_same_family));
                    own.map_or(0, |own| hasher.hash_one(own))
                };
                let table = if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
                numbers::add(table, hash, pod, hash_of);
            }
            [first] => drop(self.contested.insert(address, SmallVec::from_slice(&[*first, pod]))),
            _ => self.contested.entry(address).or_default().push(pod),
        }
    }

    /// Takes a pod's claim back, while the pod is still known.
    pub fn remove(&mut self, address: IpAddr, pod: PodIndex, pods: &Pods) {
        let hash = self.hasher.hash_one(address);
        let table = if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let Ok(mut listed) = table.find_entry(hash, |other| has_address(pods, *other, address)) else { return };
        let Some(claimants) = self.contested.get_mut(&address) else {
            if *listed.get() == pod {
                listed.remove();
            }
            return;
        };
        claimants.retain(|claimant| *claimant != pod);
        if let Some(other) = claimants.first() {
            *listed.get_mut() = *other;
        }
        if claimants.len() < 2 {
            self.contested.remove(&address);
        }
    }

    /// The claimants of an address.
    pub fn of(&self, address: IpAddr, pods: &Pods) -> &[PodIndex] {
        if let Some(claimants) = self.contested.get(&address) {
            return claimants;
        }
        let table = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let hash = self.hasher.hash_one(address);
        table.find(hash, |pod| has_address(pods, *pod, address)).map_or(&[], std::slice::from_ref)
    }

    /// Whether several pods claim an address.
    pub fn is_contested(&self, address: &IpAddr) -> bool {
        self.contested.contains_key(address)
    }

    /// The addresses that several pods claim, with the pods, in order.
    pub fn contested(&self) -> impl Iterator<Item = (IpAddr, &[PodIndex])> {
        self.contested.iter().map(|(address, claimants)| (*address, claimants.as_slice()))
    }
}

fn has_address(pods: &Pods, pod: PodIndex, address: IpAddr) -> bool {
    pods.get(pod).is_some_and(|entry| entry.has_address(address))
}

/// Who of these claimants has the address, as `local` sees it.
pub fn owner<'a>(local: &ClusterId, claimants: impl IntoIterator<Item = PodEntry<'a>>) -> Option<PodEntry<'a>> {
    let claimants: SmallVec<[PodEntry<'_>; 2]> = claimants.into_iter().collect();
    if let [claimant] = *claimants {
        return Some(claimant);
    }
    let cluster = if claimants.iter().any(|claimant| claimant.cluster() == local) {
        local
    } else {
        let first = claimants.first()?.cluster();
        claimants.iter().all(|claimant| claimant.cluster() == first).then_some(first)?
    };
    winner(claimants.iter().copied().filter(|claimant| claimant.cluster() == cluster))
}

/// Of several pods of one cluster: those that are not terminating contend, else all; the one that was made later than
/// every other wins. A pod that does not say when it was made is neither later nor earlier than another.
fn winner<'a>(claimants: impl Iterator<Item = PodEntry<'a>>) -> Option<PodEntry<'a>> {
    let claimants: SmallVec<[PodEntry<'_>; 2]> = claimants.collect();
    let staying = claimants.iter().any(|claimant| claimant.lifecycle() == Lifecycle::Live);
    let contends = |claimant: &&PodEntry<'_>| !staying || claimant.lifecycle() == Lifecycle::Live;
    let is_later = |one: &PodEntry<'_>, other: &PodEntry<'_>| matches!((one.created(), other.created()), (Some(one), Some(other)) if one > other);
    let beats_all = |claimant: &&PodEntry<'_>| {
        let mut others = claimants.iter().filter(contends);
        others.all(|other| other.number() == claimant.number() || is_later(claimant, other))
    };
    claimants.iter().filter(contends).find(beats_all).copied()
}

/// Whether a pod of `cluster` may have `address` at all, by the join records.
pub fn admissible(config: &ClusterConfig, cluster: &ClusterId, address: IpAddr) -> bool {
    config.member(cluster).is_some_and(|member| admits(config, member, address))
}

/// Whether a pod of a member may have `address` at all.
pub fn admits(config: &ClusterConfig, member: &Member, address: IpAddr) -> bool {
    if !member.pod_cidrs.is_empty() {
        return member.pod_cidrs.iter().any(|cidr| cidr.contains(&address));
    }
    let others = config.members.iter().filter(|other| other.id != member.id);
    !others.flat_map(|other| &other.pod_cidrs).any(|cidr| cidr.contains(&address))
}
