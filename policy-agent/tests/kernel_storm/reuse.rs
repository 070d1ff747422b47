//! The kernel reuses the memory of elements that are deleted or replaced at once: a program that found one just before
//! reads another key's value. Tags tell.
//!
//! Two elements are replaced in turn as fast as can be, so that each takes the memory that the other just had, while
//! programs look both up. An interrupt between a look-up and the read of what was found gives the time for that.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use policy_common::family::{FlowKeyOf, V4};
use policy_common::flow::{self, Opener};
use policy_common::reason::Reason;
use policy_common::table::{
    Arrival, EndpointPolicy, Flow, FlowKey, FlowState, Ident, POLICY_OPEN, REASON_SLOTS, Tagged,
};
use policy_common::tables::Direction;
use policy_core::plan::{Step, Write, address_tag, ident};

use crate::choices::{Choices, from_environment};
use crate::frames::{PEER_PORT, Packet, Says, Way};
use crate::machine::{Judge, Machine, WEB, alone, interrupt};
use crate::world::{Egress, Family, Peer, SERVED, State, cluster_set, packet};

/// For how long each storm lasts, in milliseconds, unless this variable says otherwise.
const LONG: (&str, u64) = ("CROSSWALL_STORM_MS", 1500);
/// How many times a packet is sent before anybody looks.
const OFTEN: u32 = 20_000;
/// How many times elements are replaced in a batch.
const PAIRS: usize = 2_000;

fn machine() -> Machine {
    Machine::new(&cluster_set(&State::random(&mut Choices(7)).egress(Egress::Nobody)))
}

/// What became of packets, by reason.
#[derive(Default)]
struct Verdicts([u64; REASON_SLOTS]);

