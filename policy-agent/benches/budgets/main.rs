//! The benchmarks of `cargo xtask bench`: each prints a table beside its budgets, and writes it as JSON.

mod machine;
mod packet;
mod report;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use report::Report;

/// One benchmark.
#[derive(Clone, Copy, ValueEnum)]
enum Bench {
    /// What a packet costs in the kernel, by `BPF_PROG_TEST_RUN`.
    Packet,
}

#[derive(Parser)]
struct Arguments {
    bench: Bench,
    /// Writes the figures here too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How many rounds; each measures every case once.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
}

fn main() -> Result<()> {
    // `cargo bench` adds `--bench` to whatever it was told.
    let arguments = Arguments::parse_from(std::env::args().filter(|argument| argument != "--bench"));
    let report: Report = match arguments.bench {
        Bench::Packet => packet::run(arguments.rounds)?,
    };
    println!("{report}");
    if let Some(path) = arguments.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(&path, json + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
