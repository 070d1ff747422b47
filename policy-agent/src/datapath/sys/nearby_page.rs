//! The table `nearby`, in memory that the programs read.

use std::io;
use std::mem::{offset_of, transmute};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use policy_common::table::{NEARBY_SLOTS, Nearby};

use super::mapped::{MappedArray, Shared};

/// The elements of the array `nearby`, mapped.
#[derive(Debug)]
pub(in crate::datapath) struct NearbyPage(MappedArray<SharedNearby>);

/// `policy_common::table::Nearby` as it is shared with programs that read it meanwhile.
#[repr(C)]
#[derive(Debug)]
struct SharedNearby {
    endpoint: AtomicU64,
    rest: [AtomicU64; REST],
}

/// How many words an element has after the first.
const REST: usize = size_of::<Nearby>() / 8 - 1;

const _: () = assert!(size_of::<SharedNearby>() == size_of::<Nearby>() && offset_of!(Nearby, endpoint) == 0);

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
    pub(in crate::datapath) fn get(&self, slot: u32) -> Nearby {
        let SharedNearby { endpoint, rest } = self.slot(slot);
        let mut words = [endpoint.load(Ordering::Relaxed); REST + 1];
        for (word, shared) in words[1..].iter_mut().zip(rest) {
            *word = shared.load(Ordering::Relaxed);
        }
        // SAFETY: of the same size, and made of integers.
        unsafe { transmute::<[u64; REST + 1], Nearby>(words) }
    }

    /// Puts an endpoint into an empty slot that nobody can be reading any more: the word that makes it one comes last.
    pub(in crate::datapath) fn fill(&self, slot: u32, nearby: &Nearby) {
        // SAFETY: of the same size, without padding.
        let words = unsafe { transmute::<Nearby, [u64; REST + 1]>(*nearby) };
        let SharedNearby { endpoint, rest } = self.slot(slot);
        for (shared, word) in rest.iter().zip(&words[1..]) {
            shared.store(*word, Ordering::Relaxed);
        }
        endpoint.store(words[0], Ordering::Release);
    }

    /// Makes a slot nobody's; what else it holds stays, for those who are reading it.
    pub(in crate::datapath) fn clear(&self, slot: u32) {
        self.slot(slot).endpoint.store(0, Ordering::Release);
    }
}
