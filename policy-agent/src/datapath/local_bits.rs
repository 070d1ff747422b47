//! Which addresses may be of this node or of its pods, so that nobody looks for others in `local_v4` and `local_v6`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_common::table::local_bit;
use policy_core::plan::{address_tag, local_bits};

use super::sys::LocalBitsPage;

/// The table `local_bits`: a bit stands for as long as some address has it.
#[derive(Debug)]
pub(super) struct LocalBits {
    page: LocalBitsPage,
    /// Who shares each bit.
    sharing: BTreeMap<(u32, u64), BTreeSet<IpAddr>>,
}

fn place(address: IpAddr) -> (u32, u64) {
    local_bit(address_tag(address))
}

impl LocalBits {
    /// The table as an earlier run left it.
    pub(super) fn new(page: LocalBitsPage) -> Self {
        Self { page, sharing: BTreeMap::new() }
    }

    /// Makes it hold these addresses and no others.
    pub(super) fn take_over(&mut self, addresses: impl Iterator<Item = IpAddr> + Clone) {
        self.sharing.clear();
        for address in addresses.clone() {
            self.sharing.entry(place(address)).or_default().insert(address);
        }
        for (element, bits) in (0..).zip(local_bits(addresses)) {
            self.page.set(element, bits);
        }
    }

    /// An address is about to come into its table.
    pub(super) fn before(&mut self, address: IpAddr) {
        let (element, bit) = place(address);
        self.sharing.entry((element, bit)).or_default().insert(address);
        self.page.set(element, self.page.get(element) | bit);
    }

    /// An address has left its table.
    pub(super) fn gone(&mut self, address: IpAddr) {
        let (element, bit) = place(address);
        let Some(sharing) = self.sharing.get_mut(&(element, bit)) else { return };
        sharing.remove(&address);
        if sharing.is_empty() {
            self.sharing.remove(&(element, bit));
            self.page.set(element, self.page.get(element) & !bit);
        }
    }
}
