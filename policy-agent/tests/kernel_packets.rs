//! The decision in the kernel is the decision on the host: the committed object and `policy-common` judge the same
//! packets, valid and malformed, under the same compiled tables, and leave the same flows and counts behind.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use policy_common::decide::{self, Context};
use policy_common::family::{FlowKeyOf, V4, V6};
use policy_common::reason::Reason;
use policy_common::table::{
    ABI_VERSION, Control, Endpoint, EndpointCounters, Flow, FlowState, Ident, Local, NetIdent, PortEntry, PortPlace,
    RuleEntry, RuleKey,
};
use policy_core::compile::Subjects;
use policy_core::judge::opening_packet;
use policy_core::model::{Connection, Protocol, Scope, Transport};
use policy_core::modelled::Modelled;
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Limits, TableState};
use policy_core::testing::{abc, block, namespace, pod, pods, pods_in, policy, rule};

/// The interface of the endpoint under test: loopback exists in every network namespace.
const OWN: u32 = 1;
const OTHER: u32 = 4001;
const ADDRESSES: [&str; 10] = [
    "10.1.0.1",
    "10.1.0.2",
    "10.2.0.1",
    "10.2.0.9",
    "203.0.113.7",
    "fd00:1::1",
    "fd00:1::2",
    "fd00:2::1",
    "fe80::1",
    "::",
];

/// A ClusterSet in which every kind of row is in use, compiled with `a/shop/web` behind [`OWN`].
fn tables() -> TableState {
    let set = abc()
        .scope(Scope::ClusterSet)
        .with(namespace("a/shop"))
        .with(namespace("b/shop"))
        .with(pod("a/shop/web").labels("app=web").ip("10.1.0.1").ip("fd00:1::1").port("http", 8080))
        .with(pod("a/shop/db").labels("app=db").ip("10.1.0.2").ip("fd00:1::2"))
        .with(pod("b/shop/web").labels("app=web").ip("10.2.0.1").ip("fd00:2::1"))
        .with(policy("a/shop/web").select("app=web").ingress([
            rule().peer(pods("app=web")).ports("TCP/http"),
            rule().peer(pods_in("", "app=db")),
            rule().peer(block("203.0.113.0/24", "")).ports("TCP/1000-2999"),
        ]))
        .with(policy("a/shop/out").select("app=web").egress([
            rule().peer(pods("app=db")),
            rule().peer(block("fd00:2::/32", "fd00:2:1::/48")).ports("UDP/53"),
            rule().peer(block("10.2.0.0/16", "")).ports("TCP/1-1023 SCTP"),
        ]));
    let mut node = Node::new(set.config(), Subjects::All, TableState::default(), Limits::default());
    node.apply(&set.events());
    let keys: Vec<_> = node.compiler().subjects().keys().cloned().collect();
    for key in keys {
        let ifindex = if &*key.name == "web" { OWN } else { OTHER };
        node.attach(&key, Attachment { ifindex, bridge: None });
    }
    node.set_host_addresses(["10.2.0.9".parse().expect("an address")].into());
    node.settle().expect("there are no limits");
    node.tables().clone()
}

/// The committed object in the kernel.
struct Kernel {
    ebpf: Ebpf,
}

impl Kernel {
    fn load(state: &TableState) -> Self {
        let object = aya::include_bytes_aligned!("../bpf/crosswall.bpf.o");
        let mut ebpf = EbpfLoader::new().load(object).expect("the kernel takes the object");
        for name in ["from_pod", "to_pod"] {
            let program: &mut SchedClassifier =
                ebpf.program_mut(name).expect("the object has it").try_into().expect("a classifier");
            program.load().unwrap_or_else(|error| panic!("the verifier refuses {name}: {error:#?}"));
        }
        let mut kernel = Self { ebpf };
        kernel.fill(state);
        kernel
    }

