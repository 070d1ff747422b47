//! Thousands of commits of random states, while packets look for a mixture of two of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::choices::{Choices, from_environment};
use crate::frames::{Packet, Says, Way};
use crate::machine::{Judge, Machine, alone, interrupt};
use crate::world::{CLIENT, Family, PEERS, Peer, SERVED, SOMETIMES, State, cluster_set, packet};

/// The variable that says how many commits there are.
const COMMITS: &str = "CROSSWALL_STORM_COMMITS";
/// How many there are otherwise, at most.
const MOST: u64 = 5_000;
/// For how long they go on then, at most.
const LONGEST: Duration = Duration::from_secs(8);
/// How many nodes commit side by side: most of a commit is waiting for a grace period.
const NODES: u64 = 6;
/// How many threads send packets, each to nodes of its own.
const PROBERS: usize = 2;
/// How often a packet is sent at once.
const OFTEN: u32 = 64;

/// What each commit means.
#[derive(Default)]
struct Ledger(Mutex<BTreeMap<u64, State>>);

impl Ledger {
    /// To be called before the commit can be in force.
    fn note(&self, commit: u64, state: State) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.insert(commit, state);
        while states.len() > 64 {
            states.pop_first();
        }
    }

    /// Whether a verdict is that of a state that was in force from one commit to another.
    fn explains(&self, commits: [u64; 2], question: &Question, passed: bool) -> bool {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The state in force at the beginning may be older than its commit.
        let mut known = states.range(commits[0]..=commits[1]).peekable();
        known.peek().is_none_or(|(first, _)| **first > commits[0])
            || known.any(|(_, state)| state.allows(question.peer, question.packet.way, question.own_port) == passed)
    }
}

/// How many packets were dropped for no reason. The kernel's look-ups miss an element that is being replaced in one of a
/// thousand million cases, see `reuse.rs`; that may happen once in a storm.
#[derive(Default)]
struct Misses(AtomicU64);

impl Misses {
    fn may_be_one(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) == 0
    }
}

/// A packet that is sent again and again.
struct Question {
    peer: Peer,
    own_port: u16,
    says: Says,
    packet: Packet,
}

/// Packets of all peers: that open connections, or are answered alike in mid-stream.
fn questions() -> Vec<Question> {
    let mut questions = Vec::new();
    for family in Family::BOTH {
        for peer in PEERS {
            for (way, own_port) in [(Way::In, SERVED), (Way::In, SOMETIMES), (Way::Out, CLIENT)] {
                for says in [Says::Syn, Says::Rst, Says::Udp] {
                    if says == Says::Udp && own_port == SOMETIMES {
                        continue;
                    }
                    let packet = packet(way, family, own_port, peer, says);
                    questions.push(Question { peer, own_port, says, packet });
                }
            }
        }
    }
    questions
}

/// What happens on one node: commits, and packets at the same time.
#[derive(Default)]
struct Storm {
    ledger: Ledger,
    commits: AtomicU64,
}

/// Asks these nodes in turn until it is over, or until a verdict is no state's.
fn probe(nodes: &mut [(Judge, &Storm)], misses: &Misses, is_over: &AtomicBool) -> Result<u64, String> {
    let mut questions = questions();
    let mut packets = 0;
    let mut round = 0u16;
    while !is_over.load(Ordering::Relaxed) {
        round = round.wrapping_add(1);
        for (judge, storm) in &mut *nodes {
            for question in &mut questions {
                let asked = question.ask(judge, storm, misses, round);
                packets += asked.inspect_err(|_| is_over.store(true, Ordering::Relaxed))?;
            }
        }
    }
    Ok(packets)
}

impl Question {
    /// Asks once, of a connection that is new but for every fourth SYN's; and where all states say the same, and nothing
    /// is remembered, [`OFTEN`] more times. Says how often it asked.
    fn ask(&mut self, judge: &mut Judge, storm: &Storm, misses: &Misses, round: u16) -> Result<u64, String> {
        let is_known = round.is_multiple_of(4) && self.says == Says::Syn;
        self.packet.peer_port(if is_known { 1 } else { 1024 + round % 60_000 });
        let before = judge.commit();
        let passed = judge.passes(&self.packet);
        let after = judge.commit();
        if !storm.ledger.explains([before, after], self, passed) && (passed || !misses.may_be_one()) {
            return Err(self.strange(if passed { "passed" } else { "was dropped" }, [before, after]));
        }
        let Some(always) = self.always().filter(|_| self.says == Says::Rst) else { return Ok(1) };
        let passed = judge.passes_of(&self.packet, OFTEN);
        let expected = if always { u64::from(OFTEN) } else { 0 };
        if passed != expected && (passed + 1 != expected || !misses.may_be_one()) {
            return Err(self.strange(&format!("passed {passed} of {OFTEN} times"), [before, judge.commit()]));
        }
        Ok(1 + u64::from(OFTEN))
    }

