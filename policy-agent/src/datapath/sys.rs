//! Every unsafe call of the datapath: bpf(2) where aya lacks the operation, the mapped page of `control`, two look-ups
//! in libc.

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aya::Pod;
use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_link_type, bpf_map_type};
use policy_common::table::Control;

/// How many elements one batch moves; larger ones only hold memory longer.
const BATCH: usize = 4096;

/// The beginning of `union bpf_attr` (include/uapi/linux/bpf.h) as one command reads it: `repr(C)`, of integers, with
/// padding written out. The kernel takes what lies beyond as zero.
trait Attribute: Copy {}

/// Makes one bpf(2) call.
///
/// # Safety
///
/// Every pointer in `attribute` must be valid for what `command` reads and writes through it.
unsafe fn bpf<A: Attribute>(command: bpf_cmd, attribute: &mut A) -> io::Result<RawFd> {
    // SAFETY: the kernel reads, and for some commands writes, `size` bytes at the pointer, which is an exclusive
    // borrow of that many; what the caller vouches for covers the pointers inside.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, attribute, size_of::<A>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer as RawFd) }
}

/// As [`bpf`], for commands that answer with a new descriptor.
///
/// # Safety
///
/// As for [`bpf`]; `command` must be one that answers with a descriptor.
unsafe fn bpf_fd<A: Attribute>(command: bpf_cmd, attribute: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: passed on to the caller.
    let fd = unsafe { bpf(command, attribute) }?;
    // SAFETY: the kernel has just made this descriptor for us (bpf_map_new_fd, bpf_link_settle, …).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn pointer<T>(place: *const T) -> u64 {
    place as u64
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ObjectAttribute {
    path: u64,
    fd: u32,
    file_flags: u32,
}

impl Attribute for ObjectAttribute {}

/// Opens what is pinned at a path.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attribute = ObjectAttribute { path: pointer(path.as_ptr()), fd: 0, file_flags: 0 };
    // SAFETY: the path is a terminated string that outlives the call.
    unsafe { bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attribute) }
}

/// Pins a map, program or link at a path.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attribute = ObjectAttribute { path: pointer(path.as_ptr()), fd: number(object), file_flags: 0 };
    // SAFETY: the path is a terminated string that outlives the call.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut attribute) }.map(drop)
}

#[repr(C)]
#[derive(Clone, Copy)]
struct InfoAttribute {
    fd: u32,
    length: u32,
    info: u64,
}

impl Attribute for InfoAttribute {}

/// The beginning of a `struct bpf_…_info`: nothing but integers, so all zero is a value.
trait Info: Copy {
    const ZERO: Self;
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MapInfo {
    map_type: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
}

impl Info for MapInfo {
    const ZERO: Self = Self { map_type: 0, id: 0, key_size: 0, value_size: 0 };
}

#[repr(C)]
#[derive(Clone, Copy)]
struct TcxLinkInfo {
    link_type: u32,
    id: u32,
    program: u32,
    padding: u32,
    ifindex: u32,
    attach_type: u32,
}

impl Info for TcxLinkInfo {
    const ZERO: Self = Self { link_type: 0, id: 0, program: 0, padding: 0, ifindex: 0, attach_type: 0 };
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ProgramInfo {
    program_type: u32,
    id: u32,
}

impl Info for ProgramInfo {
    const ZERO: Self = Self { program_type: 0, id: 0 };
}

fn info<I: Info>(fd: BorrowedFd<'_>) -> io::Result<I> {
    let mut info = I::ZERO;
    let mut attribute = InfoAttribute { fd: number(fd), length: size_of::<I>() as u32, info: pointer(&raw mut info) };
    // SAFETY: the kernel writes at most `length` bytes to `info` (bpf_*_get_info_by_fd clamp to it), which is that
    // long, outlives the call and takes any bytes.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attribute) }?;
    Ok(info)
}

/// The kernel's number of a program.
pub(super) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(info::<ProgramInfo>(program)?.id)
}

/// Where a tcx link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcxLink {
    /// The interface; 0 once it is gone.
    pub(super) ifindex: u32,
    /// The kernel's number of the program.
    pub(super) program: u32,
}

/// Where a link leads, if it is a tcx link.
pub(super) fn tcx_link(link: BorrowedFd<'_>) -> io::Result<Option<TcxLink>> {
    let TcxLinkInfo { link_type, program, ifindex, .. } = info(link)?;
    Ok((link_type == bpf_link_type::BPF_LINK_TYPE_TCX as u32).then_some(TcxLink { ifindex, program }))
}

#[repr(C)]
#[derive(Clone, Copy)]
struct LinkCreateAttribute {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    expected_revision: u64,
}

impl Attribute for LinkCreateAttribute {}

