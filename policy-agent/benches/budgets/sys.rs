//! What no safe crate offers here: an allocator that counts, the time of one core, bpf(2) for many elements at once.
#![expect(unsafe_code, reason = "an allocator, and system calls")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::Pod;
use aya::maps::MapData;
use aya_obj::generated::bpf_cmd;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

/// The system's allocator, which counts bytes once it is told to.
struct CountingAllocator;

fn count(bytes: usize, sign: i64) {
    if IS_COUNTING.load(Relaxed) {
        let change = sign * bytes as i64;
        let live = LIVE.fetch_add(change, Relaxed) + change;
        PEAK.fetch_max(live, Relaxed);
    }
}

// SAFETY: every call is passed on as it is to the system's allocator, which keeps the contract; counting allocates nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(new_size, 1);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(place, layout, new_size) }
    }
}

/// Bytes that were asked for since counting began and not given back; what is given back of earlier ones counts too.
#[derive(Clone, Copy, Debug)]
pub struct Heap {
    /// Now.
    pub live: i64,
    /// The most at any moment.
    pub peak: i64,
}

impl Heap {
    /// Begins to count.
    pub fn count() {
        IS_COUNTING.store(true, Relaxed);
    }

    /// What was counted.
    pub fn now() -> Self {
        Self { live: LIVE.load(Relaxed), peak: PEAK.load(Relaxed) }
    }
}

/// For how long this thread has had a core.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer, which outlives the call.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(answer, 0, "every Linux has this clock");
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The part of `union bpf_attr` that the batch commands read (include/uapi/linux/bpf.h).
#[repr(C)]
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

/// Inserts elements with one call of bpf(2).
pub fn insert_batch<K: Pod, V: Pod>(map: &MapData, keys: &[K], values: &[V]) -> Result<()> {
    let info = map.info().context("look at the map")?;
    ensure!(
        (info.key_size() as usize, info.value_size() as usize) == (size_of::<K>(), size_of::<V>()),
        "the map's keys or values have another size"
    );
    ensure!(keys.len() == values.len(), "a value for each key");
    let mut attribute = BatchAttribute {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: u32::try_from(keys.len())?,
        map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    let (command, size) = (bpf_cmd::BPF_MAP_UPDATE_BATCH as libc::c_int, size_of::<BatchAttribute>());
    // SAFETY: the kernel reads `count` keys and values of the map's sizes (generic_map_update_batch in
    // kernel/bpf/syscall.c), which were compared with those of the slices, and writes `count` back to the attribute;
    // all of them outlive the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attribute, size) };
    ensure!(answer == 0, "insert {} elements at once: {}", keys.len(), io::Error::last_os_error());
    Ok(())
}
