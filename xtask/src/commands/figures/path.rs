//! What filters cost beside no filter: a panel for each metric, with a bar for each filter that begins where no filter is.

use super::svg::{Anchor, BOUND, INK, PALE, Svg};
use super::{Bench, Better, Row, short};

/// Metrics, in the order of their panels.
const METRICS: [(&str, &str); 6] = [
    ("connect_p50", "connect, median"),
    ("connect_p99", "connect, 99th percentile"),
    ("connection_rate", "connections per second"),
    ("udp_packet", "UDP, time per packet"),
    ("tcp_stream", "TCP stream, bytes per second"),
    ("ping_p50", "ping, median"),
];
/// Filters, as people know them.
const FILTERS: [(&str, &str); 8] = [
    ("none_again", "no filter, again (noise)"),
    ("empty_tcx", "empty tcx program"),
    ("conntrack", "conntrack only"),
    ("nftables_1k", "nftables, 1,000 addresses"),
    ("nfqueue", "NFQUEUE verdicts"),
    ("crosswall_1", "Crosswall, 1 policy"),
    ("crosswall_1k", "Crosswall, 1,000 policies"),
    ("crosswall_1k_churn", "Crosswall, 1,000, in churn"),
];
/// The filter that all are compared with.
const NONE: &str = "none";

const NAMES: f64 = 178.0;
const PANELS_IN_A_ROW: usize = 3;
/// From one panel to the next; the rest of it is for the figures.
const PANEL: f64 = 250.0;
const BARS: f64 = 186.0;
/// How much of a panel is left of where no filter is, for what is better than that.
const LEFT: f64 = 26.0;
const LINE: f64 = 19.0;
const BAR: f64 = 11.0;
const HEAD: f64 = 64.0;
const PANEL_HEAD: f64 = 44.0;
const PANEL_FOOT: f64 = 30.0;
const WIDTH: f64 = NAMES + PANEL * PANELS_IN_A_ROW as f64 + 4.0;
/// The bars of what is not ours and has no budget, and of what is ours and has none.
const OTHERS: &str = "#b9c3ce";
const OURS: &str = "#6d8cab";

/// One metric, its scale and where it is.
struct Panel<'a> {
    title: &'static str,
    rows: Vec<Option<&'a Row>>,
    none: Option<&'a Row>,
    /// How much worse than no filter the right end is.
    reach: f64,
    left: f64,
    top: f64,
}

/// Draws the metrics that were measured.
pub fn draw(bench: &Bench) -> String {
    let lines =
        FILTERS.iter().filter(|(filter, _)| METRICS.iter().any(|(metric, _)| find(bench, metric, filter).is_some()));
    let filters: Vec<_> = lines.collect();
    let height = PANEL_HEAD + LINE * filters.len() as f64 + PANEL_FOOT;
    let grid_rows = METRICS.len().div_ceil(PANELS_IN_A_ROW);
    let mut svg = Svg::new(WIDTH, HEAD + height * grid_rows as f64);
    let head = "What a filter costs between a client and a pod, beside no filter in the same round";
    svg.styled_text((14.0, 24.0), Anchor::Start, r#"font-size="15" font-weight="bold""#, head);
    let legend = format!(
        "{}. Bars: medians of ratios, to the right is worse; thin lines: quartiles; dashed: budgets, kept where green.",
        bench.machine.said()
    );
    svg.styled_text((14.0, 43.0), Anchor::Start, &pale(), &legend);
    for (number, (metric, title)) in METRICS.iter().enumerate() {
        let (row, column) = (number / PANELS_IN_A_ROW, number % PANELS_IN_A_ROW);
        let rows: Vec<_> = filters.iter().map(|(filter, _)| find(bench, metric, filter)).collect();
        let none = bench.rows.iter().find(|row| row.case == format!("{metric}_{NONE}"));
        let panel = Panel {
            title,
            reach: reach(&rows),
            rows,
            none,
            left: NAMES + PANEL * column as f64,
            top: HEAD + height * row as f64,
        };
        if column == 0 {
            for (line, (_, name)) in filters.iter().enumerate() {
                svg.text((NAMES - 10.0, panel.line(line) + 13.0), Anchor::End, name);
            }
        }
        panel.draw(&mut svg);
    }
    svg.finish()
}

/// The ratio of a filter to none.
fn find<'a>(bench: &'a Bench, metric: &str, filter: &str) -> Option<&'a Row> {
    let case = format!("{metric}_{filter}_to_{NONE}");
    bench.rows.iter().find(|row| row.case == case)
}

