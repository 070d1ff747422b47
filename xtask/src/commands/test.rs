//! `cargo xtask test`: the tiers of tests, cheapest first; what cannot run here is said and counted as skipped.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{machine, process, report, setup, workspace};

/// A tier: the integration test files whose names begin with its mark, or everything else.
struct Tier {
    name: &'static str,
    /// The beginning of its test files' names; `None`: all other tests of the workspace.
    mark: Option<&'static str>,
    /// Whether it needs more than Linux, Rust and root: a machine that cannot run it passes all the same, and says so.
    is_optional: bool,
    /// Provides what it needs; the error is what keeps it from running on this machine.
    prepare: fn() -> Result<Variables, String>,
}

/// Environment variables for tests.
pub(super) type Variables = Vec<(&'static str, OsString)>;

const TIERS: [Tier; 5] = [
    Tier { name: "units and properties", mark: None, is_optional: false, prepare: || Ok(Variables::new()) },
    Tier {
        name: "packets in the kernel",
        mark: Some("kernel_"),
        is_optional: false,
        prepare: || unless(machine::no_ebpf()),
    },
    Tier { name: "simulation", mark: Some("sim_"), is_optional: false, prepare: || Ok(Variables::new()) },
    Tier { name: "lab", mark: Some("lab_"), is_optional: false, prepare: || unless(no_lab()) },
    Tier { name: "API server", mark: Some("api_"), is_optional: true, prepare: prepare_api_servers },
];

/// Nothing, or what is in the way.
pub(super) fn unless(obstacle: Option<String>) -> Result<Variables, String> {
    obstacle.map_or(Ok(Variables::new()), Err)
}

/// API servers run in namespaces of a lab.
pub(super) fn prepare_api_servers() -> Result<Variables, String> {
    unless(no_lab())?;
    let programs = setup::envtest::ensure().map_err(|error| format!("{error:#}"))?;
    Ok(vec![(setup::envtest::VARIABLE, programs.into())])
}

/// An integration test file.
struct TestFile {
    package: String,
    name: String,
}

impl TestFile {
    /// The arguments for cargo test that run it.
    fn arguments(&self) -> Vec<String> {
        ["--package", &self.package, "--test", &self.name].map(str::to_owned).into()
    }
}

/// How a tier ended.
enum Outcome {
    Ran(Tests),
    /// This machine cannot run it, for this reason.
    Skipped(String),
    /// Nor need it.
    SkippedOptional(String),
    /// There is nothing to run.
    Absent,
}

/// What ran, and what went wrong.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tests {
    passed: usize,
    failed: usize,
    ignored: usize,
    /// The runs of cargo that failed, as a person can repeat them.
    failures: Vec<String>,
}

impl Tests {
    fn add(&mut self, other: Self) {
        let Self { passed, failed, ignored, failures } = other;
        self.passed += passed;
        self.failed += failed;
        self.ignored += ignored;
        self.failures.extend(failures);
    }
}

/// What a tier that the machine cannot run means for the exit code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Skipping {
    /// A person sees it.
    Allowed,
    /// Nobody would see it: it is a failure.
    Denied,
}

/// Runs all tiers and prints a line for each.
pub fn run(skipping: Skipping) -> Result<ExitCode> {
    setup::packages::ensure()?;
    let files = test_files()?;
    let mut outcomes = Vec::new();
    for tier in &TIERS {
        report::step(&format!("tier: {}", tier.name));
        outcomes.push((tier.name, run_tier(tier, &files)?));
    }
    outcomes.push(("whole nodes", Outcome::Absent));
    Ok(summarize(&outcomes, skipping))
}

fn run_tier(tier: &Tier, files: &[TestFile]) -> Result<Outcome> {
    let runs = match tier.mark {
        None => everything_else(files),
        Some(mark) => {
            let own = files.iter().filter(|file| file.name.starts_with(mark));
            own.map(TestFile::arguments).collect()
        }
    };
    if runs.is_empty() {
        return Ok(Outcome::Absent);
    }
    let variables = match (tier.prepare)() {
        Ok(variables) => variables,
        Err(obstacle) if tier.is_optional => return Ok(Outcome::SkippedOptional(obstacle)),
        Err(obstacle) => return Ok(Outcome::Skipped(obstacle)),
    };
    let mut tests = Tests::default();
    for arguments in runs {
        tests.add(cargo_test(&arguments, &variables)?);
    }
    Ok(Outcome::Ran(tests))
}

/// Unit and documentation tests of all crates, and the integration tests of no other tier.
fn everything_else(files: &[TestFile]) -> Vec<Vec<String>> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut runs = vec![words("--workspace --lib --bins"), words("--workspace --doc")];
    let is_of_a_tier =
        |file: &&TestFile| TIERS.iter().filter_map(|tier| tier.mark).any(|mark| file.name.starts_with(mark));
    for file in files.iter().filter(|file| !is_of_a_tier(file)) {
        runs.push(file.arguments());
    }
    runs
}

