//! Results of a simulation for people.

use std::io::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ContentArrangement};
use policy_core::judge::End;
use policy_core::model::{Issue, Level};

use super::Judged;

/// A table that grows by a row a probe.
#[derive(Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
    allowed: usize,
    denied: usize,
    unexpected: usize,
    errors: usize,
}

impl Table {
    /// Adds a probe.
    pub fn add(&mut self, judged: &Judged) {
        let text = |name: &str| judged.fields.display(name);
        let service = match text("port") {
            port if port.is_empty() => text("protocol"),
            port => format!("{}/{port}", text("protocol")),
        };
        let mut row = vec![Cell::new(text("from")), Cell::new(text("to")), Cell::new(service)];
        match &judged.outcome {
            Err(error) => {
                self.errors += 1;
                row.extend([Cell::new("error").fg(Color::Yellow), Cell::new(error), Cell::new("")]);
            }
            Ok(outcome) => {
                let allow = outcome.allow();
                *if allow { &mut self.allowed } else { &mut self.denied } += 1;
                self.unexpected += usize::from(judged.differs());
                let mut verdict = verdict_cell(allow);
                if judged.differs() {
                    verdict = Cell::new(if allow { "allow, not expected" } else { "deny, not expected" })
                        .fg(Color::Red)
                        .add_attribute(Attribute::Bold);
                }
                row.extend([verdict, end_cell(outcome.egress.as_ref()), end_cell(outcome.ingress.as_ref())]);
            }
        }
        self.rows.push(row);
    }

    /// Prints everything.
    pub fn print(self, issues: &[Issue], out: &mut dyn Write) -> std::io::Result<()> {
        let Self { rows, allowed, denied, unexpected, errors } = self;
        let mut table = comfy_table::Table::new();
        table
            .load_preset(NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(["FROM", "TO", "PORT", "VERDICT", "EGRESS", "INGRESS"]);
        table.add_rows(rows);
        writeln!(out, "{table}")?;
        for issue in issues {
            let level = match issue.level {
                Level::Error => "error",
                Level::Warning => "warning",
            };
            writeln!(out, "{level}: {issue}")?;
        }
        write!(out, "{allowed} allowed, {denied} denied")?;
        if unexpected > 0 {
            write!(out, ", {unexpected} not as expected")?;
        }
        if errors > 0 {
            write!(out, ", {errors} could not be judged")?;
        }
        writeln!(out)
    }
}

fn verdict_cell(allow: bool) -> Cell {
    if allow { Cell::new("allow").fg(Color::Green) } else { Cell::new("deny").fg(Color::Red) }
}

/// The rule that decided, or else the reason.
fn end_cell(end: Option<&End>) -> Cell {
    let Some(end) = end else { return Cell::new("-") };
    let text = match &end.rule {
        Some(place) => format!("{}/{} {}", place.policy.namespace, place.policy.name, place.rule()),
        None => end.reason.as_str().to_owned(),
    };
    Cell::new(text).fg(if end.allow { Color::Reset } else { Color::Red })
}