fn pale() -> String {
    format!(r#"fill="{PALE}" font-size="11""#)
}

/// How much worse a ratio is than 1.
fn worse(ratio: f64, better: Better) -> f64 {
    match better {
        Better::Lower => ratio - 1.0,
        Better::Higher => 1.0 - ratio,
    }
}

/// Tenths that hold all but what is far off: nobody could tell the others apart beside it.
fn reach(rows: &[Option<&Row>]) -> f64 {
    let mut worst: Vec<f64> = rows.iter().flatten().map(|row| worse(row.median, row.better)).collect();
    worst.sort_by(f64::total_cmp);
    let last = worst.last().copied().unwrap_or_default();
    let before = worst.len().checked_sub(2).map_or(last, |index| worst[index]);
    let held = if last > 2.0 * before { before } else { last };
    ((held * 1.05 / 0.1).ceil() * 0.1).clamp(0.1, 2.0)
}

impl Panel<'_> {
    /// Where a line begins.
    fn line(&self, line: usize) -> f64 {
        self.top + PANEL_HEAD + LINE * line as f64
    }

    /// Where a deviation is, which is at the edge where it lies outside.
    fn place(&self, worse: f64) -> f64 {
        let from_none = worse / self.reach * (BARS - LEFT);
        self.left + LEFT + from_none.clamp(-LEFT, BARS - LEFT)
    }

    fn draw(&self, svg: &mut Svg) {
        let bottom = self.line(self.rows.len()) + 2.0;
        let bold = r#"font-weight="bold""#;
        svg.styled_text((self.left, self.top + 14.0), Anchor::Start, bold, self.title);
        if let Some(none) = self.none {
            // A count in a second is said as one.
            let unit = if none.unit == "1/s" { "/s".to_owned() } else { format!(" {}", none.unit) };
            let said = format!("no filter: {}{unit}", short(none.median));
            svg.styled_text((self.left, self.top + 29.0), Anchor::Start, &pale(), &said);
        }
        let ticks = if self.reach > 0.3 { 2 } else { 4 };
        for tick in 0..=ticks {
            let share = self.reach * f64::from(tick) / f64::from(ticks);
            let at = self.place(share);
            let colour = if tick == 0 { PALE } else { "#e3e8ed" };
            svg.line((at, self.top + PANEL_HEAD - 4.0), (at, bottom), colour);
            if tick % 2 == 0 {
                svg.styled_text((at, bottom + 13.0), Anchor::Middle, &pale(), &self.ratio(share));
            }
        }
        for (line, row) in self.rows.iter().enumerate() {
            if let Some(row) = row {
                self.draw_row(svg, row, self.line(line));
            }
        }
    }

    /// The ratio of a deviation.
    fn ratio(&self, worse: f64) -> String {
        let better = self.rows.iter().flatten().next().map_or(Better::Lower, |row| row.better);
        match better {
            Better::Lower => format!("{:.2}", 1.0 + worse),
            Better::Higher => format!("{:.2}", 1.0 - worse),
        }
    }

    fn draw_row(&self, svg: &mut Svg, row: &Row, top: f64) {
        let (none, at) = (self.place(0.0), self.place(worse(row.median, row.better)));
        let middle = top + 4.0 + BAR / 2.0;
        let colour = match row.budget {
            Some(_) => row.colour(),
            None if row.case.contains("crosswall") => OURS,
            None => OTHERS,
        };
        svg.bar((none.min(at), top + 4.0), ((at - none).abs().max(1.0), BAR), colour);
        if worse(row.median, row.better) > self.reach {
            // What lies outside goes on beyond the edge.
            svg.triangle([(at, top + 2.0), (at, top + 6.0 + BAR), (at + 8.0, middle)], colour);
        } else {
            let [from, to] = [row.q1, row.q3].map(|quartile| self.place(worse(quartile, row.better)));
            svg.line((from, middle), (to, middle), INK);
            for end in [from, to] {
                svg.line((end, middle - 3.0), (end, middle + 3.0), INK);
            }
        }
        if let Some(budget) = row.budget {
            let at = self.place(worse(budget, row.better));
            let dashed = r#"stroke-width="1.5" stroke-dasharray="3 2""#;
            svg.styled_line((at, top), (at, top + LINE), BOUND, dashed);
        }
        let place = (self.left + BARS + 12.0, top + 13.0);
        svg.styled_text(place, Anchor::Start, r#"font-size="11""#, &format!("{:.3}", row.median));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(rows: &str) -> String {
        let machine = r#"{"cpu": "some", "cores": 2, "kernel": "6.18"}"#;
        let json = format!(r#"{{"bench": "path", "machine": {machine}, "rows": [{rows}]}}"#);
        draw(&serde_json::from_str(&json).expect("figures"))
    }

    fn stream(filter: &str, median: f64, budget: &str) -> String {
        let figures = format!(r#""median": {median}, "q1": {median}, "q3": {median}"#);
        format!(r#"{{"case": "tcp_stream_{filter}_to_none", "unit": "ratio", "better": "higher", {figures}{budget}}}"#)
    }

    #[test]
    fn of_a_rate_less_is_worse() {
        let budget = r#", "budget": 0.97"#;
        let kept = picture(&stream("crosswall_1k", 0.98, budget));
        assert!(kept.contains("#3a8f5c") && !kept.contains("#c9772c"), "{kept}");
        let missed = picture(&stream("crosswall_1k", 0.96, budget));
        assert!(missed.contains("#c9772c") && !missed.contains("#3a8f5c"), "{missed}");
        // The stream is the second panel of its row; its axis ends at a tenth, of which four hundredths are missing.
        let none = NAMES + PANEL + LEFT;
        let bar = format!(r#"<rect x="{none:.1}" y="{:.1}" width="{:.1}""#, HEAD + 93.0 + 48.0, 0.4 * (BARS - LEFT));
        assert!(missed.contains(&bar), "{bar} in {missed}");
    }

    #[test]
    fn what_is_far_off_goes_beyond_the_edge_and_leaves_the_others_their_scale() {
        let rows = [("conntrack", 0.92), ("crosswall_1k", 0.97), ("nfqueue", 0.5)];
        let drawn = picture(&rows.map(|(filter, ratio)| stream(filter, ratio, "")).join(", "));
        assert_eq!(drawn.matches("<polygon").count(), 1, "{drawn}");
        assert!(drawn.contains(">0.90<") && drawn.contains(">0.500<"), "{drawn}");
    }

    #[test]
    fn filters_that_were_not_measured_have_no_line() {
        let drawn = picture(&stream("crosswall_1k", 1.0, ""));
        assert!(drawn.contains("Crosswall, 1,000 policies") && !drawn.contains("NFQUEUE"), "{drawn}");
    }
}
