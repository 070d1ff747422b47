//! The commit and the version of the tables, in memory that the programs read.

use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use policy_common::table::Control;

use super::mapped::{MappedArray, Shared};

/// The element of the array `control`, mapped.
#[derive(Debug)]
pub(in crate::datapath) struct ControlPage(MappedArray<SharedControl>);

/// `policy_common::table::Control` as it is shared with programs that read it meanwhile.
#[repr(C)]
#[derive(Debug)]
struct SharedControl {
    commit: AtomicU64,
    abi: AtomicU32,
    tick_s: AtomicU32,
    writes: AtomicU32,
    cuts: AtomicU32,
}

// SAFETY: made of atomic words, of which any bytes are valid.
unsafe impl Shared for SharedControl {}

const _: () = {
    assert!(size_of::<SharedControl>() == size_of::<Control>());
    assert!(offset_of!(SharedControl, commit) == offset_of!(Control, commit));
    assert!(offset_of!(SharedControl, abi) == offset_of!(Control, abi));
    assert!(offset_of!(SharedControl, tick_s) == offset_of!(Control, tick_s));
    assert!(offset_of!(SharedControl, writes) == offset_of!(Control, writes));
    assert!(offset_of!(SharedControl, cuts) == offset_of!(Control, cuts));
};

impl ControlPage {
    /// Maps an array that was made with `BPF_F_MMAPABLE`.
    pub(in crate::datapath) fn map(control: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(MappedArray::map(control, 1)?))
    }

    fn control(&self) -> &SharedControl {
        &self.0.elements()[0]
    }

    /// The commit.
    pub(in crate::datapath) fn commit(&self) -> u64 {
        self.control().commit.load(Ordering::SeqCst)
    }

    /// Makes a commit live, by one 8-byte store.
    pub(in crate::datapath) fn flip(&self, commit: u64) {
        self.control().commit.store(commit, Ordering::SeqCst);
    }

    /// The version of the tables' layout; 0 until they are complete.
    pub(in crate::datapath) fn abi(&self) -> u32 {
        self.control().abi.load(Ordering::SeqCst)
    }

    /// The clock by which flows grow old, in seconds.
    pub(in crate::datapath) fn tick_s(&self) -> u32 {
        self.control().tick_s.load(Ordering::Relaxed)
    }

    /// Lets that many seconds pass.
    pub(in crate::datapath) fn tick(&self, seconds: u32) {
        self.control().tick_s.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Tells programs that elements are replaced from now on.
    pub(in crate::datapath) fn begin_writing(&self) {
        self.control().writes.fetch_or(1, Ordering::SeqCst);
    }

    /// Tells programs that nothing is written any more.
    pub(in crate::datapath) fn end_writing(&self) {
        self.control().writes.fetch_add(1, Ordering::SeqCst);
    }

    /// How many connections were ever noted as cut; zero since none is.
    pub(in crate::datapath) fn cuts(&self) -> u32 {
        self.control().cuts.load(Ordering::SeqCst)
    }

    /// Tells programs that no connection is noted as cut, unless one was since there were `cuts`; zero changes nothing.
    pub(in crate::datapath) fn forget_cuts(&self, cuts: u32) {
        // If programs were faster, the next sweep finds what they have noted.
        let _outcome = self.control().cuts.compare_exchange(cuts, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Declares the tables complete.
    pub(in crate::datapath) fn set_abi(&self, abi: u32) {
        self.control().abi.store(abi, Ordering::SeqCst);
    }
}
