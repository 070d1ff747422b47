//! The committed objects in the kernel, without interfaces: filled from modelled tables, run by `BPF_PROG_TEST_RUN`.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData, ProgramArray};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use policy_common::driver::Driver;
use policy_common::family::{FlowKeyOf, V4, V6};
use policy_common::table::{
    ABI_VERSION, Control, Endpoint, Flow, Ident, Local, PortEntry, PortPlace, RuleEntry, RuleKey, nearby_slot,
};
use policy_core::plan::{TableState, ident, local_bits};

use super::world::WEB;

/// How large the tables of flows are; the cases that fill them use all of it.
pub const FLOWS: u32 = 524_288;

/// A program of either object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `from_pod`.
    FromPod,
    /// `to_pod`.
    ToPod,
    /// Does nothing.
    Empty,
    /// Only parses.
    ParseOnly,
}

/// Both objects.
pub struct Kernel {
    datapath: Ebpf,
    bench: Ebpf,
}

impl Kernel {
    /// Loads both, and fills the datapath's tables.
    pub fn load(state: &TableState, flows: u32) -> Result<Self> {
        let datapath = EbpfLoader::new()
            .map_max_entries("flows_v4", flows)
            .map_max_entries("flows_v6", flows)
            .load(aya::include_bytes_aligned!("../../../bpf/crosswall.bpf.o"))
            .context("load the datapath's object")?;
        let bench = EbpfLoader::new()
            .load(aya::include_bytes_aligned!("../../../bpf/bench.bpf.o"))
            .context("load the benchmark's object")?;
        let mut kernel = Self { datapath, bench };
        for program in ["from_pod", "to_pod"] {
            classifier(&mut kernel.datapath, program)?.load().context(program)?;
        }
        for program in ["empty", "parse_only", "drive"] {
            classifier(&mut kernel.bench, program)?.load().context(program)?;
        }
        kernel.fill(state)?;
        Ok(kernel)
    }

    fn program(&mut self, program: Program) -> Result<&mut SchedClassifier> {
        match program {
            Program::FromPod => classifier(&mut self.datapath, "from_pod"),
            Program::ToPod => classifier(&mut self.datapath, "to_pod"),
            Program::Empty => classifier(&mut self.bench, "empty"),
            Program::ParseOnly => classifier(&mut self.bench, "parse_only"),
        }
    }

    /// Runs a program on one packet `repeat` times; returns its last answer and the mean time of a run.
    pub fn run(&mut self, program: Program, packet: &[u8], arrival: u32, repeat: u32) -> Result<(i32, f64)> {
        test_run(self.program(program)?, packet, arrival, repeat)
    }

    /// The same behind the driver, which gives each run another peer.
    pub fn drive(
        &mut self,
        driver: Driver,
        program: Program,
        packet: &[u8],
        arrival: u32,
        repeat: u32,
    ) -> Result<(i32, f64)> {
        let fd = self.program(program)?.fd()?.try_clone()?;
        let mut target = ProgramArray::try_from(self.bench.map_mut("under_test").context("under_test")?)?;
        target.set(0, &fd, 0)?;
        let mut state = Array::<_, Driver>::try_from(self.bench.map_mut("driver").context("driver")?)?;
        state.set(0, driver, 0)?;
        test_run(classifier(&mut self.bench, "drive")?, packet, arrival, repeat)
    }

    /// Makes the flow tables empty.
    pub fn forget_flows(&mut self) -> Result<()> {
        forget::<FlowKeyOf<V4>>(&mut self.datapath, "flows_v4")?;
        forget::<FlowKeyOf<V6>>(&mut self.datapath, "flows_v6")
    }

