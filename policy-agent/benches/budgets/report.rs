//! Figures beside budgets: a table for people, JSON for scripts.

use std::fmt;
use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use serde::Serialize;

use crate::machine::Machine;

/// What one benchmark measured.
#[derive(Serialize)]
pub struct Report {
    bench: &'static str,
    machine: Machine,
    rows: Vec<Row>,
}

/// One case: figures of several rounds.
#[derive(Clone, Serialize)]
pub struct Row {
    case: String,
    unit: &'static str,
    #[serde(flatten)]
    figures: Figures,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Baseline>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Budget>,
}

/// A median and its quartiles.
#[derive(Clone, Copy, Serialize)]
struct Figures {
    median: f64,
    q1: f64,
    q3: f64,
    runs: usize,
}

/// A case of the same run that others are compared with.
#[derive(Clone, Serialize)]
struct Baseline {
    case: String,
    median: f64,
}

/// What a case may cost, in its unit.
#[derive(Clone, Copy, Serialize)]
#[serde(transparent)]
pub struct Budget(pub f64);

impl Budget {
    fn is_kept(self, figure: f64) -> bool {
        figure <= self.0
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "≤ {}", self.0)
    }
}

impl Row {
    /// A case with the figures of its rounds.
    pub fn new(case: impl Into<String>, unit: &'static str, samples: &[f64]) -> Self {
        Self { case: case.into(), unit, figures: Figures::of(samples), baseline: None, budget: None }
    }

    /// With what it may cost.
    pub fn budget(mut self, budget: impl Into<Option<Budget>>) -> Self {
        self.budget = budget.into();
        self
    }

    /// Beside another case of the same run.
    pub fn beside(mut self, other: &Self) -> Self {
        self.baseline = Some(Baseline { case: other.case.clone(), median: other.figures.median });
        self
    }
}

/// A unit of time, and how many of it are a second.
#[derive(Clone, Copy)]
pub struct TimeUnit(&'static str, f64);

impl TimeUnit {
    /// Seconds.
    pub const S: Self = Self("s", 1.0);
    /// Milliseconds.
    pub const MS: Self = Self("ms", 1e3);
    /// Microseconds.
    pub const US: Self = Self("µs", 1e6);
}

/// Cases that are measured bit by bit, in the order in which each is first measured.
#[derive(Default)]
pub struct Samples {
    cases: Vec<Case>,
}

struct Case {
    name: String,
    unit: &'static str,
    samples: Vec<f64>,
    budget: Option<Budget>,
    beside: Option<String>,
}

impl Samples {
    /// One more figure of a case.
    pub fn add(&mut self, name: &str, unit: &'static str, figure: f64) {
        self.case(name, unit).samples.push(figure);
    }

    /// One more time of a case.
    pub fn add_time(&mut self, name: &str, unit: TimeUnit, took: Duration) {
        self.add(name, unit.0, took.as_secs_f64() * unit.1);
    }

    /// What a case that was measured may cost.
    pub fn budget(&mut self, name: &str, budget: f64) {
        self.cases.iter_mut().filter(|case| case.name == name).for_each(|case| case.budget = Some(Budget(budget)));
    }

    /// Beside which other case one that was measured stands.
    pub fn beside(&mut self, name: &str, other: &str) {
        self.cases.iter_mut().filter(|case| case.name == name).for_each(|case| case.beside = Some(other.to_owned()));
    }

    fn case(&mut self, name: &str, unit: &'static str) -> &mut Case {
        let place = self.cases.iter().position(|case| case.name == name).unwrap_or(self.cases.len());
        if place == self.cases.len() {
            self.cases.push(Case { name: name.to_owned(), unit, samples: Vec::new(), budget: None, beside: None });
        }
        &mut self.cases[place]
    }

    /// A row for each case.
    pub fn rows(&self) -> Vec<Row> {
        let row = |case: &Case| Row::new(&case.name, case.unit, &case.samples).budget(case.budget);
        let row_of = |name: &String| self.cases.iter().find(|case| case.name == *name).map(row);
        let rows = self.cases.iter().map(|case| match case.beside.as_ref().and_then(row_of) {
            Some(other) => row(case).beside(&other),
            None => row(case),
        });
        rows.collect()
    }
}

impl Figures {
    fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |quarters: f64| {
            let place = quarters / 4.0 * (sorted.len().saturating_sub(1)) as f64;
            let (below, above) = (sorted.get(place.floor() as usize), sorted.get(place.ceil() as usize));
            match (below, above) {
                (Some(below), Some(above)) => below + (above - below) * place.fract(),
                _ => f64::NAN,
            }
        };
        Self { median: at(2.0), q1: at(1.0), q3: at(3.0), runs: sorted.len() }
    }
}

impl Report {
    /// The rows of a benchmark on this machine.
    pub fn new(bench: &'static str, rows: Vec<Row>) -> Self {
        Self { bench, machine: Machine::this(), rows }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.bench, self.machine)?;
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let heads = ["case", "median", "quartiles", "unit", "rounds", "beside", "ratio", "budget", ""];
        table.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Dim)));
        for row in &self.rows {
            table.add_row(row.cells());
        }
        for column in [1, 2, 4, 6, 7] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        write!(f, "{table}")
    }
}

impl Row {
    fn cells(&self) -> Vec<Cell> {
        let Self { case, unit, figures, baseline, budget } = self;
        let Figures { median, q1, q3, runs } = *figures;
        let (beside, ratio) = match baseline {
            Some(Baseline { case, median: other }) => (case.clone(), format!("{:.2}", median / other)),
            None => Default::default(),
        };
        let (bound, kept) = match budget {
            Some(budget) if budget.is_kept(median) => (budget.to_string(), Cell::new("✔").fg(Color::Green)),
            Some(budget) => (budget.to_string(), Cell::new("✘").fg(Color::Red)),
            None => (String::new(), Cell::new("")),
        };
        let mut cells: Vec<Cell> = [case.clone(), figure(median), format!("{}–{}", figure(q1), figure(q3))]
            .into_iter()
            .chain([(*unit).to_owned(), runs.to_string(), beside, ratio, bound])
            .map(Cell::new)
            .collect();
        cells.push(kept);
        cells
    }
}

/// As many digits as mean something.
fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