impl Verdicts {
    fn count(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    /// No more than these may have come up.
    fn assert_only(&self, whose: &str, reasons: &[Reason]) {
        let known: u64 = reasons.iter().map(|reason| self.count(*reason)).sum();
        let strange: Vec<_> = Reason::ALL.iter().filter(|it| !reasons.contains(it) && self.count(**it) > 0).collect();
        let counts: Vec<_> = strange.iter().map(|reason| (reason, self.count(**reason))).collect();
        assert!(strange.is_empty() && known > 0, "{whose}: of {} packets {counts:?}", self.all());
    }
}

/// Sends packets in turn until it is over.
fn send<const N: usize>(judge: &mut Judge, packets: &[Packet; N], is_over: &AtomicBool) -> [Verdicts; N] {
    let mut verdicts = std::array::from_fn(|_| Verdicts::default());
    while !is_over.load(Ordering::Relaxed) {
        for (packet, seen) in packets.iter().zip(&mut verdicts) {
            let judged = judge.judged(packet, OFTEN);
            seen.0.iter_mut().zip(judged).for_each(|(sum, count)| *sum += count);
        }
    }
    verdicts
}

/// Lets a storm rage over the tables while packets are sent; says how often it did what it does.
fn storm<const N: usize>(
    machine: &mut Machine,
    packets: &[Packet; N],
    mut rage: impl FnMut(&mut Machine) -> usize,
) -> [Verdicts; N] {
    let (name, default) = LONG;
    let end = Instant::now() + Duration::from_millis(from_environment(name, default));
    let is_over = &AtomicBool::new(false);
    let mut judge = machine.judge();
    let (written, verdicts) = thread::scope(|scope| {
        interrupt(scope, is_over);
        let sender = scope.spawn(move || send(&mut judge, packets, is_over));
        let mut written = 0;
        while Instant::now() < end {
            written += rage(machine);
        }
        is_over.store(true, Ordering::Relaxed);
        (written, sender.join().expect("it does not panic"))
    });
    let by_reason = |seen: &Verdicts| -> Vec<(Reason, u64)> {
        let counts = Reason::ALL.map(|reason| (reason, seen.count(reason)));
        counts.into_iter().filter(|(_, count)| *count > 0).collect()
    };
    let seen: Vec<_> = verdicts.iter().map(by_reason).collect();
    println!("{written} elements replaced; packets: {seen:?}");
    verdicts
}

/// Packets of a stranger and of a friend of which nothing is remembered, so that each is judged anew.
fn judged_anew(family: Family) -> [Packet; 2] {
    [Peer::Stranger(0), Peer::Friend(0)].map(|peer| packet(Way::In, family, SERVED, peer, Says::Rst))
}

/// The writes that put entries of a stranger, whose identity is admitted nowhere, and of a friend in their places again.
fn same_again(machine: &Machine, family: Family) -> [Step; 2] {
    let (stranger, friend) = (Peer::Stranger(0).address(family), Peer::Friend(0).address(family));
    let word = Tagged { tag: address_tag(stranger), id: 1_000_000 };
    let replace = |address, ident| Step::Write(Write::Ident(address, Some(ident)));
    [
        replace(stranger, Ident { slots: [word; 2] }),
        replace(friend, ident(friend, machine.node.tables().idents.get(&friend).expect("a friend has an identity"))),
    ]
}

#[test]
fn an_address_never_has_the_identity_of_another_whose_memory_it_takes() {
    let _alone = alone();
    for family in Family::BOTH {
        let mut machine = machine();
        let steps: Vec<Step> = [same_again(&machine, family)].repeat(PAIRS).into_iter().flatten().collect();
        let [stranger, friend] = storm(&mut machine, &judged_anew(family), |machine| {
            machine.write(steps.clone());
            steps.len()
        });
        stranger.assert_only("stranger", &[Reason::NoRule, Reason::TableRace]);
        friend.assert_only("friend", &[Reason::Rule, Reason::TableRace]);
    }
}

#[test]
fn an_address_that_is_deleted_and_comes_back_never_has_anothers_identity() {
    let _alone = alone();
    let mut machine = machine();
    let [stranger, friend] = same_again(&machine, Family::V4);
    let delete = |peer: Peer| Step::Write(Write::Ident(peer.address(Family::V4), None));
    let steps = [delete(Peer::Stranger(0)), friend, delete(Peer::Friend(0)), stranger].repeat(PAIRS / 4);
    let [stranger, friend] = storm(&mut machine, &judged_anew(Family::V4), |machine| {
        machine.write(steps.clone());
        steps.len()
    });
    stranger.assert_only("stranger", &[Reason::NoRule, Reason::TableRace]);
    // While it is deleted it is nobody.
    friend.assert_only("friend", &[Reason::Rule, Reason::NoRule, Reason::TableRace]);
}

#[test]
fn an_endpoint_never_has_the_policies_of_another_whose_memory_it_takes() {
    let _alone = alone();
    let mut machine = machine();
    let own = machine.node.tables().endpoints[&WEB];
    let id = own.endpoint.id + 1;
    let open = Tagged { tag: id, id: POLICY_OPEN };
    let mut other = own;
    other.endpoint = Tagged { tag: 4001, id };
    other.policy = [EndpointPolicy { egress: open, ingress: open }; 2];
    let replace = |ifindex, endpoint| Step::Write(Write::Endpoint(ifindex, Some(endpoint)));
    let steps = [replace(WEB, own), replace(4001, other)].repeat(PAIRS);
    let [stranger, friend] = storm(&mut machine, &judged_anew(Family::V4), |machine| {
        machine.write(steps.clone());
        steps.len()
    });
    stranger.assert_only("stranger", &[Reason::NoRule, Reason::TableRace]);
    friend.assert_only("friend", &[Reason::Rule, Reason::TableRace]);
}

/// The key and the state of a peer's connection with the served port, which is allowed or not.
fn flow(machine: &Machine, peer: Peer, allowed: bool) -> (FlowKeyOf<V4>, Flow) {
    let IpAddr::V4(address) = peer.address(Family::V4) else { panic!("an IPv4 address") };
    let key = FlowKey {
        endpoint: machine.node.tables().endpoints[&WEB].endpoint.id,
        peer: address.octets(),
        own_port: SERVED,
        peer_port: PEER_PORT,
        protocol: 6,
    };
    let commit = machine.node.tables().commit - u64::from(!allowed);
    let state = FlowState::judged(flow::tag::<V4>(&key), commit, Opener::Peer, Direction::ToPod, false);
    let state = if allowed { state } else { state.cut() };
    (key, Flow { state, seen_s: 0, arrival: Arrival::new(crate::machine::UPLINK, machine.node.tables().commit) })
}

#[test]
fn a_connection_never_has_the_judgement_of_another_whose_memory_it_takes() {
    let _alone = alone();
    let mut machine = machine();
    let (cut, allowed) = (flow(&machine, Peer::Stranger(0), false), flow(&machine, Peer::Friend(0), true));
    let mut flows = machine.flows::<FlowKeyOf<V4>, Flow>("flows_v4");
    let packets = [Peer::Stranger(0), Peer::Friend(0)].map(|peer| packet(Way::In, Family::V4, SERVED, peer, Says::Ack));
    let [stranger, friend] = storm(&mut machine, &packets, |_| {
        for _ in 0..PAIRS {
            for (key, flow) in [cut, allowed] {
                flows.insert(key, flow, 0).expect("flows_v4");
            }
        }
        2 * PAIRS
    });
    stranger.assert_only("stranger", &[Reason::NoRule]);
    friend.assert_only("friend", &[Reason::Established, Reason::Rule]);
}
