//! `policyctl simulate`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use policy_core::model::Issue;

use super::output::WhileRead;
use crate::cluster_set::ClusterSet;
use crate::simulate::{self, Input, Output, Probes};
use crate::sources::files;

const EXAMPLES: &str = "\
Examples:
  policyctl simulate clusterset.yaml
      who may talk to whom, over the ports that the pods declare
  policyctl simulate clusterset.yaml --probes probes.jsonl
      judge the probes of a file, one JSON object a line:
      {\"from\": \"a/shop/web-1\", \"to\": \"b/db/pg-0\", \"protocol\": \"TCP\", \"port\": 5432, \"expect\": \"deny\"}
  policyctl simulate clusterset.yaml --probes - -o json --check
      from standard input, for scripts, asking the naive evaluator too

Exit code: 0; 1 an expectation differs; 2 the input cannot be used or a probe cannot be judged; 3 --check found a
difference.";

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// One JSON object a line.
    Json,
}

/// What to simulate.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// The ClusterSet file; the directories of its members are relative to it.
    cluster_set: PathBuf,
    /// Judge these probes instead of every pod to every pod: a file of JSON lines, or - for standard input.
    #[arg(long, value_name = "FILE")]
    probes: Option<PathBuf>,
    /// How to write the results.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Compare every verdict with that of the naive evaluator.
    #[arg(long)]
    check: bool,
}

/// Runs the simulation.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let input = load(options)?;
    let probes = options.probes.clone().map_or(Probes::Matrix, Probes::File);
    let output = match options.output {
        Format::Table => Output::Table,
        Format::Json => Output::Json,
    };
    let mut out = BufWriter::new(WhileRead(std::io::stdout().lock()));
    let summary = simulate::run(&input, &probes, output, options.check, &mut out, &mut std::io::stderr().lock())?;
    out.flush().context("cannot write the results")?;
    Ok(ExitCode::from(summary.exit_code()))
}

fn load(options: &Options) -> anyhow::Result<Input> {
    let loaded = ClusterSet::load(&options.cluster_set)?;
    let cluster_set = loaded.cluster_set;
    let batch = files::load(&cluster_set).map_err(|issues| anyhow::anyhow!("{}", lines(&issues)))?;
    // Which member counts as local matters only for addresses that several clusters claim.
    let local = cluster_set.local.clone().or_else(|| Some(cluster_set.members.first()?.member.id.clone()));
    let local = local.context("the ClusterSet has no members")?;
    let mut issues = loaded.issues;
    issues.extend(batch.issues.into_iter().flatten());
    Ok(Input { config: cluster_set.config(&local), events: batch.events, issues })
}

fn lines(issues: &[Issue]) -> String {
    issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
