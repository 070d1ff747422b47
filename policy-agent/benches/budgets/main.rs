//! The benchmarks of `cargo xtask bench`: each prints a table beside its budgets, and writes it as JSON.

#[path = "../../tests/support/client.rs"]
mod client;
mod cluster_set;
mod compile;
mod fill;
mod latency;
mod machine;
mod memory;
mod packet;
mod path;
mod report;
mod site;
mod sys;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use report::Report;

/// One benchmark.
#[derive(Clone, Copy, ValueEnum)]
enum Bench {
    /// What a packet costs in the kernel, by `BPF_PROG_TEST_RUN`.
    Packet,
    /// What connections and packets cost between a client and a pod, beside other filters.
    Path,
    /// What the control plane costs: a million pods listed, and each kind of change.
    Compile,
    /// How long after a change at an API server packets are decided by it.
    Latency,
    /// What a million pods weigh in memory.
    Memory,
    /// A million addresses into the kernel's tables.
    Fill,
}

impl Bench {
    /// How many rounds are enough, and not too many for a person who waits.
    fn rounds(self) -> usize {
        match self {
            Self::Packet => 15,
            Self::Path => 60,
            Self::Compile => 3,
            Self::Latency => 5,
            Self::Memory => 1,
            Self::Fill => 5,
        }
    }
}

#[derive(Parser)]
struct Arguments {
    bench: Bench,
    /// Writes the figures here too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How many rounds; each measures every case once, unless it takes long.
    #[arg(long)]
    rounds: Option<usize>,
    /// Of `memory`: weighs one case in this process, and prints that alone.
    #[arg(long, hide = true)]
    case: Option<memory::Case>,
    /// Of `memory`: how much of the case.
    #[arg(long, hide = true, default_value = "node")]
    part: memory::Part,
}

fn main() -> Result<()> {
    // `cargo bench` adds `--bench` to whatever it was told.
    let arguments = Arguments::parse_from(std::env::args().filter(|argument| argument != "--bench"));
    if let Some(case) = arguments.case {
        return memory::weigh(case, arguments.part);
    }
    let rounds = arguments.rounds.unwrap_or_else(|| arguments.bench.rounds()).max(1);
    let report: Report = match arguments.bench {
        Bench::Packet => packet::run(rounds)?,
        Bench::Path => path::run(rounds)?,
        Bench::Compile => compile::run(rounds)?,
        Bench::Latency => latency::run(rounds)?,
        Bench::Memory => memory::run(rounds)?,
        Bench::Fill => fill::run(rounds)?,
    };
    println!("{report}");
    if let Some(path) = arguments.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(&path, json + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
