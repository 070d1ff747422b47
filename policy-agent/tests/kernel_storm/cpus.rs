//! Packets of one connection on two CPUs at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::choices::Choices;
use crate::frames::{Packet, Says, Way};
use crate::machine::{Judge, Machine, alone};
use crate::world::{Egress, Family, Peer, SERVED, State, cluster_set, packet};

/// For how long each test goes on.
const LONG: Duration = Duration::from_millis(1500);

/// Commits random states until the end; says how many.
fn commit_until(machine: &mut Machine, choices: &mut Choices, end: Instant, is_over: &AtomicBool) -> u64 {
    let mut commits = 0;
    while Instant::now() < end && !is_over.load(Ordering::Relaxed) {
        machine.commit(&State::random(choices).egress(Egress::Nobody).events());
        commits += 1;
    }
    is_over.store(true, Ordering::Relaxed);
    commits
}

/// Sends these packets in turn until it is over; says how many, or which one was not judged as all states say.
fn send(judge: &mut Judge, packets: &[(Packet, bool)], is_over: &AtomicBool) -> Result<u64, String> {
    let mut sent = 0;
    while !is_over.load(Ordering::Relaxed) {
        for (number, (packet, allowed)) in packets.iter().enumerate() {
            sent += 1;
            let passed = judge.passes(packet);
            if passed != *allowed {
                is_over.store(true, Ordering::Relaxed);
                let what = if passed { "passed" } else { "was dropped" };
                return Err(format!("packet {number} {:?} {what}, {sent} packets after the first", packet.way));
            }
        }
    }
    Ok(sent)
}

#[test]
fn both_ends_of_a_connection_on_two_cpus_keep_their_verdicts_through_commits() {
    let _alone = alone();
    let mut choices = Choices(2);
    let state = State::random(&mut choices).egress(Egress::Nobody);
    let mut machine = Machine::new(&cluster_set(&state));
    let (friend, stranger) = (Peer::Friend(0), Peer::Stranger(0));
    let of = |way, family, peer, says| (packet(way, family, SERVED, peer, says), peer == friend);
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    for family in Family::BOTH {
        for peer in [friend, stranger] {
            requests.extend([Says::Syn, Says::Ack, Says::Udp, Says::Fin].map(|says| of(Way::In, family, peer, says)));
            replies.extend([Says::Ack, Says::Udp, Says::Fin, Says::Ack].map(|says| of(Way::Out, family, peer, says)));
        }
    }
    let mut judge = machine.judge();
    // Nobody but the friend may open; the endpoint may only reply.
    assert!(!judge.passes(&replies[0].0), "nothing is known yet");
    for (request, allowed) in &requests {
        assert_eq!(judge.passes(request), *allowed);
    }
    let is_over = &AtomicBool::new(false);
    let (commits, sent) = thread::scope(|scope| {
        let senders = [&requests, &replies].map(|packets| {
            let mut judge = machine.judge();
            scope.spawn(move || send(&mut judge, packets, is_over))
        });
        let commits = commit_until(&mut machine, &mut choices, Instant::now() + LONG, is_over);
        (commits, senders.map(|sender| sender.join().expect("it does not panic")))
    });
    let sent = sent.map(|sent| sent.unwrap_or_else(|wrong| panic!("after {commits} commits: {wrong}")));
    println!("{commits} commits, {sent:?} packets on two CPUs");
    assert!(commits > 3 && sent.iter().all(|sent| *sent > 10 * commits));
}

/// Where two threads meet before each step.
#[derive(Default)]
struct Meeting(AtomicU64);

impl Meeting {
    /// Waits for the other one.
    fn meet(&self, step: u64) {
        self.0.fetch_add(1, Ordering::AcqRel);
        while self.0.load(Ordering::Acquire) < 2 * (step + 1) {
            thread::yield_now();
        }
    }
}

/// How many connections there are.
const CONNECTIONS: u16 = 256;
/// How often each end sends, while the other does.
const OFTEN: u32 = 12;

/// The packets of one end.
fn ends(way: Way) -> Vec<Packet> {
    let connection = |number: u16| {
        let mut packet = packet(way, Family::V4, 443, Peer::Stranger(0), Says::Ack);
        packet.peer_port(1024 + number);
        packet
    };
    (0..CONNECTIONS).map(connection).collect()
}

/// Nobody was seen to open these connections, so each direction stands for itself, and one word of the flow says what
/// both may. Under the new commit the endpoint may not send any more. The first packet that reaches it renews the word:
/// if the new commit were to be seen in it beside the old permissions, a packet of the endpoint would pass.
#[test]
fn what_a_flow_remembers_is_never_seen_half_written_by_the_other_cpu() {
    let _alone = alone();
    let open = policy_core::testing::policy("a/shop/web").deleted();
    let closed = policy_core::testing::policy("a/shop/web").select("app=web").no_egress().into();
    let mut machine = Machine::new(&cluster_set(&State::random(&mut Choices(3))));
    let (requests, replies) = (ends(Way::In), ends(Way::Out));
    let meeting = Meeting::default();
    let end = Instant::now() + LONG;
    let (mut rounds, mut steps) = (0, 0);
    while Instant::now() < end {
        machine.commit(std::slice::from_ref(&open));
        let (mut this, mut other) = (machine.judge(), machine.judge());
        // Whoever was the first to send does not count as the opener.
        for packet in replies.iter().chain(&requests) {
            assert!(this.passes(packet), "no policy isolates anything");
        }
        machine.commit(std::slice::from_ref(&closed));
        thread::scope(|scope| {
            scope.spawn(|| {
                for (step, request) in (steps..).zip(&requests) {
                    meeting.meet(step);
                    other.run(request, OFTEN);
                }
            });
            let before = this.passed(Way::Out);
            for (step, reply) in (steps..).zip(&replies) {
                meeting.meet(step);
                this.run(reply, OFTEN);
            }
            let passed = this.passed(Way::Out) - before;
            assert_eq!(passed, 0, "round {rounds}: so many packets of the endpoint passed");
        });
        steps += u64::from(CONNECTIONS);
        rounds += 1;
    }
    println!("{steps} connections in {rounds} rounds");
    assert!(rounds > 1);
}
