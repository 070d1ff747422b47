//! Arrays of the kernel's, mapped into the agent's memory.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;

/// What programs read while the agent writes it.
///
/// # Safety
///
/// Made of atomic words alone, of which any bytes are valid; with the size of an array's element, a multiple of eight.
pub(super) unsafe trait Shared {}

/// The elements of an array that was made with `BPF_F_MMAPABLE`.
#[derive(Debug)]
pub(super) struct MappedArray<T> {
    elements: NonNull<T>,
    count: usize,
    /// How many bytes are mapped.
    length: usize,
    shared: PhantomData<T>,
}

// SAFETY: shared memory that stays mapped until drop, whichever thread that happens in.
unsafe impl<T: Shared> Send for MappedArray<T> {}
// SAFETY: all access is by atomic operations.
unsafe impl<T: Shared> Sync for MappedArray<T> {}

impl<T: Shared> MappedArray<T> {
    /// Maps an array of so many elements.
    pub(super) fn map(array: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        // SAFETY: a look-up without pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(io::Error::other)?;
        let length = (count * size_of::<T>()).next_multiple_of(page);
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, array.as_raw_fd());
        // SAFETY: a new mapping at a place that the kernel chooses. The array's elements begin at a page and fill whole
        // ones (array_map_alloc in kernel/bpf/arraymap.c); the kernel refuses a longer mapping than the array.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, 0) };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let elements = NonNull::new(place.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { elements, count, length, shared: PhantomData })
    }

    /// The elements.
    pub(super) fn elements(&self) -> &[T] {
        // SAFETY: mapped and aligned to a page until drop; whoever else has it, the kernel's programs included, reads
        // and writes whole words.
        unsafe { std::slice::from_raw_parts(self.elements.as_ptr(), self.count) }
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made; nobody can hold a borrow of it any more.
        unsafe { libc::munmap(self.elements.as_ptr().cast(), self.length) };
    }
}
