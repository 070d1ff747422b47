//! `policyctl issues`.

use std::process::ExitCode;

use clap::Args;
use comfy_table::Cell;
use policy_core::model::{Issue, Level};

use super::ask::AskOptions;
use super::output::{bad, doubtful, issues_counted, listing, trimmed};
use crate::api::types::{IssueCounts, Request};

const EXAMPLES: &str = "\
Examples:
  policyctl issues
  policyctl issues -o json | jq '.[] | select(.level == \"error\")'";

/// Whose issues.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    ask: AskOptions,
}

/// Lists the issues.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    options.ask.ask(&Request::Issues, |issues: &Vec<Issue>| text(issues))?;
    Ok(ExitCode::SUCCESS)
}

fn text(issues: &[Issue]) -> String {
    if issues.is_empty() {
        return "No issues.\n".to_owned();
    }
    let mut table = listing(["LEVEL", "OBJECT", "FIELD", "ISSUE"]);
    let mut sorted: Vec<&Issue> = issues.iter().collect();
    sorted.sort_by_key(|issue| (issue.level, &issue.object, &issue.field));
    for Issue { code: _, level, object, field, message } in sorted {
        let level = match level {
            Level::Error => bad("error"),
            Level::Warning => doubtful("warning"),
        };
        let field = if field.is_empty() { "-" } else { field };
        table.add_row([level, Cell::new(object), Cell::new(field), Cell::new(message)]);
    }
    let errors = issues.iter().filter(|issue| issue.level == Level::Error).count();
    let counts = IssueCounts { errors, warnings: issues.len() - errors };
    format!("{}\n{}\n", trimmed(&table), issues_counted(counts))
}

#[cfg(test)]
mod tests {
    use policy_core::model::IssueCode;

    use super::*;

    #[test]
    fn errors_stand_before_warnings() {
        let issue = |level, object: &str, message: &str| Issue {
            code: IssueCode::UnreadableRule,
            level,
            object: object.to_owned(),
            field: String::new(),
            message: message.to_owned(),
        };
        let issues = [issue(Level::Warning, "a/Pod/x/y", "odd"), issue(Level::Error, "b/Pod/x/y", "wrong")];
        let expected = "
 LEVEL     OBJECT      FIELD   ISSUE
─────────────────────────────────────
 error     b/Pod/x/y   -       wrong
 warning   a/Pod/x/y   -       odd

1 error, 1 warning
";
        assert_eq!(format!("\n{}", text(&issues)), expected);
        assert_eq!(text(&[]), "No issues.\n");
    }
}
