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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<Skipped>,
    /// What people see in place of all rows.
    #[serde(skip)]
    table: Option<Table>,
}

/// What this machine cannot measure.
#[derive(Serialize)]
pub struct Skipped {
    /// Its name.
    pub case: String,
    /// What is missing.
    pub reason: String,
}

/// Which figures are better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Costs.
    #[default]
    Lower,
    /// Rates.
    Higher,
}

impl Better {
    /// Of which nothing needs to be said.
    fn is_usual(&self) -> bool {
        *self == Self::Lower
    }
}

/// One case: figures of several rounds.
#[derive(Clone, Serialize)]
pub struct Row {
    case: String,
    unit: &'static str,
    #[serde(skip_serializing_if = "Better::is_usual")]
    better: Better,
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

/// What a case may cost, or must reach, in its unit.
#[derive(Clone, Copy, Serialize)]
#[serde(transparent)]
pub struct Budget(pub f64);

impl Budget {
    fn is_kept(self, figure: f64, better: Better) -> bool {
        match better {
            Better::Lower => figure <= self.0,
            Better::Higher => figure >= self.0,
        }
    }

    /// The bound.
    pub fn said(self, better: Better) -> String {
        match better {
            Better::Lower => format!("≤ {}", self.0),
            Better::Higher => format!("≥ {}", self.0),
        }
    }
}

impl Row {
    /// A case with the figures of its rounds.
    pub fn new(case: impl Into<String>, unit: &'static str, samples: &[f64]) -> Self {
        let figures = Figures::of(samples);
        Self { case: case.into(), unit, better: Better::default(), figures, baseline: None, budget: None }
    }

    /// Of a kind of which more is better, or less.
    pub fn better(mut self, better: Better) -> Self {
        self.better = better;
        self
    }

    /// With what it may cost.
    pub fn budget(mut self, budget: impl Into<Option<Budget>>) -> Self {
        self.budget = budget.into();
        self
    }

    /// The figure of the middle round.
    pub fn median(&self) -> f64 {
        self.figures.median
    }

    /// Between which figures half of the rounds are.
    pub fn quartiles(&self) -> (f64, f64) {
        (self.figures.q1, self.figures.q3)
    }

    /// Whether it keeps its budget, if there is one.
    pub fn keeps_budget(&self) -> Option<bool> {
        self.budget.map(|budget| budget.is_kept(self.figures.median, self.better))
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
        Self { bench, machine: Machine::this(), rows, skipped: Vec::new(), table: None }
    }

    /// Shown to people as a table of its own.
    pub fn shown_as(mut self, table: Table) -> Self {
        self.table = Some(table);
        self
    }

    /// With what could not be measured.
    pub fn skipped(mut self, skipped: Vec<Skipped>) -> Self {
        self.skipped = skipped;
        self
    }

    fn rows_as_table(&self) -> Table {
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
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.bench, self.machine)?;
        match &self.table {
            Some(table) => write!(f, "{table}")?,
            None => write!(f, "{}", self.rows_as_table())?,
        }
        for Skipped { case, reason } in &self.skipped {
            write!(f, "\n{case} skipped: {reason}")?;
        }
        Ok(())
    }
}

impl Row {
    fn cells(&self) -> Vec<Cell> {
        let Self { case, unit, better, figures, baseline, budget } = self;
        let Figures { median, q1, q3, runs } = *figures;
        let (beside, ratio) = match baseline {
            Some(Baseline { case, median: other }) => (case.clone(), format!("{:.2}", median / other)),
            None => Default::default(),
        };
        let bound = budget.map(|budget| budget.said(*better)).unwrap_or_default();
        let kept = match self.keeps_budget() {
            Some(true) => Cell::new("✔").fg(Color::Green),
            Some(false) => Cell::new("✘").fg(Color::Red),
            None => Cell::new(""),
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
pub fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
