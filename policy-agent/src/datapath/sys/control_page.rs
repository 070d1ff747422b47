//! The commit and the version of the tables, in memory that the programs read.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use policy_common::table::Control;

/// The element of the array `control`, mapped.
#[derive(Debug)]
pub(in crate::datapath) struct ControlPage {
    control: NonNull<SharedControl>,
    length: usize,
}

/// `policy_common::table::Control` as it is shared with programs that read it meanwhile.
#[repr(C)]
#[derive(Debug)]
struct SharedControl {
    commit: AtomicU64,
    abi: AtomicU32,
    tick_s: AtomicU32,
}

const _: () = {
    assert!(size_of::<SharedControl>() == size_of::<Control>());
    assert!(offset_of!(SharedControl, commit) == offset_of!(Control, commit));
    assert!(offset_of!(SharedControl, abi) == offset_of!(Control, abi));
    assert!(offset_of!(SharedControl, tick_s) == offset_of!(Control, tick_s));
};

// SAFETY: the page is shared memory that stays mapped until drop, whichever thread that happens in.
unsafe impl Send for ControlPage {}
// SAFETY: all access is by atomic operations.
unsafe impl Sync for ControlPage {}

impl ControlPage {
    /// Maps an array that was made with `BPF_F_MMAPABLE`.
    pub(in crate::datapath) fn map(control: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a look-up without pointers.
        let length = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, control.as_raw_fd());
        // SAFETY: a new mapping at a place that the kernel chooses. The array's elements begin at a page
        // (array_map_alloc in kernel/bpf/arraymap.c), so there is a whole one.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, 0) };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let control = NonNull::new(page.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { control, length })
    }

    fn control(&self) -> &SharedControl {
        // SAFETY: mapped and aligned to a page until drop; whoever else has it, the kernel's programs included, reads
        // and writes whole words.
        unsafe { self.control.as_ref() }
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

    /// Declares the tables complete.
    pub(in crate::datapath) fn set_abi(&self, abi: u32) {
        self.control().abi.store(abi, Ordering::SeqCst);
    }
}

impl Drop for ControlPage {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made; nobody can hold a borrow of it any more.
        unsafe { libc::munmap(self.control.as_ptr().cast(), self.length) };
    }
}