    fn hash<K: aya::Pod, V: aya::Pod>(&mut self, name: &str) -> HashMap<&mut MapData, K, V> {
        HashMap::try_from(self.ebpf.map_mut(name).expect(name)).expect(name)
    }

    fn trie<K: aya::Pod, V: aya::Pod>(&mut self, name: &str) -> LpmTrie<&mut MapData, K, V> {
        LpmTrie::try_from(self.ebpf.map_mut(name).expect(name)).expect(name)
    }

    fn fill(&mut self, state: &TableState) {
        let control = Control { commit: state.commit, abi: ABI_VERSION, reserved: 0 };
        let mut array = Array::try_from(self.ebpf.map_mut("control").expect("control")).expect("control");
        array.set(0, control, 0).expect("control");
        for (ifindex, endpoint) in &state.endpoints {
            self.hash::<u32, Endpoint>("endpoints").insert(ifindex, endpoint, 0).expect("endpoints");
        }
        for (key, row) in &state.rules {
            self.hash::<RuleKey, RuleEntry>("rules").insert(key, row, 0).expect("rules");
        }
        for (key, entry) in state.ports.values().flatten() {
            let key = Key::new(key.prefix_len, key.place);
            self.trie::<PortPlace, PortEntry>("ports").insert(&key, entry, 0).expect("ports");
        }
        for (address, local) in &state.local {
            match address {
                IpAddr::V4(it) => self.hash::<[u8; 4], Local>("local_v4").insert(it.octets(), local, 0),
                IpAddr::V6(it) => self.hash::<[u8; 16], Local>("local_v6").insert(it.octets(), local, 0),
            }
            .expect("local");
        }
        for (address, ident) in &state.idents {
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
    fn judge(&mut self, hook: Hook, packet: &[u8], arrival: u32) -> bool {
        let program: &mut SchedClassifier =
            self.ebpf.program_mut(hook.name()).expect("loaded").try_into().expect("a classifier");
        let mut context = [0u8; 192];
        // The offsets of `struct __sk_buff` (include/uapi/linux/bpf.h).
        context[36..40].copy_from_slice(&arrival.to_ne_bytes());
        context[40..44].copy_from_slice(&OWN.to_ne_bytes());
        let options =
            TestRunOptions { data_in: Some(packet), ctx_in: Some(&context), repeat: 1, ..TestRunOptions::default() };
        let result = program.test_run(options).expect("BPF_PROG_TEST_RUN");
        match result.return_value.cast_signed() {
            -1 => true,
            2 => false,
            other => panic!("{} returned {other}", hook.name()),
        }
    }

    fn flows<K: aya::Pod + Ord>(&mut self, name: &str) -> BTreeMap<K, FlowState> {
        let flows = self.hash::<K, Flow>(name);
        flows.iter().map(|flow| flow.map(|(key, flow)| (key, flow.state)).expect(name)).collect()
    }

    /// How many packets each hook saw, by reason.
    fn counts(&mut self, element: u32) -> [[u64; Reason::ALL.len()]; 2] {
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    FromPod,
    ToPod,
}

impl Hook {
    fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::ToPod => "to_pod",
        }
    }
}

/// A small reproducible source of choices (SplitMix64).
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A packet that opens a connection between the endpoint (or a liar) and somebody.
    fn opening(&mut self, hook: Hook) -> Vec<u8> {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        loop {
            let own = self.pick(&["10.1.0.1", "10.1.0.1", "fd00:1::1", "fd00:1::1", "10.1.0.2"]);
            let other = self.pick(&ADDRESSES);
            let (source, destination) = if hook == Hook::FromPod { (own, other) } else { (other, own) };
            let transport = match self.below(8) {
                0 => Transport::Icmp,
                1 => Transport::Other(47),
                2 => Transport::Port(Protocol::Sctp, self.pick(&[80, 8080])),
                3 => Transport::Port(Protocol::Udp, self.pick(&[53, 8080])),
                _ => Transport::Port(Protocol::Tcp, self.pick(&[80, 443, 1000, 2999, 3000, 8080])),
            };
            let connection = Connection { source: address(source), destination: address(destination), transport };
            if let Some(packet) = opening_packet(&connection) {
                return packet;
            }
        }
    }

