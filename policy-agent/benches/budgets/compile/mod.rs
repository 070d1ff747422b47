//! What the control plane costs in a large ClusterSet: the first compile after listing, and each kind of change.

mod changes;
pub mod listing;

use std::collections::BTreeSet;

use anyhow::Result;
use policy_core::node::Node;
use policy_core::plan::Table;

use crate::cluster_set::{ClusterSet, Families, Policies};
use crate::report::{Report, Samples, TimeUnit};
use listing::{Listed, Order, list};

/// A million pods in 100 clusters, 1,000 policies, 100 endpoints.
pub const LARGE: ClusterSet =
    ClusterSet { clusters: 100, remote_pods: 10_000, policies: Policies::Mix(1_000), families: Families::V4 };

/// The same with one thing different.
const OTHERS: [(&str, ClusterSet); 7] = [
    ("pods_10k", ClusterSet { clusters: 1, ..LARGE }),
    ("pods_100k", ClusterSet { clusters: 10, ..LARGE }),
    ("policies_10", ClusterSet { policies: Policies::Mix(10), ..LARGE }),
    ("policies_100", ClusterSet { policies: Policies::Mix(100), ..LARGE }),
    ("policies_10k", ClusterSet { policies: Policies::Mix(10_000), ..LARGE }),
    ("dual_stack", ClusterSet { families: Families::Both, ..LARGE }),
    // As many pods as `pods_100k`, or nearly.
    ("clusters_10k", ClusterSet { clusters: 10_000, remote_pods: 10, ..LARGE }),
];

/// What cases of the large ClusterSet may cost, each in its unit.
const BUDGETS: [(&str, f64); 6] = [
    ("first_compile", 3.0),
    ("pod_added", 5.0),
    ("pod_removed", 5.0),
    ("pod_relabelled", 50.0),
    ("namespace_of_1000_relabelled", 5.0),
    ("policy_of_100k_added", 50.0),
];

/// Measures everything in every round.
pub fn run(rounds: usize) -> Result<Report> {
    let mut samples = Samples::default();
    for _ in 0..rounds {
        let mut node = list(&LARGE, Order::LocalFirst).record("", &mut samples);
        count(&node, "", &mut samples);
        changes::of_pods(&LARGE, &mut node, "", &mut samples)?;
        changes::of_many(&LARGE, &mut node, "", &mut samples)?;
        // Two of them at once would need twice the memory.
        drop(node);
        drop(list(&LARGE, Order::LocalLast).record("_local_last", &mut samples));
        for (name, set) in &OTHERS {
            measure_other(&format!("_{name}"), set, &mut samples)?;
        }
    }
    BUDGETS.into_iter().for_each(|(case, budget)| samples.budget(case, budget));
    stand_beside(&mut samples);
    Ok(Report::new("compile", samples.rows()))
}

fn measure_other(suffix: &str, set: &ClusterSet, samples: &mut Samples) -> Result<()> {
    let mut node = list(set, Order::LocalFirst).record(suffix, samples);
    if set.policies != LARGE.policies {
        count(&node, suffix, samples);
    }
    changes::of_pods(set, &mut node, suffix, samples)?;
    if set.policies != LARGE.policies {
        changes::of_many(set, &mut node, suffix, samples)?;
    }
    Ok(())
}

/// Says what a first compile made.
fn count(node: &Node, suffix: &str, samples: &mut Samples) {
    let length = |tables: &[Table]| tables.iter().map(|table| node.tables().len(*table)).sum();
    let entries: [(&str, usize); 7] = [
        ("endpoints", length(&[Table::Endpoints])),
        ("policies_here", policies_here(node)),
        ("identities", node.compiler().identity_count()),
        ("rule_entries", length(&[Table::Rules])),
        ("port_entries", length(&[Table::Ports])),
        ("address_entries", length(&[Table::IdentV4, Table::IdentV6])),
        ("prefix_entries", length(&[Table::NetsV4, Table::NetsV6])),
    ];
    for (name, count) in entries {
        samples.add(&format!("{name}{suffix}"), "entries", count as f64);
    }
}

/// The policies that some endpoint of the node lives under.
fn policies_here(node: &Node) -> usize {
    let subjects = node.compiler().subjects().values();
    subjects.flat_map(|subject| subject.isolated_by.iter().flatten()).collect::<BTreeSet<_>>().len()
}

impl Listed {
    /// Says what it cost; keeps the node.
    fn record(self, suffix: &str, samples: &mut Samples) -> Node {
        let Self { node, applying, planning } = self;
        samples.add_time(&format!("first_compile{suffix}"), TimeUnit::S, applying + planning);
        samples.add_time(&format!("first_compile_applying{suffix}"), TimeUnit::S, applying);
        samples.add_time(&format!("first_compile_planning{suffix}"), TimeUnit::S, planning);
        node
    }
}

/// Growth is seen beside the large ClusterSet.
fn stand_beside(samples: &mut Samples) {
    let names = OTHERS.iter().map(|(name, _)| *name).chain(["local_last"]);
    for name in names {
        for case in ["first_compile"].into_iter().chain(changes::POD_CASES).chain(changes::MANY_CASES) {
            samples.beside(&format!("{case}_{name}"), case);
        }
    }
}
