//! The whole control loop over a modelled kernel, from a seed: events late, twice, lost and told anew, steps that fail,
//! agents that die at any of them and begin again. After each step, what packets see must be what the oracle says of a
//! world that has to be in force.
//!
//! A seed that fails is shrunk and printed, with the command that plays it again.

mod dice;
mod expectation;
mod generate;
mod hooks;
mod machine;
mod network;
mod numbers;
mod policies;
mod probes;
mod run;
mod script;
mod settled;
mod shrink;
mod sources;
mod traffic;
mod witness;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use run::{Failure, Seen, play};

/// How many seeds every change is tried with.
const SEEDS: u64 = 300;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// What a person needs of a seed that fails.
fn report(seed: u64, failure: Failure) -> String {
    let script = generate::script(seed);
    let (script, Failure { at, what }) = shrink::shrink(&script, failure);
    format!(
        "seed {seed} fails\n{script}at action {at}: {what}\n\nto play it again:\n  \
         CROSSWALL_SIM_SEED={seed} cargo test -p policy-agent --test sim_control_loop\n"
    )
}

/// Plays seeds on all CPUs, until one fails.
fn play_all(seeds: impl Iterator<Item = u64> + Send) -> Result<Seen, (u64, Failure)> {
    let seeds = Mutex::new(seeds);
    let failed = Mutex::new(None);
    let (steps, packets) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = { seeds.lock().expect("no panic").next() } {
                    match play(&generate::script(seed)) {
                        Ok(seen) => {
                            steps.fetch_add(seen.steps, Ordering::Relaxed);
                            packets.fetch_add(seen.packets, Ordering::Relaxed);
                        }
                        Err(failure) => drop(failed.lock().expect("no panic").get_or_insert((seed, failure))),
                    }
                    if failed.lock().expect("no panic").is_some() {
                        break;
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    failed.map_or(Ok(Seen { steps: steps.into_inner(), packets: packets.into_inner() }), Err)
}

#[test]
fn whatever_happens_to_an_agent_packets_see_one_world_whole() {
    let seeds = match variable("CROSSWALL_SIM_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=variable("CROSSWALL_SIM_SEEDS").unwrap_or(SEEDS),
    };
    match play_all(seeds.clone()) {
        Ok(Seen { steps, packets }) => println!("seeds {seeds:?}: steps {steps}, packets of connections {packets}"),
        Err((seed, failure)) => panic!("{}", report(seed, failure)),
    }
}

#[test]
fn a_seed_plays_the_same_every_time() {
    for seed in 1..=5 {
        let once = play(&generate::script(seed)).map(|seen| (seen.steps, seen.packets));
        let again = play(&generate::script(seed)).map(|seen| (seen.steps, seen.packets));
        assert_eq!(format!("{once:?}"), format!("{again:?}"), "seed {seed}");
    }
}
