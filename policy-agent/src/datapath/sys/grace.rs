//! Waiting until no program reads what was replaced.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use aya_obj::generated::{bpf_cmd, bpf_map_type};

use super::{Attribute, ElementAttribute, bpf, bpf_fd, number, pointer};

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

/// What waits until all programs that run now have ended.
///
/// Replacing an element of a map of maps returns only after `synchronize_rcu`, "so that userspace, when we return to
/// it, knows that all programs that could be running use the new map value" (`maybe_wait_bpf_programs` in
/// kernel/bpf/syscall.c); programs run under RCU from their first look-up to their last. `membarrier(2)` would do less:
/// its GLOBAL command is refused with `nohz_full` and returns at once on a machine with one CPU
/// (kernel/sched/membarrier.c), where a program can be preempted all the same.
#[derive(Debug)]
pub(in crate::datapath) struct GracePeriod {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl GracePeriod {
    /// Makes the two maps.
    pub(in crate::datapath) fn new() -> io::Result<Self> {
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
    pub(in crate::datapath) fn wait(&self) -> io::Result<()> {
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
