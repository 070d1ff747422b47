//! The decision in the kernel is the decision on the host: the committed object and `policy-common` judge the same
//! random packets, valid and malformed, under the same compiled tables, and leave the same flows and counts behind.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::kernel::Kernel;
use policy_common::decide::{self, Context};
use policy_common::family::{FlowKeyOf, V4, V6};
use policy_common::reason::Reason;
use policy_common::table::{Flow, FlowState};
use policy_core::compile::Subjects;
use policy_core::judge::opening_packet;
use policy_core::model::{Connection, Protocol, Scope, Transport};
use policy_core::modelled::Modelled;
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Limits, TableState};
use policy_core::testing::packets::{Hook, WEB as OWN};
use policy_core::testing::{abc, block, namespace, pod, pods, pods_in, policy, rule};

const OTHER: u32 = 4001;
/// The variable that says how many packets there are, and how many without it; the first half with the endpoint in
/// `nearby`.
const PACKETS: (&str, u64) = ("CROSSWALL_DECISION_PACKETS", 20_000);
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

/// How many packets are asked for.
fn packets() -> u64 {
    let (variable, default) = PACKETS;
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
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
    let packets = packets();
    for number in 0..packets {
        if number == packets / 2 {
            kernel.empty_nearby();
        }
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
    let flows = host.into_flows();
    assert_eq!(kernel.flows::<FlowKeyOf<V4>>("flows_v4"), states(&flows.v4.flows));
    assert_eq!(kernel.flows::<FlowKeyOf<V6>>("flows_v6"), states(&flows.v6.flows));
    assert_eq!(kernel.counts(state.endpoints[&OWN].counters), counted);
}
