//! The committed object in the kernel, without interfaces: filled from modelled tables, run by `BPF_PROG_TEST_RUN`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use policy_common::family::{FlowKeyOf, V4, V6};
use policy_common::reason::Reason;
use policy_common::table::{
    ABI_VERSION, Control, Cut, Endpoint, EndpointCounters, Flow, FlowState, Ident, Local, NetIdent, PortEntry,
    PortPlace, RuleEntry, RuleKey, nearby_slot,
};
use policy_core::plan::{TableState, ident, local_bits};
use policy_core::testing::packets::{Hook, WEB};

/// The committed object in the kernel.
pub struct Kernel {
    ebpf: Ebpf,
}

impl Kernel {
    /// Loads it and fills its maps.
    pub fn load(state: &TableState) -> Self {
        let object = aya::include_bytes_aligned!("../../bpf/crosswall.bpf.o");
        let mut ebpf = EbpfLoader::new().load(object).expect("the kernel takes the object");
        for name in ["from_pod", "to_pod"] {
            let program: &mut SchedClassifier =
                ebpf.program_mut(name).expect("the object has it").try_into().expect("a classifier");
            program.load().unwrap_or_else(|error| panic!("the verifier refuses {name}: {error:#?}"));
        }
        let mut kernel = Self { ebpf };
        kernel.begin(state);
        kernel
    }

    fn hash<K: aya::Pod, V: aya::Pod>(&mut self, name: &str) -> HashMap<&mut MapData, K, V> {
        HashMap::try_from(self.ebpf.map_mut(name).expect(name)).expect(name)
    }

    fn trie<K: aya::Pod, V: aya::Pod>(&mut self, name: &str) -> LpmTrie<&mut MapData, K, V> {
        LpmTrie::try_from(self.ebpf.map_mut(name).expect(name)).expect(name)
    }

    /// Makes the maps hold this, and nothing else; flows stay.
    pub fn hold(&mut self, state: &TableState) {
        self.empty_nearby();
        self.clear::<u32, Endpoint>("endpoints");
        self.clear::<RuleKey, RuleEntry>("rules");
        self.clear::<[u8; 4], Local>("local_v4");
        self.clear::<[u8; 16], Local>("local_v6");
        self.clear::<[u8; 4], Ident>("ident_v4");
        self.clear::<[u8; 16], Ident>("ident_v6");
        self.clear_trie::<PortPlace, PortEntry>("ports");
        self.clear_trie::<[u8; 4], NetIdent>("nets_v4");
        self.clear_trie::<[u8; 16], NetIdent>("nets_v6");
        self.fill(state);
    }

    /// Makes the maps hold this, and the tables of connections nothing.
    pub fn begin(&mut self, state: &TableState) {
        self.forget_flows();
        self.clear::<FlowKeyOf<V4>, Cut>("cuts_v4");
        self.clear::<FlowKeyOf<V6>, Cut>("cuts_v6");
        self.hold(state);
    }

    /// Empties the flow tables.
    pub fn forget_flows(&mut self) {
        self.clear::<FlowKeyOf<V4>, Flow>("flows_v4");
        self.clear::<FlowKeyOf<V6>, Flow>("flows_v6");
    }

    /// Empties `nearby`, so that endpoints are found in `endpoints`.
    pub fn empty_nearby(&mut self) {
        let keys: Vec<u32> =
            self.hash::<u32, Endpoint>("endpoints").keys().map(|key| key.expect("endpoints")).collect();
        keys.into_iter().for_each(|ifindex| self.set_nearby(ifindex, Endpoint::default()));
    }

    fn set_nearby(&mut self, ifindex: u32, endpoint: Endpoint) {
        let mut array = Array::try_from(self.ebpf.map_mut("nearby").expect("nearby")).expect("nearby");
        array.set(nearby_slot(ifindex), endpoint, 0).expect("nearby");
    }

    fn set_local_bits(&mut self, state: &TableState) {
        let mut array = Array::try_from(self.ebpf.map_mut("local_bits").expect("local_bits")).expect("local_bits");
        for (element, bits) in (0..).zip(local_bits(state.local.iter().map(|(address, _)| address))) {
            array.set(element, bits, 0).expect("local_bits");
        }
    }

    fn clear<K: aya::Pod, V: aya::Pod>(&mut self, name: &str) {
        let mut map = self.hash::<K, V>(name);
        let keys: Vec<K> = map.keys().map(|key| key.expect(name)).collect();
        for key in keys {
            map.remove(&key).expect(name);
        }
    }

