//! Whose an address is when several pods claim it (docs/semantics.md §9).

use std::collections::BTreeSet;
use std::net::IpAddr;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::PodIndex;
use crate::model::{ClusterConfig, ClusterId, Lifecycle, Pod, Timestamp};

/// One pod's claim to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The pod.
    pub pod: PodIndex,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Where it stands in its life.
    pub lifecycle: Lifecycle,
    /// When it was made.
    pub created: Option<Timestamp>,
}

impl Claim {
    /// The claim of a pod to any of its addresses.
    pub fn new(number: PodIndex, pod: &Pod) -> Self {
        Self { pod: number, cluster: pod.key.cluster.clone(), lifecycle: pod.lifecycle, created: pod.created }
    }
}

/// All claims, by address.
#[derive(Debug, Default)]
pub struct Claims {
    by_address: HashMap<IpAddr, SmallVec<[Claim; 1]>>,
    /// The addresses of several claims.
    contested: BTreeSet<IpAddr>,
}

impl Claims {
    /// Adds a claim.
    pub fn add(&mut self, address: IpAddr, claim: Claim) {
        let claims = self.by_address.entry(address).or_default();
        claims.push(claim);
        if claims.len() > 1 {
            self.contested.insert(address);
        }
    }

    /// Takes a pod's claim back.
    pub fn remove(&mut self, address: IpAddr, pod: PodIndex) {
        if let Some(claims) = self.by_address.get_mut(&address) {
            claims.retain(|claim| claim.pod != pod);
            if claims.len() < 2 {
                self.contested.remove(&address);
            }
            if claims.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }

    /// The claims to an address.
    pub fn of(&self, address: IpAddr) -> &[Claim] {
        self.by_address.get(&address).map_or(&[], SmallVec::as_slice)
    }

    /// The addresses that several pods claim, with their claims, in order.
    pub fn contested(&self) -> impl Iterator<Item = (IpAddr, &[Claim])> {
        self.contested.iter().map(|address| (*address, self.of(*address)))
    }
}

/// Who of these claimants has the address, as `local` sees it.
pub fn owner(local: &ClusterId, claims: &[Claim]) -> Option<PodIndex> {
    if let [claim] = claims {
        return Some(claim.pod);
    }
    let cluster = if claims.iter().any(|claim| claim.cluster == *local) {
        local
    } else {
        let first = &claims.first()?.cluster;
        claims.iter().all(|claim| claim.cluster == *first).then_some(first)?
    };
    winner(claims.iter().filter(|claim| claim.cluster == *cluster))
}

/// Of several pods of one cluster: those that are not terminating contend, else all; the one that was made later than
/// every other wins. A pod that does not say when it was made is neither later nor earlier than another.
fn winner<'a>(claims: impl Iterator<Item = &'a Claim>) -> Option<PodIndex> {
    let claims: SmallVec<[&Claim; 4]> = claims.collect();
    let staying = claims.iter().any(|claim| claim.lifecycle == Lifecycle::Live);
    let contends = |claim: &&&Claim| !staying || claim.lifecycle == Lifecycle::Live;
    let later =
        |one: &Claim, other: &Claim| matches!((one.created, other.created), (Some(one), Some(other)) if one > other);
    let beats_all =
        |claim: &&&Claim| claims.iter().filter(contends).all(|other| other.pod == claim.pod || later(claim, other));
    claims.iter().filter(contends).find(beats_all).map(|claim| claim.pod)
}

/// Whether a pod of `cluster` may have `address` at all, by the join records.
pub fn admissible(config: &ClusterConfig, cluster: &ClusterId, address: IpAddr) -> bool {
    let Some(member) = config.member(cluster) else { return false };
    if !member.pod_cidrs.is_empty() {
        return member.pod_cidrs.iter().any(|cidr| cidr.contains(&address));
    }
    let others = config.members.iter().filter(|other| other.id != *cluster);
    !others.flat_map(|other| &other.pod_cidrs).any(|cidr| cidr.contains(&address))
}
