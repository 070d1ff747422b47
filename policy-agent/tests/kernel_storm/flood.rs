//! A flood of new connections pushes others out of the tables: what is allowed stays allowed, what was cut stays cut.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use policy_common::family::{FlowKeyOf, V4};
use policy_common::table::{Cut, Flow, FlowKey};

use crate::choices::Choices;
use crate::frames::{PEER_PORT, Packet, Says, Way};
use crate::machine::{Judge, Machine, SMALL, WEB, alone, cores};
use crate::world::{Egress, Family, Peer, SERVED, State, cluster_set, packet};

const TCP: u8 = 6;
const UDP: u8 = 17;

fn state(egress: Egress) -> State {
    State::random(&mut Choices(5)).egress(egress)
}

/// The key of a peer's connection with the served port.
fn key(machine: &Machine, peer: Peer, protocol: u8) -> FlowKeyOf<V4> {
    let IpAddr::V4(address) = peer.address(Family::V4) else { panic!("an IPv4 address") };
    FlowKey {
        endpoint: machine.node.tables().endpoints[&WEB].endpoint.id,
        peer: address.octets(),
        own_port: SERVED,
        peer_port: PEER_PORT,
        protocol: protocol.into(),
    }
}

/// New connections of a friend. Each is used twice: what was never used after it was made would be the first to go.
fn flood(judge: &mut Judge, goes_on: impl Fn(u32) -> bool) -> u32 {
    let mut request = packet(Way::In, Family::V4, SERVED, Peer::Friend(1), Says::Udp);
    for opened in 0.. {
        if !goes_on(opened) {
            return opened;
        }
        request.peer_port(1024 + (opened % 60_000) as u16);
        assert!(judge.passes(&request) && judge.passes(&request), "a friend's connection");
    }
    u32::MAX
}

/// A flood until a connection is not known any more.
///
/// Each CPU keeps the connections that it made last out of the LRU's lists until it makes others
/// (`bpf_common_lru_pop_free` in kernel/bpf/bpf_lru_list.c), so the flood comes from one CPU after the other.
fn flood_out(machine: &Machine, key: &FlowKeyOf<V4>) {
    let flows = machine.flows::<FlowKeyOf<V4>, Flow>("flows_v4");
    assert!(flows.get(key, 0).is_ok(), "it is known");
    let is_known = |opened: u32| !opened.is_multiple_of(1024) || flows.get(key, 0).is_ok();
    let goes_on = |opened| opened < 10 * SMALL.flows && is_known(opened);
    let opened: u32 = cores().iter().map(|core| core.run(|| flood(&mut machine.judge(), goes_on))).sum();
    assert!(flows.get(key, 0).is_err(), "{opened} new connections do not push it out");
}

fn of(way: Way, peer: Peer, says: Says) -> Packet {
    packet(way, Family::V4, SERVED, peer, says)
}

#[test]
fn a_connection_that_is_used_goes_on_in_a_flood_of_others() {
    let _alone = alone();
    let machine = Machine::new(&cluster_set(&state(Egress::Nobody)));
    let friend = |way, says| of(way, Peer::Friend(0), says);
    let (request, reply) = (friend(Way::In, Says::Ack), friend(Way::Out, Says::Ack));
    let strange = [Way::In, Way::Out].map(|way| of(way, Peer::Stranger(0), Says::Ack));
    let mut judge = machine.judge();
    assert!(judge.passes(&friend(Way::In, Says::Syn)));
    let is_over = &AtomicBool::new(false);
    let (opened, sent, forgotten) = thread::scope(|scope| {
        let mut flooding = machine.judge();
        let flood = scope.spawn(move || flood(&mut flooding, |_| !is_over.load(Ordering::Relaxed)));
        let _over = OnDrop(is_over);
        let end = Instant::now() + Duration::from_secs(2);
        let (mut sent, mut forgotten) = (0, 0);
        while Instant::now() < end {
            assert!(judge.passes(&request), "request {sent}");
            // A reply of which nobody remembers what it replies to may be lost, and the next request mends that.
            if !judge.passes(&reply) {
                forgotten += 1;
                assert!(judge.passes(&request) && judge.passes(&reply), "reply {sent}");
            }
            strange.iter().for_each(|packet| assert!(!judge.passes(packet), "a stranger's packet {sent}"));
            sent += 1;
            thread::sleep(Duration::from_millis(1));
        }
        is_over.store(true, Ordering::Relaxed);
        (flood.join().expect("all of them pass"), sent, forgotten)
    });
    println!(
        "{opened} new connections, {sent} requests and replies of the old one, which was forgotten {forgotten} times"
    );
    assert!(opened > 2 * SMALL.flows, "that was no flood: {opened}");
    assert!(forgotten * 100 <= sent, "forgotten {forgotten} times in {sent}");
}

