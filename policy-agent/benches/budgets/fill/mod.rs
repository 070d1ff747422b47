//! A million addresses into the kernel's tables, beside the bare insert of the same elements; then commits that move a
//! tenth of them.

mod bare;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use policy_agent::datapath::{Capacities, Datapath};
use policy_common::table::Ident;
use policy_core::model::Event;
use policy_core::node::Node;
use policy_core::plan::{Plan, Step, TableState, Write};
use policy_lab::BpfFs;

use crate::cluster_set::{ClusterSet, Families, Policies, policies};
use crate::compile::{LARGE, listing};
use crate::report::{Report, Samples, TimeUnit};
use bare::BareTable;

/// How much longer than the bare insert a commit may take.
const BUDGET: f64 = 1.5;
/// How many clusters the pods that are moved are of: 100,000 of them.
const MOVED_CLUSTERS: u32 = 10;
/// How often a round moves them, there and back.
const MOVES: usize = 3;

/// The commits of one address family, made once and carried out in every round.
struct Commits {
    family: &'static str,
    /// From empty tables to a million addresses.
    fill: Plan,
    /// Moves 100,000 of them.
    away: Plan,
    /// Moves them back.
    back: Plan,
}

/// How long the parts of a commit took.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    stage: Duration,
    flip: Duration,
    grace: Duration,
    sweep: Duration,
}

/// Measures both families in every round; who begins changes from round to round.
pub fn run(rounds: usize) -> Result<Report> {
    policy_lab::sweep_dead_runs();
    policy_lab::remove_labs_on_signals().context("prepare for signals")?;
    let families = [("v4", Families::V4), ("v6", Families::V6)];
    let commits = families.map(|(name, families)| Commits::plan(name, families));
    let mut samples = Samples::default();
    for round in 0..rounds {
        for commits in &commits {
            commits.measure(round, &mut samples)?;
        }
    }
    for (family, _) in families {
        let bare = format!("bare_insert_{family}");
        for case in ["fill_until_flip", "fill"] {
            samples.beside(&format!("{case}_{family}"), &bare);
            samples.budget(&format!("{case}_to_bare_insert_{family}"), BUDGET);
        }
    }
    Ok(Report::new("fill", samples.rows()))
}

impl Commits {
    /// Lets a node of its own plan them; the node is not needed to carry them out.
    fn plan(family: &'static str, families: Families) -> Self {
        let set = ClusterSet { families, policies: Policies::MixAndEverybody(1_000), ..LARGE };
        let (mut node, _) = listing::apply(&set, listing::Order::LocalFirst);
        listing::attach(&mut node);
        let fill = settle(&mut node, None);
        let policy = policies::of_clusters(1..=MOVED_CLUSTERS);
        let gone = policies::deletion(&policy);
        let away = settle(&mut node, Some(&policy));
        let back = settle(&mut node, Some(&gone));
        Self { family, fill, away, back }
    }

    fn measure(&self, round: usize, samples: &mut Samples) -> Result<()> {
        let (bare, filled) = if round.is_multiple_of(2) {
            let bare = self.bare()?;
            (bare, self.committed(samples)?)
        } else {
            let filled = self.committed(samples)?;
            (self.bare()?, filled)
        };
        let name = |case: &str| format!("{case}_{}", self.family);
        samples.add_time(&name("bare_insert"), TimeUnit::MS, bare);
        for (case, took) in [("fill_until_flip", filled.stage + filled.flip), ("fill", filled.total())] {
            samples.add_time(&name(case), TimeUnit::MS, took);
            let ratio = took.as_secs_f64() / bare.as_secs_f64();
            samples.add(&name(&format!("{case}_to_bare_insert")), "ratio", ratio);
        }
        Ok(())
    }

    /// The bare insert of the elements that the fill stages.
    fn bare(&self) -> Result<Duration> {
        let elements = staged(&self.fill);
        ensure!(elements.len() == LARGE.pods() as usize, "the fill has {} addresses", elements.len());
        let table = BareTable::make(self.family)?;
        table.insert(&elements)
    }

    /// The fill and the moves, on tables of their own that are gone afterwards.
    fn committed(&self, samples: &mut Samples) -> Result<Parts> {
        let bpffs = BpfFs::mount().context("mount a BPF file system")?;
        let (mut datapath, mut tables) = Datapath::open(bpffs.path(), &Capacities::default())?;
        let filled = execute(&mut datapath, &mut tables, &self.fill)?;
        filled.record("fill", self.family, samples);
        for _ in 0..MOVES {
            for plan in [&self.away, &self.back] {
                let moved = execute(&mut datapath, &mut tables, plan)?;
                moved.record("move_100k", self.family, samples);
                samples.add_time(&format!("move_100k_{}", self.family), TimeUnit::MS, moved.total());
            }
        }
        Ok(filled)
    }
}

/// What a node plans after an event, carried out on its modelled tables.
fn settle(node: &mut Node, event: Option<&Event>) -> Plan {
    node.apply(event);
    node.settle().expect("modelled tables have no limits")
}

/// Carries out a plan as the agent does: the modelled tables follow step by step.
fn execute(datapath: &mut Datapath, tables: &mut TableState, plan: &Plan) -> Result<Parts> {
    let mut parts = Parts::default();
    let mut is_live = false;
    for run in plan.steps.chunk_by(|a, b| matches!((a, b), (Step::Write(_), Step::Write(_)))) {
        let part = match run {
            [Step::Flip(_)] => &mut parts.flip,
            [Step::Grace] => &mut parts.grace,
            _ if is_live => &mut parts.sweep,
            _ => &mut parts.stage,
        };
        is_live |= matches!(run, [Step::Flip(_)]);
        let plan = Plan { steps: run.to_vec() };
        let begun = Instant::now();
        datapath.execute(&plan, |step| tables.step(step))?;
        *part += begun.elapsed();
    }
    Ok(parts)
}

/// The elements of addresses that a plan writes before its flip.
fn staged(plan: &Plan) -> Vec<(IpAddr, Ident)> {
    let before_flip = plan.steps.iter().take_while(|step| !matches!(step, Step::Flip(_)));
    let elements = before_flip.filter_map(|step| match step {
        Step::Write(Write::Ident(address, Some(ident))) => Some((*address, *ident)),
        _ => None,
    });
    elements.collect()
}

impl Parts {
    fn total(&self) -> Duration {
        let Self { stage, flip, grace, sweep } = *self;
        stage + flip + grace + sweep
    }

    fn record(&self, case: &str, family: &str, samples: &mut Samples) {
        let Self { stage, flip, grace, sweep } = *self;
        for (part, unit, took) in [
            ("stage", TimeUnit::MS, stage),
            ("flip", TimeUnit::US, flip),
            ("grace", TimeUnit::MS, grace),
            ("sweep", TimeUnit::MS, sweep),
        ] {
            samples.add_time(&format!("{case}_{part}_{family}"), unit, took);
        }
    }
}
