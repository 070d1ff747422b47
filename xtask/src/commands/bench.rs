//! `cargo xtask bench`: what things cost, beside their budgets; what cannot be measured here is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::{machine, process, report, setup, workspace};

use super::test::{Variables, no_lab, prepare_api_servers, unless};

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// One benchmark; without it all that this machine can run.
    name: Option<Bench>,
    /// Writes the figures here too: an object for one benchmark, an array of them for all.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How many rounds; without it as many as each benchmark needs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Bench {
    /// What a packet costs in the kernel (root).
    Packet,
    /// What connections and packets cost between a client and a pod, beside other filters (root, network namespaces).
    Path,
    /// What the control plane costs in a large ClusterSet.
    Compile,
    /// How long after a change at an API server packets are decided by it (root, network namespaces, an API server).
    Latency,
    /// What the agent's knowledge of a million pods weighs, and agents with 100,000 pods of an API server (where one runs).
    Memory,
    /// How long a million addresses take into the kernel (root).
    Fill,
}

impl Bench {
    fn as_str(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Path => "path",
            Self::Compile => "compile",
            Self::Latency => "latency",
            Self::Memory => "memory",
            Self::Fill => "fill",
        }
    }

    /// About how long it takes, for whoever waits.
    fn duration(self) -> &'static str {
        match self {
            Self::Packet => "1 minute",
            Self::Compile => "4 minutes",
            Self::Path | Self::Latency | Self::Fill => "2 minutes",
            Self::Memory => "3 minutes",
        }
    }

    /// What its environment has to have; the error is why this machine cannot run it.
    fn prepare(self) -> Result<Variables, String> {
        let memory_mib = match self {
            Self::Packet | Self::Path => 1024,
            Self::Compile | Self::Latency | Self::Memory | Self::Fill => 4096,
        };
        if let Some(free) = machine::available_memory_mib().filter(|free| *free < memory_mib) {
            return Err(format!("needs {memory_mib} MiB of free memory (there are {free})"));
        }
        match self {
            Self::Packet | Self::Fill => unless(machine::no_ebpf()),
            Self::Path => unless(no_lab()),
            Self::Compile => Ok(Variables::new()),
            Self::Latency => prepare_api_servers(),
            // A part of it; where there is none, it says so itself.
            Self::Memory => Ok(prepare_api_servers().unwrap_or_default()),
        }
    }

    /// Runs it; it prints its table itself.
    fn run(self, options: &Options, variables: Variables, json: Option<&Path>) -> Result<()> {
        report::step(&format!("{} (about {})", self.as_str(), self.duration()));
        let mut bench = process::cargo();
        bench.args(["bench", "--quiet", "--package", "policy-agent", "--bench", "budgets", "--", self.as_str()]);
        bench.envs(variables);
        if let Some(json) = json {
            bench.arg("--json").arg(json);
        }
        if let Some(rounds) = options.rounds {
            bench.args(["--rounds", &rounds.to_string()]);
        }
        process::run(bench.current_dir(workspace::root())).with_context(|| format!("benchmark {}", self.as_str()))
    }
}

/// Runs one benchmark, or all that can run here.
pub fn run(options: &Options) -> Result<ExitCode> {
    // Cargo runs benchmarks in the directory of their package.
    let json = options.json.as_deref().map(std::path::absolute).transpose().context("find the current directory")?;
    if matches!(options.name, None | Some(Bench::Path | Bench::Latency | Bench::Memory)) {
        setup::packages::ensure()?;
    }
    match options.name {
        Some(bench) => {
            match bench.prepare() {
                Ok(variables) => bench.run(options, variables, json.as_deref())?,
                Err(obstacle) => bail!("benchmark {} {obstacle}", bench.as_str()),
            }
            Ok(ExitCode::SUCCESS)
        }
        None => run_all(options, json.as_deref()),
    }
}

/// One that fails does not keep the others from being measured.
fn run_all(options: &Options, json: Option<&Path>) -> Result<ExitCode> {
    let folder = tempfile::tempdir().context("make a temporary directory")?;
    let mut figures = Vec::new();
    let mut failed = false;
    for bench in Bench::value_variants() {
        let variables = match bench.prepare() {
            Ok(variables) => variables,
            Err(obstacle) => {
                report::skipped(&format!("{} skipped: {obstacle}", bench.as_str()));
                continue;
            }
        };
        let own = folder.path().join(bench.as_str());
        match bench.run(options, variables, Some(&own)) {
            Ok(()) => figures.push(fs::read_to_string(&own).with_context(|| format!("read {}", own.display()))?),
            Err(error) => {
                failed = true;
                report::error(&error);
            }
        }
    }
    if let Some(path) = json {
        fs::write(path, array(&figures)).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A JSON array of JSON texts.
fn array(values: &[String]) -> String {
    let values: Vec<&str> = values.iter().map(|value| value.trim()).collect();
    format!("[{}]\n", values.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_all_benchmarks_are_one_array() {
        let values = ["{\"bench\": \"packet\"}\n", "{\"bench\": \"fill\"}\n"].map(str::to_owned);
        assert_eq!(array(&values), "[{\"bench\": \"packet\"},\n{\"bench\": \"fill\"}]\n");
        assert_eq!(array(&[]), "[]\n");
    }
}