/// Puts a program in front of all others at a tcx hook of an interface of the thread's network namespace. Closing the
/// last descriptor of the link takes it off.
pub(super) fn create_tcx_link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: bpf_attach_type,
) -> io::Result<OwnedFd> {
    let mut attribute = LinkCreateAttribute {
        program: number(program),
        ifindex,
        attach_type: attach_type as u32,
        flags: aya_obj::generated::BPF_F_BEFORE,
        relative: 0,
        padding: 0,
        expected_revision: 0,
    };
    // SAFETY: there is no pointer inside.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attribute) }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct LinkUpdateAttribute {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

impl Attribute for LinkUpdateAttribute {}

/// Replaces the program of a link; each packet meets the old one or the new one.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = LinkUpdateAttribute { link: number(link), program: number(program), flags: 0, old_program: 0 };
    // SAFETY: there is no pointer inside.
    unsafe { bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attribute) }.map(drop)
}

#[repr(C)]
#[derive(Clone, Copy)]
struct LinkDetachAttribute {
    link: u32,
}

impl Attribute for LinkDetachAttribute {}

/// Takes a link off its interface, whoever else holds it.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = LinkDetachAttribute { link: number(link) };
    // SAFETY: there is no pointer inside.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut attribute) }.map(drop)
}

#[repr(C)]
#[derive(Clone, Copy)]
struct BatchAttribute {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

impl Attribute for BatchAttribute {}

/// A batch that ended early.
#[derive(Debug)]
pub(super) struct BatchError {
    /// How many elements were done; the next one is the one at fault.
    pub(super) done: usize,
    /// What the kernel said.
    pub(super) source: io::Error,
}

/// A hash map or trie whose keys and values have the sizes of `K` and `V`.
#[derive(Debug)]
pub(super) struct TypedMap<K, V> {
    fd: OwnedFd,
    types: PhantomData<fn(K, V)>,
}

impl<K: Pod, V: Pod> TypedMap<K, V> {
    /// Takes a map; refuses one with other sizes.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let MapInfo { key_size, value_size, .. } = info(fd.as_fd())?;
        if (key_size as usize, value_size as usize) != (size_of::<K>(), size_of::<V>()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the map's keys or values have another size"));
        }
        Ok(Self { fd, types: PhantomData })
    }

    /// Inserts or replaces elements, in order, each atomically.
    pub(super) fn update(&self, keys: &[K], values: &[V]) -> Result<(), BatchError> {
        assert_eq!(keys.len(), values.len(), "a value for each key");
        let chunks = keys.chunks(BATCH).zip(values.chunks(BATCH));
        self.each_chunk(chunks, bpf_cmd::BPF_MAP_UPDATE_BATCH)
    }

    /// Removes elements, in order; one that is not there is an error.
    pub(super) fn delete(&self, keys: &[K]) -> Result<(), BatchError> {
        self.each_chunk(keys.chunks(BATCH).map(|keys| (keys, [].as_slice())), bpf_cmd::BPF_MAP_DELETE_BATCH)
    }

    fn each_chunk<'a>(
        &self,
        chunks: impl Iterator<Item = (&'a [K], &'a [V])>,
        command: bpf_cmd,
    ) -> Result<(), BatchError> {
        let mut done = 0;
        for (keys, values) in chunks {
            let mut attribute = BatchAttribute {
                in_batch: 0,
                out_batch: 0,
                keys: pointer(keys.as_ptr()),
                values: pointer(values.as_ptr()),
                count: keys.len() as u32,
                map: number(self.fd.as_fd()),
                element_flags: 0,
                flags: 0,
            };
            // SAFETY: the kernel reads `count` keys of the map's key size, and for an update as many values of its
            // value size (generic_map_update_batch, generic_map_delete_batch in kernel/bpf/syscall.c). `new` has
            // compared the sizes, `update` the lengths; the slices outlive the call.
            if let Err(source) = unsafe { bpf(command, &mut attribute) } {
                // How many were done is written back, unless the kernel failed before it began.
                let here = attribute.count as usize;
                return Err(BatchError { done: done + if here < keys.len() { here } else { 0 }, source });
            }
            done += keys.len();
        }
        Ok(())
    }

    /// Reads the map in batches. With writers around, an element that stays may be seen never, once or more than once.
    pub(super) fn read(&self, mut each: impl FnMut(&[K], &[V])) -> io::Result<()> {
        let mut size = BATCH;
        let mut keys: Vec<K> = Vec::new();
        let mut values: Vec<V> = Vec::new();
        // A cursor is a bucket's number (hash maps) or a key (tries).
        let mut cursor = vec![0u8; size_of::<K>().max(size_of::<u32>())];
        let mut next = cursor.clone();
        let mut begun = false;
        loop {
            keys.clear();
            values.clear();
            keys.reserve(size);
            values.reserve(size);
            let mut attribute = BatchAttribute {
                in_batch: if begun { pointer(cursor.as_ptr()) } else { 0 },
                out_batch: pointer(next.as_mut_ptr()),
                keys: pointer(keys.as_mut_ptr()),
                values: pointer(values.as_mut_ptr()),
                count: size as u32,
                map: number(self.fd.as_fd()),
                element_flags: 0,
                flags: 0,
            };
            // SAFETY: the kernel writes at most `count` keys and values of the map's sizes, which `new` has compared,
            // to vectors with room for as many, and reads and writes cursors of 4 bytes (hash maps) or of the key's
            // size (tries), see __htab_map_lookup_and_delete_batch and generic_map_lookup_batch.
            let outcome = unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attribute) };
            let last = match outcome.map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) => false,
                Err((Some(libc::ENOENT), _)) => true,
                // A bucket holds more than there is room for; nothing was read.
                Err((Some(libc::ENOSPC), _)) if size < 1 << 24 => {
                    size *= 2;
                    continue;
                }
                Err((_, error)) => return Err(error),
            };
            let count = (attribute.count as usize).min(size);
            // SAFETY: the kernel has written `count` elements, and any bytes are valid for `Pod` types of integers.
            unsafe {
                keys.set_len(count);
                values.set_len(count);
            }
            each(&keys, &values);
            if last {
                return Ok(());
            }
            std::mem::swap(&mut cursor, &mut next);
            begun = true;
        }
    }
}

