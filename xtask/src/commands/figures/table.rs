//! The rows that have a budget, and those of several sizes, as tables of a document, between two marks that name the benchmark.

use anyhow::{Context as _, Result};

use super::{Baseline, Bench, Better, Row, short};

/// A document in which what stands between the marks of a benchmark is its table; `None` where it has no such marks.
pub fn put(document: &str, bench: &Bench) -> Option<Result<String>> {
    let begin = format!("<!-- figures: {} -->\n", bench.bench);
    let (before, rest) = document.split_once(&begin)?;
    let after = rest.split_once("<!-- end -->").map(|(_, after)| after);
    let after = after.with_context(|| format!("`{}` has no end", begin.trim_end()));
    Some(after.map(|after| format!("{before}{begin}{}<!-- end -->{after}", table(bench))))
}

fn table(bench: &Bench) -> String {
    let mut table = format!("\n{}, load {:.1}.\n\n", bench.machine.said(), bench.machine.load);
    table.push_str("| case | median | quartiles | beside | budget | |\n|---|---:|---:|---:|---:|---|\n");
    for row in &bench.rows {
        if let Some(budget) = row.budget {
            let times = |beside: &Baseline| format!("{} × `{}`", short(row.median / beside.median), beside.case);
            let beside = row.baseline.as_ref().map_or_else(String::new, times);
            table.push_str(&format!(
                "| `{}` | {} {} | {} – {} | {beside} | {} {} | {} |\n",
                row.case,
                short(row.median),
                row.unit,
                short(row.q1),
                short(row.q3),
                bound(row.better),
                short(budget),
                judgement(row, budget),
            ));
        }
    }
    table.push('\n');
    for (heading, suffixes) in GROWTH {
        growth(bench, heading, suffixes, &mut table);
    }
    table
}

/// Cases that are measured at several sizes: what a table of them is headed by, and how the names of its columns end.
const GROWTH: [(&str, &[(&str, &str)]); 2] = [
    ("by pods", &[("_pods_10k", "10,000"), ("_pods_100k", "100,000"), ("", "1,000,000")]),
    ("by policies", &[("_policies_10", "10"), ("_policies_100", "100"), ("", "1,000"), ("_policies_10k", "10,000")]),
];

/// A line for each case that was measured at all of these sizes.
fn growth(bench: &Bench, heading: &str, sizes: &[(&str, &str)], table: &mut String) {
    let at = |case: &str| bench.rows.iter().find(|row| row.case == case);
    let mut lines = bench.rows.iter().filter_map(|row| {
        let grown: Option<Vec<&Row>> = sizes.iter().map(|(suffix, _)| at(&format!("{}{suffix}", row.case))).collect();
        let cells = grown?.iter().map(|row| format!(" {} {} |", short(row.median), row.unit)).collect::<String>();
        Some(format!("| `{}` |{cells}\n", row.case))
    });
    let Some(first) = lines.next() else { return };
    let columns = sizes.iter().map(|(_, size)| format!(" {size} |")).collect::<String>();
    let rule = "---:|".repeat(sizes.len());
    table.push_str(&format!("| {heading} |{columns}\n|---|{rule}\n{first}"));
    table.extend(lines);
    table.push('\n');
}

fn bound(better: Better) -> char {
    match better {
        Better::Lower => '≤',
        Better::Higher => '≥',
    }
}

/// Kept, or by how much it is missed.
fn judgement(row: &Row, budget: f64) -> String {
    if row.keeps(budget) { "kept".to_owned() } else { format!("**{} ×**", short(row.median / budget)) }
}
