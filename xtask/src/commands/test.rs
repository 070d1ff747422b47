//! `cargo xtask test`: the tiers of tests, cheapest first; what cannot run here is said and counted as skipped.

use std::{
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
    /// What keeps it from running on this machine.
    obstacle: fn() -> Option<String>,
}

const TIERS: [Tier; 4] = [
    Tier { name: "units and properties", mark: None, obstacle: || None },
    Tier { name: "packets in the kernel", mark: Some("kernel_"), obstacle: no_kernel },
    Tier { name: "simulation", mark: Some("sim_"), obstacle: || None },
    Tier { name: "lab", mark: Some("lab_"), obstacle: no_kernel },
];

/// The marks of all tiers that have one.
const MARKS: [&str; 3] = ["kernel_", "sim_", "lab_"];

/// An integration test file.
struct TestFile {
    package: String,
    name: String,
}

/// How a tier ended.
enum Outcome {
    Passed(usize),
    Failed(String),
    Skipped(String),
}

/// Runs all tiers and prints a line for each.
pub fn run() -> Result<ExitCode> {
    setup::packages::ensure()?;
    let files = test_files()?;
    let mut outcomes = Vec::new();
    for tier in &TIERS {
        report::step(&format!("tier: {}", tier.name));
        outcomes.push((tier.name, run_tier(tier, &files)?));
    }
    for name in ["API server", "whole nodes"] {
        outcomes.push((name, Outcome::Skipped("there are no tests of this tier in this version".to_owned())));
    }
    Ok(summarize(&outcomes))
}

fn run_tier(tier: &Tier, files: &[TestFile]) -> Result<Outcome> {
    let own = |file: &&TestFile| tier.mark.is_some_and(|mark| file.name.starts_with(mark));
    let own: Vec<&TestFile> = files.iter().filter(own).collect();
    if tier.mark.is_some() && own.is_empty() {
        return Ok(Outcome::Skipped("there are no tests of this tier in this version".to_owned()));
    }
    if let Some(obstacle) = (tier.obstacle)() {
        return Ok(Outcome::Skipped(obstacle));
    }
    let mut passed = 0;
    if tier.mark.is_none() {
        for arguments in everything_else(files) {
            match cargo_test(&arguments)? {
                Outcome::Passed(count) => passed += count,
                other => return Ok(other),
            }
        }
    }
    for file in own {
        let arguments = ["--package", &file.package, "--test", &file.name].map(str::to_owned);
        match cargo_test(&arguments)? {
            Outcome::Passed(count) => passed += count,
            other => return Ok(other),
        }
    }
    Ok(if passed == 0 { Outcome::Failed("no test ran".to_owned()) } else { Outcome::Passed(passed) })
}

/// Unit and documentation tests of all crates, and the integration tests of no other tier.
fn everything_else(files: &[TestFile]) -> Vec<Vec<String>> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut runs = vec![words("--workspace --lib --bins"), words("--workspace --doc")];
    for file in files.iter().filter(|file| !MARKS.iter().any(|mark| file.name.starts_with(mark))) {
        runs.push(words(&format!("--package {} --test {}", file.package, file.name)));
    }
    runs
}

/// Runs cargo test, shows what it prints, and counts the tests.
fn cargo_test(arguments: &[String]) -> Result<Outcome> {
    let mut child = process::cargo()
        .current_dir(workspace::root())
        .args(["test", "--quiet"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo test")?;
    let output = child.stdout.take().context("cargo's output is a pipe")?;
    let mut passed = 0;
    for line in BufReader::new(output).lines() {
        let line = line.context("read cargo's output")?;
        passed += passed_tests(&line).unwrap_or_default();
        println!("{line}");
    }
    let status = child.wait().context("wait for cargo test")?;
    Ok(if status.success() {
        Outcome::Passed(passed)
    } else {
        Outcome::Failed(format!("cargo test {} failed", arguments.join(" ")))
    })
}

/// The number in `test result: ok. 12 passed; …`.
fn passed_tests(line: &str) -> Option<usize> {
    let result = line.strip_prefix("test result: ")?;
    let (_, counts) = result.split_once(". ")?;
    counts.split_once(" passed")?.0.parse().ok()
}

fn summarize(outcomes: &[(&str, Outcome)]) -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    println!();
    for (name, outcome) in outcomes {
        match outcome {
            Outcome::Passed(count) => {
                passed += count;
                report::found(&format!("{name:<22}"), &format!("passed, {count} tests"));
            }
            Outcome::Failed(why) => {
                failed += 1;
                report::failed(&format!("{name:<22} failed: {why}"));
            }
            Outcome::Skipped(why) => {
                skipped += 1;
                report::detail(&format!("{name:<22} skipped: {why}"));
            }
        }
    }
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    is_rust.then(|| path.file_stem()?.to_str().map(str::to_owned)).flatten()
}

/// Why programs cannot be loaded into this machine's kernel.
fn no_kernel() -> Option<String> {
    if !machine::is_root() {
        return Some("needs root (loads programs into the kernel)".to_owned());
    }
    let probe = Command::new("bpftool").args(["prog", "show"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match probe {
        Ok(status) if status.success() => None,
        Ok(_) => Some("this kernel does not let us use bpf(2)".to_owned()),
        Err(_) => Some("needs bpftool (`cargo xtask setup` installs it on Debian and Ubuntu)".to_owned()),
    }
}
