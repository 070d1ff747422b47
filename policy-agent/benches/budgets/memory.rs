//! What the agent's knowledge of a million pods weighs. Each case has a process of its own: one is fresh only once.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use policy_core::node::Node;
use serde::{Deserialize, Serialize};

use crate::cluster_set::{ClusterSet, Families, Policies};
use crate::compile::{LARGE, listing};
use crate::report::{Report, Samples};
use crate::sys::Heap;

/// What a remote pod may weigh, in bytes.
const BUDGET: f64 = 160.0;

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

/// What a case weighs, in bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Weight {
    /// The node's part of the heap once all is settled.
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

/// Weighs all cases, each in a process of its own.
pub fn run(rounds: usize) -> Result<Report> {
    let mut samples = Samples::default();
    for _ in 0..rounds {
        for case in Case::value_variants() {
            let name = case.name();
            let pods = case.cluster_set().pods() as f64;
            let Weight { heap, heap_peak, tables, rss, rss_peak } = weighed_apart(&name)?;
            let figures = [
                ("heap_per_pod", heap),
                ("heap_per_pod_tables", tables),
                ("heap_per_pod_rest", heap - tables),
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
    Ok(Report::new("memory", samples.rows()))
}

/// Weighs a case in this process, and prints what it weighs.
pub fn weigh(case: Case) -> Result<()> {
    let set = case.cluster_set();
    let before = resident("VmRSS")?;
    Heap::count();
    let node: Node = listing::list(&set, listing::Order::LocalFirst).node;
    let (heap, rss, rss_peak) = (Heap::now(), resident("VmRSS")?, resident("VmHWM")?);
    // A clone of a hash table has as many buckets.
    let tables = node.tables().clone();
    let with_tables = Heap::now();
    let weight = Weight {
        heap: heap.live,
        heap_peak: heap.peak,
        tables: with_tables.live - heap.live,
        rss: rss - before,
        rss_peak: rss_peak - before,
    };
    drop((tables, node));
    println!("{}", serde_json::to_string(&weight)?);
    Ok(())
}

fn weighed_apart(case: &str) -> Result<Weight> {
    let own = std::env::current_exe().context("find the benchmark's own program")?;
    let mut child = Command::new(own);
    child.args(["memory", "--case", case]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = child.output().with_context(|| format!("start a process for {case}"))?;
    ensure!(output.status.success(), "the process for {case} ended with {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("read what the process for {case} says"))
}

/// A figure of this process's memory, in bytes.
fn resident(field: &str) -> Result<i64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<i64>().ok());
    Ok(1024 * kib.with_context(|| format!("/proc/self/status has no {field}"))?)
}

impl Case {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
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
