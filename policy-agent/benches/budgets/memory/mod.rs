//! What the agent's knowledge of a million pods weighs, and a whole agent that has 100,000 from an API server. Each case has a process of its own: one is fresh only once.
//!
//! What counts is the steady state: all is listed, the plan is made and carried out, and nothing is left of either but what
//! the next change needs. Of that the index has the pods themselves and the groups of those that look alike, the tables are
//! the agent's copy of what the kernel has, and the rules are all else: facets, signatures, identities, rows, endpoints.

mod agent;

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use policy_core::node::Node;
use serde::{Deserialize, Serialize};

use crate::cluster_set::{ClusterSet, Families, Policies, REPLICAS};
use crate::compile::{LARGE, listing};
use crate::report::{Report, Samples, Skipped};
use crate::site::resident;
use crate::sys::Heap;

/// What a remote pod may weigh, in bytes.
pub const BUDGET: f64 = 160.0;

/// Which ClusterSet a process holds.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Case {
    /// IPv4; no rule matches any pod.
    NobodyV4,
    /// IPv4; rules match all pods.
    EverybodyV4,
    /// Both families; no rule matches any pod.
    NobodyDualStack,
    /// Both families; rules match all pods.
    EverybodyDualStack,
}

/// How much of a case's knowledge a process holds.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Part {
    /// A whole node that has made and carried out its plan.
    Node,
    /// The index of all pods alone.
    Index,
    /// An index of one pod of each Deployment.
    OneOfEach,
}

/// What a process holds, in bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Weight {
    /// The heap's part of it, once all is settled.
    heap: i64,
    /// The most that the heap had until then.
    heap_peak: i64,
    /// The modelled tables' part of `heap`.
    tables: i64,
    /// By how much the process is larger.
    rss: i64,
    /// By how much it was at most.
    rss_peak: i64,
}

/// Weighs all cases, each in a process of its own; then agents.
pub fn run(rounds: usize) -> Result<Report> {
    let mut samples = Samples::default();
    for _ in 0..rounds {
        for case in Case::value_variants() {
            let name = case.name();
            let pods = case.cluster_set().pods() as f64;
            let Weight { heap, heap_peak, tables, rss, rss_peak } = weighed_apart(*case, Part::Node)?;
            let index = weighed_apart(*case, Part::Index)?.heap;
            let groups = groups_of(index, weighed_apart(*case, Part::OneOfEach)?.heap);
            let figures = [
                ("heap_per_pod", heap),
                ("heap_per_pod_index_pods", index - groups),
                ("heap_per_pod_index_groups", groups),
                ("heap_per_pod_tables", tables),
                ("heap_per_pod_rules", heap - index - tables),
                ("heap_peak_per_pod", heap_peak),
                ("rss_per_pod", rss),
                ("rss_peak_per_pod", rss_peak),
            ];
            for (figure, bytes) in figures {
                samples.add(&format!("{figure}_{}", name.replace('-', "_")), "B", bytes as f64 / pods);
            }
        }
    }
    for case in Case::value_variants() {
        samples.budget(&format!("heap_per_pod_{}", case.name().replace('-', "_")), BUDGET);
    }
    let skipped = match agent::obstacle() {
        None => {
            agent::weigh(rounds, &mut samples)?;
            Vec::new()
        }
        Some(reason) => vec![Skipped { case: "agent".to_owned(), reason }],
    };
    Ok(Report::new("memory", samples.rows()).skipped(skipped))
}

/// What of an index the groups weigh, by what it weighs with all pods of each Deployment and with one of each: the groups
/// are as many.
fn groups_of(all: i64, one_of_each: i64) -> i64 {
    let replicas = i64::from(REPLICAS);
    (replicas * one_of_each - all) / (replicas - 1)
}

/// Weighs a part of a case in this process, and prints what it weighs.
pub fn weigh(case: Case, part: Part) -> Result<()> {
    let set = case.cluster_set();
    let before = resident("self", "VmRSS")?;
    Heap::count();
    match part {
        Part::Node => {
            let node: Node = listing::list(&set, listing::Order::LocalFirst).node;
            let weight = Weight::now(before)?;
            // A clone of a hash table has as many buckets.
            let tables = node.tables().clone();
            let with_tables = Heap::now().live;
            println!("{}", serde_json::to_string(&Weight { tables: with_tables - weight.heap, ..weight })?);
            drop((tables, node));
        }
        Part::Index | Part::OneOfEach => {
            let index = listing::index(&set, if matches!(part, Part::Index) { 1 } else { REPLICAS });
            println!("{}", serde_json::to_string(&Weight::now(before)?)?);
            drop(index);
        }
    }
    Ok(())
}

impl Weight {
    /// Of what this process holds now; it had `before` bytes of memory without it.
    fn now(before: i64) -> Result<Self> {
        let (heap, rss, rss_peak) = (Heap::now(), resident("self", "VmRSS")?, resident("self", "VmHWM")?);
        Ok(Self { heap: heap.live, heap_peak: heap.peak, tables: 0, rss: rss - before, rss_peak: rss_peak - before })
    }
}

fn weighed_apart(case: Case, part: Part) -> Result<Weight> {
    let (case, part) = (case.name(), name_of(&part));
    let own = std::env::current_exe().context("find the benchmark's own program")?;
    let mut child = Command::new(own);
    child.args(["memory", "--case", &case, "--part", &part]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = child.output().with_context(|| format!("start a process for {case}"))?;
    ensure!(output.status.success(), "the process for {case} ended with {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("read what the process for {case} says"))
}

fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Case {
    fn name(self) -> String {
        name_of(&self)
    }

    fn cluster_set(self) -> ClusterSet {
        let (policies, families) = match self {
            Self::NobodyV4 => (Policies::Nobody, Families::V4),
            Self::EverybodyV4 => (Policies::MixAndEverybody(1_000), Families::V4),
            Self::NobodyDualStack => (Policies::Nobody, Families::Both),
            Self::EverybodyDualStack => (Policies::MixAndEverybody(1_000), Families::Both),
        };
        ClusterSet { policies, families, ..LARGE }
    }
}
