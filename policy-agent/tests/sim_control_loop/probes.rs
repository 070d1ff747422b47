//! Which connections are looked at: between addresses that pods have, and policies care about.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use policy_core::model::{Connection, Direction, Protocol, Transport};

use crate::dice::Dice;
use crate::generate::{SLOTS, slot_addresses};
use crate::script::Probe;

/// Addresses of pods of other nodes, and their clusters.
pub const ELSEWHERE: [(&str, &str); 8] = [
    ("10.1.0.4", "a"),
    ("10.2.0.1", "b"),
    ("10.2.0.2", "b"),
    ("10.2.0.3", "b"),
    ("fd00:2::1", "b"),
    ("fd00:2::2", "b"),
    ("10.3.0.1", "c"),
    ("fd00:3::1", "c"),
];

/// An address that the node mostly has.
pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1));

const TRANSPORTS: [Transport; 5] = [
    Transport::Port(Protocol::Tcp, 80),
    Transport::Port(Protocol::Tcp, 80),
    Transport::Port(Protocol::Tcp, 8080),
    Transport::Port(Protocol::Udp, 53),
    Transport::Icmp,
];

/// How many connections are judged after every step.
const PROBES: usize = 40;

/// Connections of the node's pods, some of all.
pub fn choose(dice: &mut Dice) -> Vec<Probe> {
    let mut chosen = BTreeSet::new();
    while chosen.len() < PROBES {
        let (own, peer) = ends(dice);
        let direction = *dice.pick(&Direction::BOTH);
        let (source, destination) = if direction == Direction::Egress { (own, peer) } else { (peer, own) };
        let transport = *dice.pick(&TRANSPORTS);
        chosen.insert(Probe { direction, connection: Connection { source, destination, transport } });
    }
    chosen.into_iter().collect()
}

/// A connection to be opened: own end, other end, whether from the own one, protocol and port.
///
/// Mostly between addresses that pods have now.
pub fn connection(dice: &mut Dice, own: &[IpAddr], remote: &[IpAddr]) -> (IpAddr, IpAddr, bool, Protocol, u16) {
    let (mut own, mut peer) = if own.is_empty() || dice.percent(20) { ends(dice) } else { (*dice.pick(own), own[0]) };
    let of_its_family: Vec<IpAddr> = remote.iter().copied().filter(|it| it.is_ipv4() == own.is_ipv4()).collect();
    if !of_its_family.is_empty() && dice.percent(80) {
        peer = *dice.pick(&of_its_family);
    }
    if own == peer || own.is_ipv4() != peer.is_ipv4() {
        (own, peer) = ends(dice);
    }
    let (protocol, port) = *dice.pick(&[(Protocol::Tcp, 80), (Protocol::Tcp, 8080), (Protocol::Udp, 53)]);
    (own, peer, dice.percent(50), protocol, port)
}

/// An address of this node's pods, and another one of its family.
fn ends(dice: &mut Dice) -> (IpAddr, IpAddr) {
    let slot = dice.below(SLOTS);
    let own = *dice.pick(&slot_addresses(slot));
    let nobodys = ["203.0.113.7", "2001:db8::7", "10.1.0.9"];
    let texts = ELSEWHERE.iter().map(|(text, _)| *text).chain(nobodys);
    let elsewhere = texts.map(|text| text.parse::<IpAddr>().expect("an address"));
    let others: Vec<IpAddr> = elsewhere
        .chain((0..SLOTS).flat_map(slot_addresses))
        .filter(|other| *other != own && other.is_ipv4() == own.is_ipv4())
        .collect();
    (own, *dice.pick(&others))
}
