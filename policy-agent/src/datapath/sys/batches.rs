//! Reading and writing many elements of a map at once, or one.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::Pod;
use aya_obj::generated::bpf_cmd;

use super::{Attribute, ElementAttribute, Info, bpf, info, number, pointer};

/// How many elements one batch moves; larger ones only hold memory longer.
const BATCH: usize = 4096;

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
pub(in crate::datapath) struct BatchError {
    /// How many elements were done; the next one is the one at fault.
    pub(in crate::datapath) done: usize,
    /// What the kernel said.
    pub(in crate::datapath) source: io::Error,
}

/// How far a map of keys `K` was read: a bucket's number (hash maps) or a key (tries); at first, not at all.
#[derive(Debug)]
pub(in crate::datapath) struct Cursor<K> {
    place: Option<Vec<u8>>,
    types: PhantomData<fn(K)>,
}

impl<K> Default for Cursor<K> {
    fn default() -> Self {
        Self { place: None, types: PhantomData }
    }
}

/// A hash map or trie whose keys and values have the sizes of `K` and `V`.
#[derive(Debug)]
pub(in crate::datapath) struct TypedMap<K, V> {
    fd: OwnedFd,
    types: PhantomData<fn(K, V)>,
}

impl<K: Pod, V: Pod> TypedMap<K, V> {
    /// Takes a map; refuses one with other sizes.
    pub(in crate::datapath) fn new(fd: OwnedFd) -> io::Result<Self> {
        let MapInfo { key_size, value_size, .. } = info(fd.as_fd())?;
        if (key_size as usize, value_size as usize) != (size_of::<K>(), size_of::<V>()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the map's keys or values have another size"));
        }
        Ok(Self { fd, types: PhantomData })
    }

    /// Inserts or replaces elements, in order, each atomically.
    pub(in crate::datapath) fn update(&self, keys: &[K], values: &[V]) -> Result<(), BatchError> {
        assert_eq!(keys.len(), values.len(), "a value for each key");
        let chunks = keys.chunks(BATCH).zip(values.chunks(BATCH));
        self.each_chunk(chunks, bpf_cmd::BPF_MAP_UPDATE_BATCH)
    }

    /// Removes elements, in order; one that is not there is an error.
    pub(in crate::datapath) fn delete(&self, keys: &[K]) -> Result<(), BatchError> {
        self.each_chunk(keys.chunks(BATCH).map(|keys| (keys, [].as_slice())), bpf_cmd::BPF_MAP_DELETE_BATCH)
    }

    /// Reads one element of a hash map, without making it look used (`htab_lru_map_lookup_elem_sys`).
    pub(in crate::datapath) fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        let mut attribute = ElementAttribute {
            map: number(self.fd.as_fd()),
            padding: 0,
            key: pointer(&raw const *key),
            value: pointer(value.as_mut_ptr()),
            flags: 0,
        };
        // SAFETY: the kernel reads a key and writes a value of the map's sizes, which `new` has compared
        // (map_lookup_elem in kernel/bpf/syscall.c); both outlive the call.
        match unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attribute) } {
            // SAFETY: written whole by the call, which succeeded.
            Ok(_) => Ok(Some(unsafe { value.assume_init() })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
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

    /// Reads the map. With writers around, an element that stays may be seen never, once or more than once.
    pub(in crate::datapath) fn read(&self, mut each: impl FnMut(&[K], &[V])) -> io::Result<()> {
        let mut cursor = Cursor::default();
        while !self.read_batch(&mut cursor, &mut each)? {}
        Ok(())
    }

    /// Reads the next batch; returns whether it was the last one, after which the cursor is at the beginning again.
    pub(in crate::datapath) fn read_batch(
        &self,
        cursor: &mut Cursor<K>,
        mut each: impl FnMut(&[K], &[V]),
    ) -> io::Result<bool> {
        let mut size = BATCH;
        loop {
            let mut keys: Vec<K> = Vec::with_capacity(size);
            let mut values: Vec<V> = Vec::with_capacity(size);
            let mut next = vec![0u8; size_of::<K>().max(size_of::<u32>())];
            let mut attribute = BatchAttribute {
                in_batch: cursor.place.as_ref().map_or(0, |place| pointer(place.as_ptr())),
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
            // size (tries), see __htab_map_lookup_and_delete_batch and generic_map_lookup_batch. A cursor is
            // as long: its type says of which keys it is.
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
            cursor.place = (!last).then_some(next);
            return Ok(last);
        }
    }
}