    /// How many bytes the kernel accounts to a map.
    pub fn memory(&mut self, map: &str) -> Result<u64> {
        let map = self.datapath.map_mut(map).context("no such map")?;
        let data: &MapData = match map {
            aya::maps::Map::HashMap(data) | aya::maps::Map::LruHashMap(data) => data,
            _ => anyhow::bail!("not a hash map"),
        };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(data.fd()));
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
        let line = info.lines().find_map(|line| line.strip_prefix("memlock:")).context("fdinfo has no memlock")?;
        Ok(line.trim().parse()?)
    }

    fn fill(&mut self, state: &TableState) -> Result<()> {
        let ebpf = &mut self.datapath;
        let control = Control { commit: state.commit, abi: ABI_VERSION, ..Control::default() };
        Array::try_from(ebpf.map_mut("control").context("control")?)?.set(0, control, 0)?;
        let mut endpoints = hash::<u32, Endpoint>(ebpf, "endpoints")?;
        state.endpoints.iter().try_for_each(|(ifindex, endpoint)| endpoints.insert(ifindex, endpoint, 0))?;
        let mut nearby: Array<_, Endpoint> = Array::try_from(ebpf.map_mut("nearby").context("nearby")?)?;
        for (ifindex, endpoint) in &state.endpoints {
            nearby.set(nearby_slot(*ifindex), endpoint, 0)?;
        }
        let mut rules = hash::<RuleKey, RuleEntry>(ebpf, "rules")?;
        state.rules.iter().try_for_each(|(key, row)| rules.insert(key, row, 0))?;
        let mut ports: LpmTrie<_, PortPlace, PortEntry> = LpmTrie::try_from(ebpf.map_mut("ports").context("ports")?)?;
        for (key, entry) in state.ports.values().flatten() {
            ports.insert(&Key::new(key.prefix_len, key.place), entry, 0)?;
        }
        let mut bits = Array::try_from(ebpf.map_mut("local_bits").context("local_bits")?)?;
        for (element, word) in (0..).zip(local_bits(state.local.iter().map(|(address, _)| address))) {
            bits.set(element, word, 0)?;
        }
        for (address, local) in state.local.iter() {
            match address {
                IpAddr::V4(it) => hash::<[u8; 4], Local>(ebpf, "local_v4")?.insert(it.octets(), local, 0)?,
                IpAddr::V6(it) => hash::<[u8; 16], Local>(ebpf, "local_v6")?.insert(it.octets(), local, 0)?,
            }
        }
        for (address, identities) in state.idents.iter() {
            let ident = ident(address, identities);
            match address {
                IpAddr::V4(it) => hash::<[u8; 4], Ident>(ebpf, "ident_v4")?.insert(it.octets(), ident, 0)?,
                IpAddr::V6(it) => hash::<[u8; 16], Ident>(ebpf, "ident_v6")?.insert(it.octets(), ident, 0)?,
            }
        }
        anyhow::ensure!(state.nets.is_empty(), "no case here has address blocks");
        Ok(())
    }
}

fn hash<'a, K: aya::Pod, V: aya::Pod>(ebpf: &'a mut Ebpf, name: &str) -> Result<HashMap<&'a mut MapData, K, V>> {
    Ok(HashMap::try_from(ebpf.map_mut(name).with_context(|| format!("no map {name}"))?)?)
}

fn forget<K: aya::Pod>(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let mut flows = hash::<K, Flow>(ebpf, name)?;
    let keys: Vec<K> = flows.keys().collect::<Result<_, _>>()?;
    // The table itself may have been faster.
    keys.iter().for_each(|key| drop(flows.remove(key)));
    Ok(())
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    Ok(ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

fn test_run(program: &mut SchedClassifier, packet: &[u8], arrival: u32, repeat: u32) -> Result<(i32, f64)> {
    let mut context = [0u8; 192];
    // The offsets of `struct __sk_buff` (include/uapi/linux/bpf.h).
    context[36..40].copy_from_slice(&arrival.to_ne_bytes());
    context[40..44].copy_from_slice(&WEB.to_ne_bytes());
    let options = TestRunOptions { data_in: Some(packet), ctx_in: Some(&context), repeat, ..TestRunOptions::default() };
    let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
    Ok((result.return_value.cast_signed(), result.duration.as_nanos() as f64))
}
