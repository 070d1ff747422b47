//! What a soak comes to: a table for people, JSON for scripts.

use std::fmt;
use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use serde::Serialize;

use crate::machine::Machine;
use crate::run::Done;
use crate::traffic::Seen;

/// Times of one kind.
#[derive(Debug, Default)]
pub struct Spans {
    count: u32,
    sum: Duration,
    longest: Duration,
}

impl Spans {
    /// One more.
    pub fn add(&mut self, span: Duration) {
        self.count += 1;
        self.sum += span;
        self.longest = self.longest.max(span);
    }

    /// Their mean; something plausible where there are none yet.
    pub fn mean(&self) -> Duration {
        if self.count == 0 { Duration::from_millis(100) } else { self.sum / self.count }
    }
}

/// What a soak came to.
#[derive(Serialize)]
pub struct Report {
    bench: &'static str,
    machine: Machine,
    rows: Vec<Row>,
    /// What exactly was wrong, a line each.
    wrong: Vec<String>,
}

/// One figure.
#[derive(Serialize)]
struct Row {
    case: &'static str,
    unit: &'static str,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<f64>,
}

fn row(case: &'static str, unit: &'static str, value: f64) -> Row {
    Row { case, unit, value, budget: None }
}

impl Row {
    /// Of which there may be none.
    fn none(self) -> Self {
        Self { budget: Some(0.0), ..self }
    }

    fn is_kept(&self) -> bool {
        self.budget.is_none_or(|budget| self.value <= budget)
    }
}

impl Report {
    /// Of a soak.
    pub fn new(done: &Done, seen: &Seen, cut_alive: usize, took: Duration) -> Self {
        let ms = |span: Duration| span.as_secs_f64() * 1000.0;
        let rows = vec![
            row("the agent was killed", "times", done.killed.into()),
            row("… while it started", "times", done.killed_starting.into()),
            row("… in the middle of a commit", "times", done.killed_halfway.into()),
            row("time for each kill", "ms", ms(took) / f64::from(done.killed.max(1))),
            row("changes of the manifests", "changes", done.changes.into()),
            row("commits, by their number", "commits", done.commits as f64),
            row("caught up after a start", "times", done.starts.count.into()),
            row("… within, on average", "ms", ms(done.starts.mean())),
            row("… within, at most", "ms", ms(done.starts.longest)),
            row("caught up after a change", "times", done.in_force.count.into()),
            row("… within, on average", "ms", ms(done.in_force.mean())),
            row("… within, at most", "ms", ms(done.in_force.longest)),
            row("did not catch up", "times", if done.failure.is_some() { 1.0 } else { 0.0 }).none(),
            row("forbidden packets sent", "packets", seen.forbidden_sent() as f64),
            row("forbidden packets passed", "packets", seen.forbidden_passed() as f64).none(),
            row("cut connections that came back", "connections", cut_alive as f64).none(),
            row("allowed datagrams sent", "packets", seen.datagrams_sent() as f64),
            row("allowed datagrams lost", "packets", seen.datagrams_lost() as f64).none(),
            row("exchanges on allowed connections", "exchanges", seen.exchanges() as f64),
            row("… the longest", "ms", ms(seen.talks.iter().map(|talk| talk.longest).max().unwrap_or_default())),
            row("allowed connections cut", "connections", seen.talks_cut() as f64).none(),
        ];
        Self { bench: "soak", machine: Machine::this(), rows, wrong: wrong(done, seen) }
    }

    /// What must not have been.
    pub fn violations(&self) -> Vec<String> {
        let broken = self.rows.iter().filter(|row| !row.is_kept());
        broken.map(|row| format!("{}: {}", row.case, row.value)).chain(self.wrong.iter().cloned()).collect()
    }
}

/// What exactly was wrong.
fn wrong(done: &Done, seen: &Seen) -> Vec<String> {
    let passed = seen.forbidden.iter().filter(|it| it.arrived > 0).map(ToString::to_string);
    let silent = seen.forbidden.iter().filter(|it| it.sent == 0).map(|it| format!("nothing was sent: {it}"));
    let cut = seen.talks.iter().filter(|it| it.cut.is_some()).map(ToString::to_string);
    let lost = seen.datagrams.iter().filter(|it| it.sent != it.arrived || it.sent != it.echoed);
    let lost = lost.map(|it| format!("{:?}: {} sent, {} arrived, {} echoed", it.flow, it.sent, it.arrived, it.echoed));
    done.failure.iter().cloned().chain(passed).chain(silent).chain(cut).chain(lost).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nsoak: {}", self.machine)?;
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        for row in &self.rows {
            let verdict = match row.budget {
                None => Cell::new(""),
                Some(_) if row.is_kept() => Cell::new("✔").fg(Color::Green),
                Some(_) => Cell::new("✘").fg(Color::Red).add_attribute(Attribute::Bold),
            };
            let value = Cell::new(format!("{:.0}", row.value)).set_alignment(CellAlignment::Right);
            table.add_row(vec![Cell::new(row.case), value, Cell::new(row.unit), verdict]);
        }
        writeln!(f, "{table}")?;
        self.wrong.iter().try_for_each(|line| writeln!(f, "✘ {line}"))
    }
}
