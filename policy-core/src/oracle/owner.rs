//! Who an address means when its claims are wrong or several.

use std::net::IpAddr;

use super::{View, is_workload};
use crate::model::{ClusterId, Lifecycle, Pod};

impl<'w> View<'w, '_> {
    /// The workload whose labels an address has. Claims that are not valid count for nothing; then the local cluster
    /// beats remote ones, and between remote ones there is no winner; then the pods of that cluster contend.
    pub(super) fn owner(&self, address: IpAddr) -> Option<&'w Pod> {
        let claimants: Vec<&Pod> = self
            .world
            .pods
            .values()
            .filter(|pod| is_workload(pod) && pod.addresses.contains(&address))
            .filter(|pod| self.may_claim(&pod.key.cluster, address))
            .collect();
        let is_local = |pod: &&Pod| pod.key.cluster == *self.local;
        let locals: Vec<&Pod> = claimants.iter().copied().filter(is_local).collect();
        if !locals.is_empty() {
            return winner(&locals);
        }
        let first = claimants.first()?;
        let one_cluster = claimants.iter().all(|pod| pod.key.cluster == first.key.cluster);
        if one_cluster { winner(&claimants) } else { None }
    }

    /// Whether a member's pod may have this address: inside the member's own ranges; a member without ranges may
    /// have any address that lies in nobody else's.
    fn may_claim(&self, cluster: &ClusterId, address: IpAddr) -> bool {
        let Some(member) = self.config.members.iter().find(|member| member.id == *cluster) else { return false };
        if member.pod_cidrs.is_empty() {
            let others = self.config.members.iter().filter(|other| other.id != *cluster);
            !others.flat_map(|other| &other.pod_cidrs).any(|cidr| cidr.contains(&address))
        } else {
            member.pod_cidrs.iter().any(|cidr| cidr.contains(&address))
        }
    }
}

/// Of one cluster's pods that claim an address: one that is not terminating beats those that are; then the one that
/// was made later than every other; else nobody. A pod that does not say when it was made is not later than another,
/// nor another than it.
fn winner<'w>(claimants: &[&'w Pod]) -> Option<&'w Pod> {
    let staying: Vec<&Pod> = claimants.iter().copied().filter(|pod| pod.lifecycle == Lifecycle::Live).collect();
    let contenders = if staying.is_empty() { claimants.to_vec() } else { staying };
    contenders.iter().copied().find(|pod| contenders.iter().all(|other| other.key == pod.key || is_later(pod, other)))
}

fn is_later(one: &Pod, other: &Pod) -> bool {
    match (one.created, other.created) {
        (Some(one), Some(other)) => one > other,
        _ => false,
    }
}
