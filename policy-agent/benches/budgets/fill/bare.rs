//! The same table without an agent: made by the loader, filled with nothing but system calls.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Map, MapData};
use aya::{EbpfLoader, Pod};
use policy_agent::datapath::Capacities;
use policy_common::table::Ident;

use crate::sys;

/// How many elements one call inserts, as the datapath does.
const BATCH: usize = 4096;

/// An empty table of identities, in no file system.
pub struct BareTable(MapData);

impl BareTable {
    /// Makes the table of a family, `v4` or `v6`, as large as an agent's.
    pub fn make(family: &str) -> Result<Self> {
        let name = format!("ident_{family}");
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(&name, Capacities::default().addresses)
            .load(aya::include_bytes_aligned!("../../../bpf/crosswall.bpf.o"))
            .context("make the datapath's maps")?;
        match ebpf.take_map(&name) {
            Some(Map::HashMap(data)) => Ok(Self(data)),
            _ => bail!("the datapath's object has no hash map {name}"),
        }
    }

    /// Inserts elements of its family; returns how long the kernel took.
    pub fn insert(&self, elements: &[(IpAddr, Ident)]) -> Result<Duration> {
        let values: Vec<Ident> = elements.iter().map(|(_, ident)| *ident).collect();
        let v4 = elements.iter().filter_map(|(address, _)| match address {
            IpAddr::V4(address) => Some(address.octets()),
            IpAddr::V6(_) => None,
        });
        let v6 = elements.iter().filter_map(|(address, _)| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.octets()),
        });
        match elements.first() {
            Some((IpAddr::V4(_), _)) => self.insert_keys(&v4.collect::<Vec<_>>(), &values),
            _ => self.insert_keys(&v6.collect::<Vec<_>>(), &values),
        }
    }

    fn insert_keys<K: Pod>(&self, keys: &[K], values: &[Ident]) -> Result<Duration> {
        let begun = Instant::now();
        for (keys, values) in keys.chunks(BATCH).zip(values.chunks(BATCH)) {
            sys::insert_batch(&self.0, keys, values)?;
        }
        Ok(begun.elapsed())
    }
}