/// Runs cargo test, shows what it prints, and counts the tests.
fn cargo_test(arguments: &[String], variables: &Variables) -> Result<Tests> {
    let mut child = process::cargo()
        .current_dir(workspace::root())
        .args(["test", "--no-fail-fast"])
        .args(arguments)
        .args(["--", "--quiet"])
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo test")?;
    let output = child.stdout.take().context("cargo's output is a pipe")?;
    let mut tests = Tests::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("read cargo's output")?;
        tests.add(result_of(&line).unwrap_or_default());
        println!("{line}");
    }
    let status = child.wait().context("wait for cargo test")?;
    if !status.success() {
        // A test that does not compile, or that took the process with it, counts too.
        tests.failed = tests.failed.max(1);
        tests.failures.push(format!("cargo test {}", arguments.join(" ")));
    }
    Ok(tests)
}

/// The numbers in `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
fn result_of(line: &str) -> Option<Tests> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what: &str| {
        let mut counts = counts.split(';').map(str::trim);
        counts.find_map(|count| count.strip_suffix(what)?.trim_end().parse().ok())
    };
    Some(Tests {
        passed: number("passed")?,
        failed: number("failed")?,
        ignored: number("ignored")?,
        failures: Vec::new(),
    })
}

/// A line for each tier, then the tests that passed and failed, and the tiers that did not run.
fn summarize(outcomes: &[(&str, Outcome)], skipping: Skipping) -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let mut good = true;
    println!();
    for (name, outcome) in outcomes {
        match outcome {
            Outcome::Ran(tests) => {
                passed += tests.passed;
                failed += tests.failed;
                good &= line_of(name, tests);
            }
            Outcome::Skipped(why) | Outcome::SkippedOptional(why) => {
                skipped += 1;
                good &= skipping == Skipping::Allowed || matches!(outcome, Outcome::SkippedOptional(_));
                report::skipped(&format!("{name:<22} skipped: {why}"));
            }
            Outcome::Absent => {
                skipped += 1;
                report::skipped(&format!("{name:<22} skipped: there are no tests of this tier in this version"));
            }
        }
    }
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the line of a tier that ran, and says whether it passed.
fn line_of(name: &str, tests: &Tests) -> bool {
    let Tests { passed, failed, ignored, failures } = tests;
    let ignored = match ignored {
        0 => String::new(),
        ignored => format!(", {ignored} ignored"),
    };
    if !failures.is_empty() {
        report::failed(&format!("{name:<22} failed: {failed} of {} tests{ignored}", passed + failed));
        failures.iter().for_each(|run| report::detail(run));
    } else if *passed == 0 {
        report::failed(&format!("{name:<22} failed: no test ran{ignored}"));
    } else {
        report::found(
            &format!("{name:<22}"),
            &format!("passed, {passed} {}{ignored}", if *passed == 1 { "test" } else { "tests" }),
        );
    }
    failures.is_empty() && *passed > 0
}

/// The integration tests of all crates.
fn test_files() -> Result<Vec<TestFile>> {
    let mut files = Vec::new();
    for package in ["policy-common", "policy-core", "policy-agent", "policy-lab", "xtask"] {
        let folder = workspace::root().join(package).join("tests");
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
            if let Some(name) = test_name(&path) {
                files.push(TestFile { package: package.to_owned(), name });
            }
        }
    }
    files.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok(files)
}

fn test_name(path: &Path) -> Option<String> {
    let is_file = path.extension().is_some_and(|extension| extension == "rs");
    let is_target = is_file || path.join("main.rs").is_file();
    is_target.then(|| path.file_stem()?.to_str().map(str::to_owned)).flatten()
}

/// Why a ClusterSet of network namespaces cannot be made here.
pub fn no_lab() -> Option<String> {
    let missing = setup::packages::missing();
    machine::no_ebpf()
        .or_else(|| (!missing.is_empty()).then(|| format!("needs {}", missing.join(", "))))
        .or_else(|| match machine::kernel() {
            // tcx came with Linux 6.6.
            Some(version) if version < (6, 6) => Some(format!("needs Linux 6.6 (this is {}.{})", version.0, version.1)),
            _ => None,
        })
        .or_else(|| {
            let made = process::output(Command::new("unshare").args(["--net", "--mount", "true"]));
            made.err().map(|error| format!("needs network namespaces: {error:#}"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_result_line_are_read() {
        let line = "test result: FAILED. 12 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(result_of(line), Some(Tests { passed: 12, failed: 1, ignored: 3, failures: Vec::new() }));
    }

    #[test]
    fn other_lines_are_no_results() {
        assert_eq!(["running 12 tests", "test result: ", "ok. 12 passed; 0 failed"].map(result_of), [None, None, None]);
    }
}
