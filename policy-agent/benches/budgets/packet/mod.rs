//! What a packet costs in the kernel, by `BPF_PROG_TEST_RUN`; a driver whose own cost is subtracted varies packets.

mod frames;
mod kernel;
mod world;

use anyhow::{Result, ensure};
use policy_common::driver::Driver;

use crate::report::{Budget, Report, Row};
use frames::{Flag, SERVED, Way};
use kernel::{FLOWS, Kernel, Program};
use world::{FIRST_PEER, FIRST_STRANGER, UPLINK, WEB};

/// How often a packet that stays the same is judged in a round.
const HOT: u32 = 20_000;
/// How many addresses and flows the cases with many have.
const MANY: u32 = 100_000;
/// "Go on with the next program" and "drop".
const PASSES: i32 = -1;
const DROPPED: i32 = 2;

/// What a case does in a round.
#[derive(Clone, Copy)]
enum Work {
    /// One packet again and again.
    Hot { program: Program, way: Way, flag: Flag },
    /// Packets from `peers` addresses in turn at random, from `ports` ports one after the other.
    Varied { first_peer: u32, peers: u32, ports: u32, flag: Flag, port: u16, repeat: u32 },
}

/// What the flow tables hold when a round of a case begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flows {
    /// The connection of the one packet.
    One,
    /// A connection of each of [`MANY`] peers.
    Many,
    /// None.
    Empty,
    /// As many as there is room for, of other peers.
    Full,
}

/// A case of the benchmark.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// How many peers the policy admits.
    peers: u32,
    flows: Flows,
    work: Work,
    answer: i32,
    /// In nanoseconds, IPv4 and IPv6.
    budget: [Option<f64>; 2],
}

const fn hot(program: Program, way: Way, flag: Flag) -> Work {
    Work::Hot { program, way, flag }
}

const fn varied(first_peer: u32, peers: u32, ports: u32, flag: Flag, repeat: u32) -> Work {
    Work::Varied { first_peer, peers, ports, flag, port: SERVED, repeat }
}

const CASES: [Case; 12] = [
    Case {
        name: "parse_only",
        peers: 1,
        flows: Flows::Empty,
        work: hot(Program::ParseOnly, Way::In(SERVED), Flag::Ack),
        answer: PASSES,
        budget: [None, None],
    },
    Case {
        name: "established_hot",
        peers: 1,
        flows: Flows::One,
        work: hot(Program::ToPod, Way::In(SERVED), Flag::Ack),
        answer: PASSES,
        budget: [Some(45.0), Some(55.0)],
    },
    Case {
        name: "reply_hot",
        peers: 1,
        flows: Flows::One,
        work: hot(Program::FromPod, Way::Out(SERVED), Flag::Ack),
        answer: PASSES,
        budget: [Some(45.0), Some(55.0)],
    },
    Case {
        name: "established_random_100k_flows",
        peers: MANY,
        flows: Flows::Many,
        work: varied(FIRST_PEER, MANY, 0, Flag::Ack, MANY),
        answer: PASSES,
        budget: [Some(190.0), Some(190.0)],
    },
    Case {
        name: "first_hot_1_peer",
        peers: 1,
        flows: Flows::Empty,
        work: varied(FIRST_PEER, 0, 60_000, Flag::Syn, 60_000),
        answer: PASSES,
        budget: [Some(150.0), Some(150.0)],
    },
    Case {
        name: "first_hot_100k_peers",
        peers: MANY,
        flows: Flows::Empty,
        work: varied(FIRST_PEER, 0, 60_000, Flag::Syn, 60_000),
        answer: PASSES,
        budget: [Some(150.0), Some(150.0)],
    },
    Case {
        name: "first_random_100k_peers",
        peers: MANY,
        flows: Flows::Empty,
        work: varied(FIRST_PEER, MANY, 60_000, Flag::Syn, 2 * MANY),
        answer: PASSES,
        budget: [Some(600.0), Some(600.0)],
    },
    Case {
        name: "first_table_full",
        peers: MANY,
        flows: Flows::Full,
        work: varied(FIRST_PEER, MANY, 60_000, Flag::Syn, 2 * MANY),
        answer: PASSES,
        budget: [Some(900.0), Some(900.0)],
    },
    Case {
        name: "denied_hot",
        peers: MANY,
        flows: Flows::Empty,
        work: hot(Program::FromPod, Way::Out(443), Flag::Syn),
        answer: DROPPED,
        budget: [Some(70.0), Some(70.0)],
    },
    Case {
        name: "denied_wrong_port",
        peers: MANY,
        flows: Flows::Empty,
        work: hot(Program::ToPod, Way::In(81), Flag::Syn),
        answer: DROPPED,
        budget: [Some(110.0), Some(110.0)],
    },
    Case {
        name: "denied_random_peer",
        peers: MANY,
        flows: Flows::Empty,
        work: Work::Varied { first_peer: FIRST_PEER, peers: MANY, ports: 0, flag: Flag::Syn, port: 81, repeat: MANY },
        answer: DROPPED,
        budget: [Some(300.0), Some(300.0)],
    },
    Case {
        name: "denied_random_stranger",
        peers: MANY,
        flows: Flows::Empty,
        work: varied(FIRST_STRANGER, MANY, 0, Flag::Syn, MANY),
        answer: DROPPED,
        budget: [Some(300.0), Some(300.0)],
    },
];