#[test]
fn a_quiet_connection_that_a_flood_pushed_out_goes_on_where_it_was() {
    let _alone = alone();
    let machine = Machine::new(&cluster_set(&state(Egress::Nobody)));
    let key = key(&machine, Peer::Friend(0), TCP);
    let [open, request, reply] = [(Way::In, Says::Syn), (Way::In, Says::Ack), (Way::Out, Says::Ack)]
        .map(|(way, says)| of(way, Peer::Friend(0), says));
    let mut judge = machine.judge();
    assert!(judge.passes(&open) && judge.passes(&reply));
    flood_out(&machine, &key);
    assert!(!judge.passes(&reply), "nobody knows any more that it is a reply, and the endpoint may open nothing");
    assert!(judge.passes(&request), "a rule vouches for whoever sends it");
    assert!(judge.passes(&reply), "and so it counts as the opener again");
}

#[test]
fn a_connection_that_a_policy_cut_stays_cut_when_a_flood_pushed_it_out() {
    let _alone = alone();
    let begin = state(Egress::Open).admits_varying(true);
    let mut machine = Machine::new(&cluster_set(&begin));
    let peer = Peer::Varying(0);
    let key = key(&machine, peer, UDP);
    let (request, reply) = (of(Way::In, peer, Says::Udp), of(Way::Out, peer, Says::Udp));
    let mut judge = machine.judge();
    assert!(judge.passes(&request) && judge.passes(&reply));
    machine.commit(&begin.admits_varying(false).events());
    assert!(!judge.passes(&request) && !judge.passes(&reply), "both directions are cut");
    flood_out(&machine, &key);
    assert!(machine.flows::<FlowKeyOf<V4>, Cut>("cuts_v4").get(&key, 0).is_ok(), "but not that it was cut");
    assert!(judge.passes(&reply), "the endpoint may open connections to anybody");
    assert!(!judge.passes(&request), "but this is not one that it opened: what was forbidden is no reply");
}

/// While nothing is noted as cut, the programs look for nothing; a sweep that finds nothing says so, and no other.
#[test]
fn what_was_cut_is_looked_for_as_long_as_there_is_any() {
    let _alone = alone();
    let begin = state(Egress::Open).admits_varying(true);
    let mut machine = Machine::new(&cluster_set(&begin));
    let peer = Peer::Varying(0);
    let key = key(&machine, peer, UDP);
    let (request, reply) = (of(Way::In, peer, Says::Udp), of(Way::Out, peer, Says::Udp));
    let mut judge = machine.judge();
    let sweep_all = |machine: &mut Machine| (0..20).map(|_| machine.sweep()).sum::<usize>();
    assert!(judge.passes(&request));
    assert_eq!(machine.cuts(), 0);
    machine.commit(&begin.admits_varying(false).events());
    assert!(!judge.passes(&request));
    assert_eq!(machine.cuts(), 1);
    sweep_all(&mut machine);
    machine.flows::<FlowKeyOf<V4>, Flow>("flows_v4").remove(&key).expect("it was known");
    assert!(machine.cuts() > 0 && judge.passes(&reply) && !judge.passes(&request), "it is noted still");
    machine.tick(1000);
    sweep_all(&mut machine);
    assert_eq!(machine.cuts(), 0);
    assert!(machine.flows::<FlowKeyOf<V4>, Cut>("cuts_v4").keys().next().is_none());
    assert!(judge.passes(&reply) && judge.passes(&request), "the endpoint opens another one");
}

/// Says that it is over, whatever happens before.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// All connections of a peer are used once more, when all are old enough to be forgotten: some requests, which take their
/// time, and then their replies. Says how many of these are dropped.
fn use_again(judge: &mut Judge) -> u32 {
    let [mut request, mut reply] = [Way::In, Way::Out].map(|way| of(way, Peer::Friend(0), Says::Udp));
    let mut unanswered = 0;
    for ports in (1024..1024 + CONNECTIONS).collect::<Vec<u16>>().chunks(100) {
        for port in ports {
            request.peer_port(*port);
            assert!(judge.passes(&request), "a friend's request");
        }
        for port in ports {
            reply.peer_port(*port);
            unanswered += u32::from(!judge.passes(&reply));
        }
    }
    unanswered
}

/// How many connections grow old together.
const CONNECTIONS: u16 = 2000;

#[test]
fn a_connection_that_is_used_again_is_not_swept_as_one_that_nobody_uses() {
    let _alone = alone();
    let mut machine = Machine::new(&cluster_set(&state(Egress::Nobody)));
    let mut judge = machine.judge();
    assert_eq!(use_again(&mut judge), 0);
    let end = Instant::now() + Duration::from_millis(1500);
    let (mut rounds, mut unanswered, mut swept) = (0, 0, 0);
    while Instant::now() < end {
        machine.tick(200);
        thread::scope(|scope| {
            let user = scope.spawn(|| use_again(&mut judge));
            while !user.is_finished() {
                swept += machine.sweep();
            }
            unanswered += user.join().expect("its requests pass");
        });
        rounds += 1;
    }
    println!("{rounds} times {CONNECTIONS} connections, {swept} swept, {unanswered} replies dropped");
    assert!(swept > usize::from(CONNECTIONS), "nothing was old: {swept}");
    // An interrupt may come between the last look at a connection and its end; without that look ten a round are dropped.
    assert!(unanswered <= 3 * rounds, "in {rounds} rounds {unanswered} replies were dropped");
}