    /// What all states say.
    fn always(&self) -> Option<bool> {
        match self.peer {
            Peer::Friend(_) | Peer::Inside => (self.own_port != SOMETIMES).then_some(true),
            Peer::Stranger(_) | Peer::Outside => Some(false),
            Peer::Varying(_) => None,
        }
    }

    fn strange(&self, what: &str, [before, after]: [u64; 2]) -> String {
        let Self { peer, own_port, says, packet } = self;
        let length = packet.frame.len();
        format!(
            "{says:?} {:?} between port {own_port} and {peer:?} ({length} bytes) {what} between commits {before} and \
             {after}: no state that was in force then says so",
            packet.way
        )
    }
}

/// Waits until there were enough commits, or a prober has seen what must not be.
fn watch(storms: &[&Storm], is_over: &AtomicBool) -> u64 {
    let asked: u64 = from_environment(COMMITS, 0);
    let start = Instant::now();
    loop {
        let commits = storms.iter().map(|storm| storm.commits.load(Ordering::Relaxed)).sum();
        let is_enough = if asked > 0 { commits >= asked } else { start.elapsed() >= LONGEST || commits >= MOST };
        if is_enough || is_over.load(Ordering::Relaxed) {
            is_over.store(true, Ordering::Relaxed);
            return commits;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A node that commits.
struct Node {
    machine: Machine,
    choices: Choices,
    state: State,
    storm: Storm,
}

impl Node {
    fn new(seed: u64) -> Self {
        let mut choices = Choices(seed);
        let state = State::random(&mut choices);
        let machine = Machine::new(&cluster_set(&state));
        let storm = Storm::default();
        storm.ledger.note(machine.node.tables().commit, state.clone());
        Self { machine, choices, state, storm }
    }

    /// Commits random states until it is over.
    fn commit(machine: &mut Machine, choices: &mut Choices, state: &mut State, storm: &Storm, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            *state = if choices.below(4) == 0 { state.with_one_changed(choices) } else { State::random(choices) };
            let plan = machine.plan(&state.events());
            let commit = plan.commit();
            if let Some(commit) = commit {
                storm.ledger.note(commit, state.clone());
            }
            machine.execute(&plan);
            storm.commits.fetch_add(u64::from(commit.is_some()), Ordering::Relaxed);
        }
    }
}

/// Many nodes, made at the same time.
fn nodes() -> Vec<Node> {
    let seed: u64 = from_environment("CROSSWALL_STORM_SEED", 20_261_125);
    thread::scope(|scope| {
        let made: Vec<_> = (0..NODES).map(|node| scope.spawn(move || Node::new(seed + node))).collect();
        made.into_iter().map(|node| node.join().expect("it is made")).collect()
    })
}

#[test]
fn no_packet_is_judged_by_a_mixture_of_two_states_in_a_storm_of_commits() {
    let _alone = alone();
    let mut nodes = nodes();
    let (is_over, misses) = (&AtomicBool::new(false), &Misses::default());
    let start = Instant::now();
    let (commits, packets) = thread::scope(|scope| {
        let mut probed: [Vec<(Judge, &Storm)>; PROBERS] = std::array::from_fn(|_| Vec::new());
        let mut storms = Vec::new();
        for (number, Node { machine, choices, state, storm }) in nodes.iter_mut().enumerate() {
            let storm: &Storm = storm;
            probed[number % PROBERS].push((machine.judge(), storm));
            storms.push(storm);
            scope.spawn(move || Node::commit(machine, choices, state, storm, is_over));
        }
        interrupt(scope, is_over);
        let probers = probed.map(|mut nodes| scope.spawn(move || probe(&mut nodes, misses, is_over)));
        let commits = watch(&storms, is_over);
        let packets: Result<Vec<u64>, String> =
            probers.into_iter().map(|prober| prober.join().expect("it does not panic")).collect();
        (commits, packets.unwrap_or_else(|mixture| panic!("a mixture after {commits} commits: {mixture}")))
    });
    let packets: u64 = packets.iter().sum();
    println!("{commits} commits on {NODES} nodes in {:.1?}, {packets} packets", start.elapsed());
    assert!(commits > 50 && packets > 10 * commits, "that was no storm: {commits} commits, {packets} packets");
    thread::scope(|scope| nodes.into_iter().for_each(|node| drop(scope.spawn(|| drop(node)))));
}
