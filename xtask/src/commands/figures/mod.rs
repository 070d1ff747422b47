//! `cargo xtask figures`: pictures and tables of what benchmarks have measured, for the documents.

mod bars;
mod path;
mod svg;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::{report, workspace};

/// What to do with the pictures and tables.
#[derive(Args)]
pub struct Options {
    /// Change nothing; fail if a picture or a table is not what its figures say.
    #[arg(long)]
    check: bool,
}

/// What `cargo xtask bench NAME --json FILE` writes, as far as it is drawn.
#[derive(Deserialize)]
struct Bench {
    bench: String,
    machine: Machine,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    #[serde(default)]
    load: f64,
}

#[derive(Deserialize)]
struct Row {
    case: String,
    unit: String,
    #[serde(default)]
    better: Better,
    median: f64,
    q1: f64,
    q3: f64,
    budget: Option<f64>,
    baseline: Option<Baseline>,
}

/// A case of the same run that others are compared with.
#[derive(Deserialize)]
struct Baseline {
    case: String,
    median: f64,
}

/// Which figures are better.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Better {
    #[default]
    Lower,
    Higher,
}

impl Row {
    /// Grey without a budget, green within it, else orange.
    fn colour(&self) -> &'static str {
        match self.budget {
            None => "#8da0b3",
            Some(budget) if self.keeps(budget) => "#3a8f5c",
            Some(_) => "#c9772c",
        }
    }

    fn keeps(&self, budget: f64) -> bool {
        match self.better {
            Better::Lower => self.median <= budget,
            Better::Higher => self.median >= budget,
        }
    }
}

impl Machine {
    /// In a few words.
    fn said(&self) -> String {
        let Self { cpu, cores, kernel, load: _ } = self;
        format!("{cpu}, {cores} cores, Linux {kernel}")
    }
}

/// Three digits, or all before the point.
fn short(number: f64) -> String {
    match number {
        _ if number >= 100.0 => format!("{number:.0}"),
        _ if number >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Draws each `docs/figures/*.json` into the file of the same name that ends in `.svg`, and puts its table into
/// `docs/performance.md`.
pub fn run(options: &Options) -> Result<ExitCode> {
    let document = workspace::root().join("docs/performance.md");
    let mut text = read(&document)?;
    for figures in sources()? {
        let bench: Bench =
            serde_json::from_str(&read(&figures)?).with_context(|| format!("read {}", figures.display()))?;
        if let Some(with_table) = table::put(&text, &bench) {
            text = with_table.with_context(|| format!("read {}", document.display()))?;
        }
        options.write(&figures.with_extension("svg"), &draw(&bench))?;
    }
    options.write(&document, &text)?;
    Ok(ExitCode::SUCCESS)
}

impl Options {
    /// Writes what figures say, or looks whether it stands there.
    fn write(&self, file: &Path, text: &str) -> Result<()> {
        if self.check {
            ensure!(read(file)? == text, "{} is not what its figures say: run `cargo xtask figures`", file.display());
            return Ok(());
        }
        fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
        report::done(&format!("wrote {}", file.display()));
        Ok(())
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}

fn sources() -> Result<Vec<PathBuf>> {
    let folder = workspace::root().join("docs/figures");
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut sources: Vec<_> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|it| it == "json")).collect();
    sources.sort();
    Ok(sources)
}

/// The picture of a benchmark.
fn draw(bench: &Bench) -> String {
    match bench.bench.as_str() {
        "path" => path::draw(bench),
        _ => bars::draw(bench),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_pictures_are_what_their_figures_say() {
        run(&Options { check: true }).expect("they are");
    }

    #[test]
    fn a_row_shows_its_figure_and_its_budget() {
        let rows = r#"[{"case": "a & b", "unit": "ns", "median": 40, "q1": 30, "q3": 50, "budget": 100}]"#;
        let machine = r#"{"cpu": "some", "cores": 2, "kernel": "6.18", "memory_mib": 1}"#;
        let json = format!(r#"{{"bench": "packet", "machine": {machine}, "rows": {rows}}}"#);
        let svg = draw(&serde_json::from_str(&json).expect("figures"));
        for part in
            ["a &amp; b", ">40.0 ns<", r##"width="144.0" height="12" fill="#3a8f5c""##, r#"x1="630.0" y1="41.0""#]
        {
            assert!(svg.contains(part), "{part} in {svg}");
        }
    }
}