/// The element of the array `control`, mapped.
#[derive(Debug)]
pub(super) struct ControlPage {
    control: NonNull<SharedControl>,
    length: usize,
}

/// `policy_common::table::Control` as it is shared with programs that read it meanwhile.
#[repr(C)]
#[derive(Debug)]
struct SharedControl {
    commit: AtomicU64,
    abi: AtomicU32,
    reserved: AtomicU32,
}

const _: () = {
    assert!(size_of::<SharedControl>() == size_of::<Control>());
    assert!(offset_of!(SharedControl, commit) == offset_of!(Control, commit));
    assert!(offset_of!(SharedControl, abi) == offset_of!(Control, abi));
};

// SAFETY: the page is shared memory that stays mapped until drop, whichever thread that happens in.
unsafe impl Send for ControlPage {}
// SAFETY: all access is by atomic operations.
unsafe impl Sync for ControlPage {}

impl ControlPage {
    /// Maps an array that was made with `BPF_F_MMAPABLE`.
    pub(super) fn map(control: BorrowedFd<'_>) -> io::Result<Self> {
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
    pub(super) fn commit(&self) -> u64 {
        self.control().commit.load(Ordering::SeqCst)
    }

    /// Makes a commit live, by one 8-byte store.
    pub(super) fn flip(&self, commit: u64) {
        self.control().commit.store(commit, Ordering::SeqCst);
    }

    /// The version of the tables' layout; 0 until they are complete.
    pub(super) fn abi(&self) -> u32 {
        self.control().abi.load(Ordering::SeqCst)
    }

    /// Declares the tables complete.
    pub(super) fn set_abi(&self, abi: u32) {
        self.control().abi.store(abi, Ordering::SeqCst);
    }
}

impl Drop for ControlPage {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made; nobody can hold a borrow of it any more.
        unsafe { libc::munmap(self.control.as_ptr().cast(), self.length) };
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MapCreateAttribute {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
}

impl Attribute for MapCreateAttribute {}

#[repr(C)]
#[derive(Clone, Copy)]
struct ElementAttribute {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Attribute for ElementAttribute {}

/// What waits until all programs that run now have ended.
///
/// Replacing an element of a map of maps returns only after `synchronize_rcu`, "so that userspace, when we return to
/// it, knows that all programs that could be running use the new map value" (`maybe_wait_bpf_programs` in
/// kernel/bpf/syscall.c); programs run under RCU from their first look-up to their last. `membarrier(2)` would do less:
/// its GLOBAL command is refused with `nohz_full` and returns at once on a machine with one CPU
/// (kernel/sched/membarrier.c), where a program can be preempted all the same.
#[derive(Debug)]
pub(super) struct GracePeriod {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl GracePeriod {
    /// Makes the two maps.
    pub(super) fn new() -> io::Result<Self> {
        let mut attribute = MapCreateAttribute {
            map_type: bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
            flags: 0,
            inner_map: 0,
        };
        // SAFETY: there is no pointer inside.
        let inner = unsafe { bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attribute) }?;
        attribute.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS as u32;
        attribute.inner_map = number(inner.as_fd());
        // SAFETY: as above.
        let outer = unsafe { bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attribute) }?;
        Ok(Self { outer, inner })
    }

    /// Waits for a grace period.
    pub(super) fn wait(&self) -> io::Result<()> {
        let (key, value) = (0u32, number(self.inner.as_fd()));
        let mut attribute = ElementAttribute {
            map: number(self.outer.as_fd()),
            padding: 0,
            key: pointer(&raw const key),
            value: pointer(&raw const value),
            flags: 0,
        };
        // SAFETY: key and value are the 4 bytes that an array of maps takes, and outlive the call.
        unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attribute) }.map(drop)
    }
}

/// Whether a directory is on a BPF file system.
pub(super) fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = c_path(path)?;
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a terminated string and room for the answer, both outliving the call.
    if unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled by the call, which succeeded.
    Ok(unsafe { found.assume_init() }.f_type == libc::BPF_FS_MAGIC)
}

/// Seconds since boot on the clock that the programs stamp flows with (`bpf_ktime_get_coarse_ns`).
pub(super) fn coarse_seconds() -> io::Result<u32> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer that outlives the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(now.tv_sec as u32)
}