/// Measures all cases, in rounds that go through all of them.
pub fn run(rounds: usize) -> Result<Report> {
    let mut few = Kernel::load(&world::tables(1), FLOWS)?;
    let mut many = Kernel::load(&world::tables(MANY), FLOWS)?;
    let mut empty = Vec::new();
    let mut samples = vec![[const { Vec::new() }; 2]; CASES.len()];
    for _ in 0..rounds {
        let frame = frames::tcp(false, Way::In(SERVED), Flag::Ack)?;
        empty.push(few.run(Program::Empty, &frame, UPLINK, HOT)?.1);
        for (case, samples) in CASES.iter().zip(&mut samples) {
            for (v6, samples) in [false, true].into_iter().zip(samples) {
                let kernel = if case.peers == 1 { &mut few } else { &mut many };
                samples.push(case.measure(kernel, v6)?);
            }
        }
    }
    let empty = Row::new("empty_tc", "ns", &empty);
    let mut rows = vec![empty.clone()];
    for (case, samples) in CASES.iter().zip(&samples) {
        for (family, (samples, budget)) in ["v4", "v6"].into_iter().zip(samples.iter().zip(case.budget)) {
            let row = Row::new(format!("{}_{family}", case.name), "ns", samples);
            rows.push(row.beside(&empty).budget(budget.map(Budget)));
        }
    }
    rows.extend(memory_rows()?);
    Ok(Report::new("packet", rows))
}

impl Case {
    /// One round; in nanoseconds for a packet, what only drives subtracted.
    fn measure(&self, kernel: &mut Kernel, v6: bool) -> Result<f64> {
        self.prepare(kernel, v6)?;
        let (answer, took) = match self.work {
            Work::Hot { program, way, flag } => {
                let arrival = match way {
                    Way::In(_) => UPLINK,
                    Way::Out(_) => WEB,
                };
                kernel.run(program, &frames::tcp(v6, way, flag)?, arrival, HOT)?
            }
            Work::Varied { first_peer, peers, ports, flag, port, repeat } => {
                let frame = frames::tcp(v6, Way::In(port), flag)?;
                let driver = driver(v6, first_peer, peers, ports);
                let (_, alone) = kernel.drive(driver, Program::Empty, &frame, UPLINK, repeat)?;
                let (_, empty) = kernel.run(Program::Empty, &frame, UPLINK, HOT)?;
                let (answer, both) = kernel.drive(driver, Program::ToPod, &frame, UPLINK, repeat)?;
                // The empty program behind the driver costs what it costs; the one under test does so too.
                (answer, both - alone + empty)
            }
        };
        ensure!(answer == self.answer, "{}: the program answered {answer}", self.name);
        Ok(took)
    }

    /// Makes the flow tables hold what the case begins with.
    fn prepare(&self, kernel: &mut Kernel, v6: bool) -> Result<()> {
        let syn = frames::tcp(v6, Way::In(SERVED), Flag::Syn)?;
        match self.flows {
            Flows::One => kernel.run(Program::ToPod, &syn, UPLINK, 1).map(drop),
            Flows::Empty => kernel.forget_flows(),
            Flows::Many => {
                // Each peer's turn comes, at random, within a few times as many packets as there are peers.
                kernel.drive(driver(v6, FIRST_PEER, MANY, 0), Program::ToPod, &syn, UPLINK, 16 * MANY).map(drop)
            }
            Flows::Full => {
                let driver = driver(v6, FIRST_PEER, MANY, 60_000);
                kernel.drive(driver, Program::ToPod, &syn, UPLINK, 2 * FLOWS).map(drop)
            }
        }
    }
}

fn driver(v6: bool, first_peer: u32, peers: u32, ports: u32) -> Driver {
    let (peer_at, port_at) = frames::places(v6);
    let first_port = frames::PEER_PORT.into();
    Driver { random: 0x9e37_79b9_7f4a_7c15, packets: 0, peers, ports, first_peer, first_port, peer_at, port_at }
}

/// What an address costs in the tables of identities: what a map with many of them has over an empty one.
fn memory_rows() -> Result<Vec<Row>> {
    let (mut none, mut many) = (Kernel::load(&world::tables(0), 1024)?, Kernel::load(&world::tables(MANY), 1024)?);
    ["ident_v4", "ident_v6"]
        .into_iter()
        .map(|map| {
            let bytes = (many.memory(map)? - none.memory(map)?) as f64 / f64::from(MANY);
            Ok(Row::new(format!("memory_per_peer_{map}"), "B", &[bytes]).budget(Budget(90.0)))
        })
        .collect()
}
