//! `cargo xtask figures`: pictures of what benchmarks have measured, for the documents.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, io};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::{report, workspace};

/// What to do with the pictures.
#[derive(Args)]
pub struct Options {
    /// Change nothing; fail if a picture is not what its figures say.
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
}

#[derive(Deserialize)]
struct Row {
    case: String,
    unit: String,
    median: f64,
    q1: f64,
    q3: f64,
    budget: Option<f64>,
}

/// Draws each `docs/figures/*.json` into the file of the same name that ends in `.svg`.
pub fn run(options: &Options) -> Result<ExitCode> {
    for figures in sources()? {
        let picture = figures.with_extension("svg");
        let text = fs::read_to_string(&figures).with_context(|| format!("read {}", figures.display()))?;
        let bench: Bench = serde_json::from_str(&text).with_context(|| format!("read {}", figures.display()))?;
        let drawn = draw(&bench);
        if options.check {
            let committed = fs::read_to_string(&picture).with_context(|| format!("read {}", picture.display()))?;
            ensure!(committed == drawn, "{} is not what its figures say: run `cargo xtask figures`", picture.display());
        } else {
            fs::write(&picture, drawn).with_context(|| format!("write {}", picture.display()))?;
            report::done(&format!("drew {}", picture.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
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

/// The width of the picture, of its column of names and of its bars.
const WIDTH: f64 = 760.0;
const NAMES: f64 = 270.0;
const BARS: f64 = 360.0;
const LINE: f64 = 20.0;
const HEAD: f64 = 40.0;

/// Bars with the quartiles, and a mark where the budget is; rows of one unit have one scale.
fn draw(bench: &Bench) -> String {
    let height = HEAD + LINE * bench.rows.len() as f64 + 10.0;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
"##
    );
    let Machine { cpu, cores, kernel } = &bench.machine;
    let head = format!("{}: {cpu}, {cores} cores, Linux {kernel}; the mark is the budget", bench.bench);
    text(&mut svg, 10.0, 22.0, "start", &head);
    for (number, row) in bench.rows.iter().enumerate() {
        let scale = BARS / largest(&bench.rows, &row.unit);
        draw_row(&mut svg, row, HEAD + LINE * number as f64, scale);
    }
    svg.push_str("</svg>\n");
    svg
}

/// The largest figure of a unit, budgets included.
fn largest(rows: &[Row], unit: &str) -> f64 {
    let alike = rows.iter().filter(|row| row.unit == unit);
    alike.flat_map(|row| [row.q3, row.budget.unwrap_or_default()]).fold(f64::MIN_POSITIVE, f64::max)
}

fn draw_row(svg: &mut String, row: &Row, top: f64, scale: f64) {
    let is_kept = row.budget.is_none_or(|budget| row.median <= budget);
    let colour = match row.budget {
        None => "#8da0b3",
        Some(_) if is_kept => "#3a8f5c",
        Some(_) => "#c9772c",
    };
    text(svg, NAMES - 10.0, top + 14.0, "end", &row.case);
    let length = (row.median * scale).max(1.0);
    let (x, y, width) = (fixed(NAMES), fixed(top + 4.0), fixed(length));
    let _infallible = writeln!(svg, r#"<rect x="{x}" y="{y}" width="{width}" height="12" fill="{colour}"/>"#);
    line(svg, (NAMES + row.q1 * scale, top + 10.0), (NAMES + row.q3 * scale, top + 10.0), "#222222");
    if let Some(budget) = row.budget {
        let at = NAMES + budget * scale;
        line(svg, (at, top + 1.0), (at, top + 19.0), "#a00000");
    }
    text(svg, NAMES + BARS + 10.0, top + 14.0, "start", &format!("{} {}", short(row.median), row.unit));
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    let (x, y) = (fixed(x), fixed(y));
    let _infallible = writeln!(svg, r#"<text x="{x}" y="{y}" text-anchor="{anchor}">{content}</text>"#);
}

fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
    let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(fixed);
    let _infallible = writeln!(svg, r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"/>"#);
}

fn fixed(number: f64) -> String {
    format!("{number:.1}")
}

/// Three digits, or all before the point.
fn short(number: f64) -> String {
    match number {
        _ if number >= 100.0 => format!("{number:.0}"),
        _ if number >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
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
