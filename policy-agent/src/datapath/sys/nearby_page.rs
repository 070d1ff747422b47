//! The table `nearby`, in memory that the programs read.

use std::io;
use std::mem::{offset_of, transmute};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use policy_common::table::{Endpoint, NEARBY_SLOTS};

use super::mapped::{MappedArray, Shared};

/// The elements of the array `nearby`, mapped.
#[derive(Debug)]
pub(in crate::datapath) struct NearbyPage(MappedArray<SharedNearby>);

/// `policy_common::table::Endpoint` as it is shared with programs that read it meanwhile.
#[repr(C)]
#[derive(Debug)]
struct SharedNearby {
    endpoint: AtomicU64,
    rest: [AtomicU64; REST],
}

/// How many words an element has after the first.
const REST: usize = size_of::<Endpoint>() / 8 - 1;

/// The first word of its policies.
const POLICIES: usize = offset_of!(Endpoint, policy) / 8;

const _: () = assert!(size_of::<SharedNearby>() == size_of::<Endpoint>() && offset_of!(Endpoint, endpoint) == 0);

// SAFETY: made of atomic words, of which any bytes are valid.
unsafe impl Shared for SharedNearby {}

impl NearbyPage {
    /// Maps an array that was made with `BPF_F_MMAPABLE`.
    pub(in crate::datapath) fn map(nearby: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(MappedArray::map(nearby, NEARBY_SLOTS as usize)?))
    }

    fn slot(&self, slot: u32) -> &SharedNearby {
        &self.0.elements()[slot as usize]
    }

    /// What a slot holds.
    pub(in crate::datapath) fn get(&self, slot: u32) -> Endpoint {
        let SharedNearby { endpoint, rest } = self.slot(slot);
        let mut words = [endpoint.load(Ordering::Relaxed); REST + 1];
        for (word, shared) in words[1..].iter_mut().zip(rest) {
            *word = shared.load(Ordering::Relaxed);
        }
        // SAFETY: of the same size, and made of integers.
        unsafe { transmute::<[u64; REST + 1], Endpoint>(words) }
    }

    /// Puts an endpoint into an empty slot that nobody can be reading any more: the word that makes it one comes last.
    pub(in crate::datapath) fn fill(&self, slot: u32, endpoint: &Endpoint) {
        let words = words(endpoint);
        let shared = self.slot(slot);
        for (shared, word) in shared.rest.iter().zip(&words[1..]) {
            shared.store(*word, Ordering::Relaxed);
        }
        shared.endpoint.store(words[0], Ordering::Release);
    }

    /// Gives the endpoint that has a slot these policies, word by word.
    pub(in crate::datapath) fn set_policies(&self, slot: u32, endpoint: &Endpoint) {
        let words = words(endpoint);
        for (shared, word) in self.slot(slot).rest.iter().zip(&words[1..]).skip(POLICIES - 1) {
            shared.store(*word, Ordering::Release);
        }
    }

    /// Makes a slot nobody's; what else it holds stays, for those who are reading it.
    pub(in crate::datapath) fn clear(&self, slot: u32) {
        self.slot(slot).endpoint.store(0, Ordering::Release);
    }
}

fn words(endpoint: &Endpoint) -> [u64; REST + 1] {
    // SAFETY: of the same size, without padding.
    unsafe { transmute::<Endpoint, [u64; REST + 1]>(*endpoint) }
}