    fn clear_trie<K: aya::Pod, V: aya::Pod>(&mut self, name: &str) {
        let mut trie = self.trie::<K, V>(name);
        let keys: Vec<Key<K>> = trie.keys().map(|key| key.expect(name)).collect();
        for key in keys {
            trie.remove(&key).expect(name);
        }
    }

    fn fill(&mut self, state: &TableState) {
        let mut array = Array::try_from(self.ebpf.map_mut("control").expect("control")).expect("control");
        let known: Control = array.get(&0, 0).expect("control");
        let control = Control { commit: state.commit, abi: ABI_VERSION, ..known };
        array.set(0, control, 0).expect("control");
        for (ifindex, endpoint) in &state.endpoints {
            self.hash::<u32, Endpoint>("endpoints").insert(ifindex, endpoint, 0).expect("endpoints");
            self.set_nearby(*ifindex, *endpoint);
        }
        for (key, row) in &state.rules {
            self.hash::<RuleKey, RuleEntry>("rules").insert(key, row, 0).expect("rules");
        }
        for (key, entry) in state.ports.values().flatten() {
            let key = Key::new(key.prefix_len, key.place);
            self.trie::<PortPlace, PortEntry>("ports").insert(&key, entry, 0).expect("ports");
        }
        self.set_local_bits(state);
        for (address, local) in state.local.iter() {
            match address {
                IpAddr::V4(it) => self.hash::<[u8; 4], Local>("local_v4").insert(it.octets(), local, 0),
                IpAddr::V6(it) => self.hash::<[u8; 16], Local>("local_v6").insert(it.octets(), local, 0),
            }
            .expect("local");
        }
        for (address, identities) in state.idents.iter() {
            let ident = ident(address, identities);
            match address {
                IpAddr::V4(it) => self.hash::<[u8; 4], Ident>("ident_v4").insert(it.octets(), ident, 0),
                IpAddr::V6(it) => self.hash::<[u8; 16], Ident>("ident_v6").insert(it.octets(), ident, 0),
            }
            .expect("ident");
        }
        for (prefix, net) in &state.nets {
            let length = u32::from(prefix.prefix_len());
            match prefix.network() {
                IpAddr::V4(it) => {
                    self.trie::<[u8; 4], NetIdent>("nets_v4").insert(&Key::new(length, it.octets()), net, 0)
                }
                IpAddr::V6(it) => {
                    self.trie::<[u8; 16], NetIdent>("nets_v6").insert(&Key::new(length, it.octets()), net, 0)
                }
            }
            .expect("nets");
        }
    }

    /// Whether the kernel lets a packet pass.
    pub fn judge(&mut self, hook: Hook, packet: &[u8], arrival: u32) -> bool {
        let program: &mut SchedClassifier =
            self.ebpf.program_mut(name(hook)).expect("loaded").try_into().expect("a classifier");
        let mut context = [0u8; 192];
        // The offsets of `struct __sk_buff` (include/uapi/linux/bpf.h).
        context[36..40].copy_from_slice(&arrival.to_ne_bytes());
        context[40..44].copy_from_slice(&WEB.to_ne_bytes());
        let options =
            TestRunOptions { data_in: Some(packet), ctx_in: Some(&context), repeat: 1, ..TestRunOptions::default() };
        let result = program.test_run(options).expect("BPF_PROG_TEST_RUN");
        match result.return_value.cast_signed() {
            -1 => true,
            2 => false,
            other => panic!("{} returned {other}", name(hook)),
        }
    }

    /// All flows of a map.
    pub fn flows<K: aya::Pod + Ord>(&mut self, name: &str) -> BTreeMap<K, FlowState> {
        let flows = self.hash::<K, Flow>(name);
        flows.iter().map(|flow| flow.map(|(key, flow)| (key, flow.state)).expect(name)).collect()
    }

    /// How many packets each hook saw, by reason.
    pub fn counts(&mut self, element: u32) -> [[u64; Reason::ALL.len()]; 2] {
        let counters = PerCpuArray::<_, EndpointCounters>::try_from(self.ebpf.map_mut("counters").expect("counters"))
            .expect("counters")
            .get(&element, 0)
            .expect("counters");
        let sum = |packets: &dyn Fn(&EndpointCounters, usize) -> u64| {
            Reason::ALL.map(|reason| counters.iter().map(|cpu| packets(cpu, reason as usize)).sum())
        };
        [sum(&|cpu, reason| cpu.from_pod[reason].packets), sum(&|cpu, reason| cpu.to_pod[reason].packets)]
    }
}

fn name(hook: Hook) -> &'static str {
    match hook {
        Hook::FromPod => "from_pod",
        Hook::ToPod => "to_pod",
    }
}
