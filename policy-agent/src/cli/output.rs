//! How answers are written: tables for people, JSON and YAML for scripts.

use std::io::{self, Write};

use anyhow::Context;
use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, TableComponent};
use serde::Serialize;

use crate::api::types::IssueCounts;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// A writer whose reader may go, as `head` does: what it does not want to see any more is no error.
#[derive(Debug)]
pub struct WhileRead<W>(pub W);

impl<W: Write> Write for WhileRead<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            outcome => outcome,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome,
        }
    }
}

/// Prints an answer. That nobody reads on is no error.
pub fn print<T: Serialize>(answer: &T, format: Format, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    let mut text = match format {
        Format::Table => table(answer),
        Format::Json => serde_json::to_string_pretty(answer).context("cannot write JSON")?,
        Format::Yaml => serde_saphyr::to_string(answer).context("cannot write YAML")?,
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    write(text.as_bytes())
}

/// Writes to standard output. That nobody reads on is no error.
pub fn write(text: &[u8]) -> anyhow::Result<()> {
    WhileRead(io::stdout().lock()).write_all(text).context("cannot write the answer")
}

/// A table with a header.
pub fn listing<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    let header = header.map(|title| Cell::new(title).add_attribute(Attribute::Bold));
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    table
}

/// A number, as numbers stand.
pub fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// Lines of a name and what is said of it.
#[derive(Debug)]
pub struct Card {
    table: Table,
}

impl Card {
    /// An empty one.
    pub fn new() -> Self {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        Self { table }
    }

    /// One more line.
    pub fn line(&mut self, name: &str, said: impl Into<Cell>) {
        self.table.add_row([Cell::new(name).add_attribute(Attribute::Bold), said.into()]);
    }

    /// As it is printed, without blanks at the ends of lines.
    pub fn text(&self) -> String {
        trimmed(&self.table)
    }
}

/// A table as text, without blanks at the ends of lines.
pub fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// What is good.
pub fn good(text: impl ToString) -> Cell {
    Cell::new(text).fg(Color::Green)
}

/// What is bad.
pub fn bad(text: impl ToString) -> Cell {
    Cell::new(text).fg(Color::Red)
}

/// What is worth a look.
pub fn doubtful(text: impl ToString) -> Cell {
    Cell::new(text).fg(Color::Yellow)
}

/// Lines, or a dash.
pub fn lines<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let lines: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if lines.is_empty() { "-".to_owned() } else { lines.join("\n") }
}

/// `1 pod`, `2 pods`.
pub fn counted(count: usize, noun: &str) -> String {
    let plural = match noun.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{noun}s"),
    };
    if count == 1 { format!("1 {noun}") } else { format!("{count} {plural}") }
}

/// `1 error, 2 warnings`, or what there is of them; empty: nothing.
pub fn issues_counted(IssueCounts { errors, warnings }: IssueCounts) -> String {
    let parts = [(errors, "error"), (warnings, "warning")].into_iter().filter(|(count, _)| *count > 0);
    parts.map(|(count, noun)| counted(count, noun)).collect::<Vec<_>>().join(", ")
}

/// A policy's name without what the context says: `cluster-a/NetworkPolicy/shop/web` is `shop/web`.
pub fn short_policy(name: &str) -> &str {
    name.split_once("/NetworkPolicy/").map_or(name, |(_, short)| short)
}
