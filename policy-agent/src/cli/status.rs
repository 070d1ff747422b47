//! `policyctl status`.

use std::process::ExitCode;

use clap::Args;
use comfy_table::{Cell, CellAlignment};

use super::ask::AskOptions;
use super::output::{Card, bad, counted, doubtful, good, issues_counted, listing, trimmed};
use crate::api::types::{IssueCounts, Phase, Request, Status, TableUse};

const EXAMPLES: &str = "\
Examples:
  policyctl status
  policyctl status -o json | jq .phase
  policyctl status --socket /run/crosswall/node-2.sock";

/// Whose status.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    ask: AskOptions,
}

/// Shows the status.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    options.ask.ask(&Request::Status, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(status: &Status) -> String {
    let mut card = Card::new();
    card.line("node", format!("{} of cluster {}", status.node, status.cluster));
    card.line("agent", format!("version {}, up {}", status.version, duration(status.uptime_s)));
    let commit = match status.committed_ago_s {
        None => format!("commit {}", status.commit),
        Some(ago) => format!("commit {}, made {} ago", status.commit, duration(ago)),
    };
    card.line(
        "state",
        match status.phase {
            Phase::Enforcing => good(format!("enforcing, {commit}")),
            Phase::Starting => doubtful("starting: waits for the clusters; the kernel enforces what it held before"),
        },
    );
    let Status { cluster_set, default_peer_scope, cluster_labels, .. } = status;
    card.line(
        "ClusterSet",
        format!("{cluster_set}; default peer scope {default_peer_scope}, cluster labels {cluster_labels}"),
    );
    let synced = format!("{} of {} synced", status.clusters_synced, status.clusters);
    let complete = status.clusters_synced == status.clusters;
    card.line("clusters", if complete { good(synced) } else { doubtful(synced) });
    card.line(
        "endpoints",
        match status.endpoints_without_interface {
            0 => Cell::new(status.endpoints),
            missing => doubtful(format!("{}, {missing} of them without an interface", status.endpoints)),
        },
    );
    let (policies, identities) = (counted(status.policies, "policy"), counted(status.identities, "identity"));
    card.line("policies", format!("{policies}, {identities}"));
    card.line(
        "issues",
        match status.issues {
            IssueCounts { errors: 0, warnings: 0 } => good("none"),
            counts @ IssueCounts { errors: 0, .. } => doubtful(issues_counted(counts)),
            counts => bad(format!("{}: see policyctl issues", issues_counted(counts))),
        },
    );
    let mut table = listing(["TABLE", "ENTRIES", "LIMIT", "FULL"]);
    for TableUse { table: name, entries, limit } in &status.tables {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let full = limit.filter(|limit| *limit > 0).map(|limit| entries * 100 / limit);
        let full_cell = match full {
            None => Cell::new("-"),
            Some(percent @ 0..80) => Cell::new(format!("{percent} %")),
            Some(percent) => bad(format!("{percent} %")),
        };
        table.add_row([
            Cell::new(name),
            right(entries.to_string()),
            right(limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string())),
            full_cell.set_alignment(CellAlignment::Right),
        ]);
    }
    format!("{}\n{}", card.text(), trimmed(&table))
}

pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_fits_on_a_card() {
        let status = Status {
            version: "0.1.0".to_owned(),
            node: "n1".to_owned(),
            cluster: "cluster-a".to_owned(),
            cluster_set: "/etc/crosswall/clusterset.yaml".to_owned(),
            phase: Phase::Enforcing,
            uptime_s: 4000,
            default_peer_scope: "Local".to_owned(),
            cluster_labels: "Implicit".to_owned(),
            commit: 12,
            committed_ago_s: Some(7),
            endpoints: 3,
            endpoints_without_interface: 1,
            policies: 1,
            identities: 2,
            clusters: 3,
            clusters_synced: 3,
            issues: IssueCounts { errors: 1, warnings: 2 },
            tables: vec![TableUse { table: "rules".to_owned(), entries: 90, limit: Some(100) }],
        };
        let expected = "
 node        n1 of cluster cluster-a
 agent       version 0.1.0, up 1 h 6 min
 state       enforcing, commit 12, made 7 s ago
 ClusterSet  /etc/crosswall/clusterset.yaml; default peer scope Local, cluster labels Implicit
 clusters    3 of 3 synced
 endpoints   3, 1 of them without an interface
 policies    1 policy, 2 identities
 issues      1 error, 2 warnings: see policyctl issues

 TABLE   ENTRIES   LIMIT   FULL
────────────────────────────────
 rules        90     100   90 %
";
        assert_eq!(format!("\n{}", text(&status)), expected);
    }
}
