//! The figures as people compare them: a filter a line, a metric a column.

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};

use super::{Measured, Metric, Variant};
use crate::report::{Row, figure};

/// Medians with the quartiles below; what no filter costs in its unit, all else as its multiple.
pub fn of(measured: &Measured) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let heads = ["connect p50", "connect p99", "connections", "UDP packet", "TCP stream", "ping p50"];
    let heads = ["", "rounds"].into_iter().chain(heads);
    table.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Dim)));
    for variant in measured.visits.keys() {
        table.add_row(line(measured, *variant));
    }
    for variant in [Variant::Crosswall, Variant::CrosswallChurn] {
        table.add_row(budgets(variant));
    }
    for column in 1..=Metric::ALL.len() + 1 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn line(measured: &Measured, variant: Variant) -> Vec<Cell> {
    let mut title = title(variant).to_owned();
    if variant == Variant::CrosswallChurn {
        title += &format!("\n({:.0} commits/s)", measured.commits().median());
    }
    let mut cells = vec![Cell::new(title), Cell::new(measured.visits[&variant].len())];
    cells.extend(Metric::ALL.map(|metric| match variant {
        Variant::None => Cell::new(format!("{} {}", figure(measured.row(variant, metric).median()), metric.unit())),
        _ => ratio(&measured.ratio(variant, metric)),
    }));
    cells
}

fn ratio(row: &Row) -> Cell {
    let (q1, q3) = row.quartiles();
    let cell = Cell::new(format!("{:.3}\n{q1:.2}–{q3:.2}", row.median()));
    match row.keeps_budget() {
        None => cell,
        Some(true) => cell.fg(Color::Green),
        Some(false) => cell.fg(Color::Red),
    }
}

fn budgets(variant: Variant) -> Vec<Cell> {
    let title = match variant {
        Variant::CrosswallChurn => "budget of it in churn",
        _ => "budget of Crosswall",
    };
    let budget = |metric: Metric| match metric.budget(variant) {
        Some(budget) => budget.said(metric.better()),
        None => String::new(),
    };
    let cells = [title.to_owned(), String::new()].into_iter().chain(Metric::ALL.map(budget));
    cells.map(|cell| Cell::new(cell).add_attribute(Attribute::Dim)).collect()
}

fn title(variant: Variant) -> &'static str {
    match variant {
        Variant::None => "no filter",
        Variant::NoneAgain => "no filter, again",
        Variant::EmptyTcx => "empty tcx program",
        Variant::Conntrack => "conntrack only",
        Variant::Nftables => "nftables, 1,000 addresses",
        Variant::Nfqueue => "NFQUEUE verdicts",
        Variant::CrosswallOne => "Crosswall, 1 policy",
        Variant::Crosswall => "Crosswall, 1,000 policies",
        Variant::CrosswallChurn => "Crosswall, 1,000, in churn",
    }
}