    /// A packet: as it opens a connection, a later one, a reply, or with bytes changed, cut off or put in front.
    fn packet(&mut self, hook: Hook) -> Vec<u8> {
        let mut packet = self.opening(hook);
        let ip_length = if packet[12] == 8 { 20 } else { 40 };
        let transport = 14 + ip_length;
        match self.below(7) {
            0 if packet.len() > transport + 13 => packet[transport + 13] = self.pick(&[0x02, 0x10, 0x12, 0x11, 0x04]),
            1 | 2 if packet.len() > transport + 13 => {
                packet[transport..transport + 4].rotate_left(2);
                packet[transport + 13] = self.pick(&[0x02, 0x10, 0x12]);
            }
            3 => {
                for _ in 0..=self.below(4) {
                    let place = 12 + self.below(packet.len() - 12);
                    packet[place] = self.next() as u8;
                }
            }
            4 => packet.truncate(15 + self.below(packet.len())),
            5 if ip_length == 40 => {
                let next = packet[20];
                packet[20] = self.pick(&[0, 43, 44, 51, 60]);
                let header = [next, 0, self.next() as u8 & 8, self.next() as u8 & 1, 0, 0, 0, 0];
                packet.splice(54..54, header);
                let length = u16::from_be_bytes([packet[18], packet[19]]) + 8;
                packet[18..20].copy_from_slice(&length.to_be_bytes());
            }
            _ => {}
        }
        // The kernel's test run takes no less than a whole IP header of the kind that the frame announces.
        let least = if packet[12..14] == [0x86, 0xdd] { 54 } else { 34 };
        packet.resize(packet.len().max(least), 0);
        packet
    }
}

fn states<K: Ord + Copy>(flows: &hashbrown::HashMap<K, Flow>) -> BTreeMap<K, FlowState> {
    flows.iter().map(|(key, flow)| (*key, flow.state)).collect()
}

#[test]
fn the_kernel_decides_as_the_host_on_random_and_malformed_packets() {
    let state = tables();
    let mut kernel = Kernel::load(&state);
    let host = Modelled::new(&state);
    let mut counted = [[0u64; Reason::ALL.len()]; 2];
    let mut choices = Choices(20_261_122);
    let (mut allowed, mut denied) = (0, 0);
    for number in 0..20_000 {
        let hook = choices.pick(&[Hook::FromPod, Hook::ToPod]);
        let packet = choices.packet(hook);
        let arrival = choices.pick(&[0, OWN, OTHER, 77]);
        // The kernel gives test packets a socket.
        let context = Context { ifindex: OWN, ingress_ifindex: arrival, has_socket: true };
        let expected = match hook {
            Hook::FromPod => decide::from_pod(packet.as_slice(), &context, &host),
            Hook::ToPod => decide::to_pod(packet.as_slice(), &context, &host),
        };
        counted[hook as usize][expected.reason as usize] += 1;
        let passed = kernel.judge(hook, &packet, arrival);
        assert_eq!(passed, expected.allow, "packet {number} at {hook:?} from {arrival}: {expected:?}\n{packet:02x?}");
        *if passed { &mut allowed } else { &mut denied } += 1;
    }
    assert!(allowed > 1_000 && denied > 1_000, "{allowed} allowed, {denied} denied");
    assert_eq!(kernel.flows::<FlowKeyOf<V4>>("flows_v4"), states(&host.flows_v4.borrow()));
    assert_eq!(kernel.flows::<FlowKeyOf<V6>>("flows_v6"), states(&host.flows_v6.borrow()));
    assert_eq!(kernel.counts(state.endpoints[&OWN].counters), counted);
}
