//! Endpoints in `nearby`, where nearly all packets find them: kept as `endpoints` has them, by what is written there.
//!
//! A slot that was somebody's is given to nobody before a grace period has passed; an endpoint whose slot is not free is
//! found in `endpoints` alone, which only takes longer.

use std::collections::{BTreeMap, BTreeSet};

use policy_common::table::{Endpoint, Tagged, nearby_slot};

use super::sys::NearbyPage;

/// The table `nearby`.
#[derive(Debug)]
pub(super) struct NearbyTable {
    page: NearbyPage,
    /// Slots that are empty, but may still be read as what they were.
    leaving: BTreeSet<u32>,
    /// Who comes into a slot that is leaving.
    waiting: BTreeMap<u32, Endpoint>,
}

impl NearbyTable {
    /// The table as an earlier run left it.
    pub(super) fn new(page: NearbyPage) -> Self {
        Self { page, leaving: BTreeSet::new(), waiting: BTreeMap::new() }
    }

    /// Makes it hold these endpoints and no others. Whoever was here before may just have cleared a slot, so none is
    /// filled before the next grace period.
    pub(super) fn take_over(&mut self, endpoints: &BTreeMap<u32, Endpoint>) {
        for slot in 0..policy_common::table::NEARBY_SLOTS {
            let held = self.page.get(slot);
            let is_right = endpoints.get(&held.endpoint.tag) == Some(&held);
            if !is_right {
                self.clear(slot);
            }
        }
        for (ifindex, endpoint) in endpoints {
            self.put(*ifindex, endpoint);
        }
    }

    /// The element of `endpoints` of an interface is about to be another one, or (`None`) about to go.
    pub(super) fn before(&mut self, ifindex: u32, endpoint: Option<&Endpoint>) {
        let slot = nearby_slot(ifindex);
        let held = self.page.get(slot).endpoint;
        if held.tag == ifindex && endpoint.is_none_or(|endpoint| endpoint.endpoint != held) {
            self.clear(slot);
        }
        if self.waiting.get(&slot).is_some_and(|waiting| waiting.endpoint.tag == ifindex) {
            self.waiting.remove(&slot);
        }
    }

    /// The element of `endpoints` of an interface is this one now.
    pub(super) fn put(&mut self, ifindex: u32, endpoint: &Endpoint) {
        let slot = nearby_slot(ifindex);
        let held = self.page.get(slot).endpoint;
        if held == endpoint.endpoint {
            self.page.set_policies(slot, endpoint);
        } else if held != Tagged::default() {
            // Another one's.
        } else if self.leaving.contains(&slot) {
            self.waiting.entry(slot).or_insert(*endpoint);
        } else {
            self.page.fill(slot, endpoint);
        }
    }

    /// A grace period has passed.
    pub(super) fn after_grace(&mut self) {
        self.leaving.clear();
        for (slot, endpoint) in std::mem::take(&mut self.waiting) {
            self.page.fill(slot, &endpoint);
        }
    }

    fn clear(&mut self, slot: u32) {
        self.page.clear(slot);
        self.leaving.insert(slot);
    }
}
