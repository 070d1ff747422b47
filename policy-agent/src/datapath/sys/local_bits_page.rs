//! The table `local_bits`, in memory that the programs read.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use policy_common::table::LOCAL_BITS_WORDS;

use super::mapped::{MappedArray, Shared};

/// The elements of the array `local_bits`, mapped.
#[derive(Debug)]
pub(in crate::datapath) struct LocalBitsPage(MappedArray<SharedBits>);

/// 64 bits that programs read meanwhile.
#[repr(transparent)]
#[derive(Debug)]
struct SharedBits(AtomicU64);

// SAFETY: an atomic word, of which any bytes are valid.
unsafe impl Shared for SharedBits {}

impl LocalBitsPage {
    /// Maps an array that was made with `BPF_F_MMAPABLE`.
    pub(in crate::datapath) fn map(local_bits: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(MappedArray::map(local_bits, LOCAL_BITS_WORDS as usize)?))
    }

    /// What an element holds.
    pub(in crate::datapath) fn get(&self, element: u32) -> u64 {
        self.0.elements()[element as usize].0.load(Ordering::Relaxed)
    }

    /// Makes an element hold this, before anything that is written later.
    pub(in crate::datapath) fn set(&self, element: u32, bits: u64) {
        self.0.elements()[element as usize].0.store(bits, Ordering::SeqCst);
    }
}
