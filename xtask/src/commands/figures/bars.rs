//! A bar for each row, from zero, with its quartiles and its budget.

use super::svg::{Anchor, BOUND, INK, Svg};
use super::{Bench, Row, short};

/// The width of the picture, of its column of names and of its bars.
const WIDTH: f64 = 760.0;
const NAMES: f64 = 270.0;
const BARS: f64 = 360.0;
const LINE: f64 = 20.0;
const HEAD: f64 = 40.0;
/// How many rows are drawn whatever they are.
const MOST: usize = 60;

/// Bars with the quartiles, and a mark where the budget is; rows of one unit have one scale.
pub fn draw(bench: &Bench) -> String {
    // Of very many only those that are to be kept small.
    let is_drawn = |row: &&Row| bench.rows.len() <= MOST || row.budget.is_some();
    let rows: Vec<&Row> = bench.rows.iter().filter(is_drawn).collect();
    let mut svg = Svg::new(WIDTH, HEAD + LINE * rows.len() as f64 + 10.0);
    let head = format!("{}: {}; the mark is the budget", bench.bench, bench.machine.said());
    svg.text((10.0, 22.0), Anchor::Start, &head);
    for (number, row) in rows.iter().enumerate() {
        let scale = BARS / largest(&rows, &row.unit);
        draw_row(&mut svg, row, HEAD + LINE * number as f64, scale);
    }
    svg.finish()
}

/// The largest figure of a unit, budgets included.
fn largest(rows: &[&Row], unit: &str) -> f64 {
    let alike = rows.iter().filter(|row| row.unit == unit);
    alike.flat_map(|row| [row.q3, row.budget.unwrap_or_default()]).fold(f64::MIN_POSITIVE, f64::max)
}

fn draw_row(svg: &mut Svg, row: &Row, top: f64, scale: f64) {
    svg.text((NAMES - 10.0, top + 14.0), Anchor::End, &row.case);
    svg.bar((NAMES, top + 4.0), ((row.median * scale).max(1.0), 12.0), row.colour());
    svg.line((NAMES + row.q1 * scale, top + 10.0), (NAMES + row.q3 * scale, top + 10.0), INK);
    if let Some(budget) = row.budget {
        let at = NAMES + budget * scale;
        svg.line((at, top + 1.0), (at, top + 19.0), BOUND);
    }
    svg.text((NAMES + BARS + 10.0, top + 14.0), Anchor::Start, &format!("{} {}", short(row.median), row.unit));
}
