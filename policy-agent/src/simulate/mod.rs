//! `policyctl simulate`: who may talk in a ClusterSet of manifests, decided as the datapath decides.

mod check;
mod matrix;
mod probe;
mod table;
mod verdict;

use std::io::{BufRead, Write};
use std::path::PathBuf;

use policy_core::model::{ClusterConfig, Event, Issue};
use policy_core::simulate::{Outcome, Simulation};

use check::Check;
use probe::{Expectation, Fields, Probe, ProbeError};
use verdict::Issues;

/// A ClusterSet as its manifests have it.
#[derive(Debug)]
pub struct Input {
    /// The ClusterSet.
    pub config: ClusterConfig,
    /// Its objects.
    pub events: Vec<Event>,
    /// What is wrong with the files.
    pub issues: Vec<Issue>,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON object a line.
    Json,
}

/// Which probes to judge.
#[derive(Debug)]
pub enum Probes {
    /// Every pod to every pod, over the ports that they declare.
    Matrix,
    /// Those of a file, `-` for standard input.
    File(PathBuf),
}

/// Why a simulation cannot be run at all.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The probes cannot be read.
    #[error("cannot read the probes of {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line is no JSON object.
    #[error(
        "{path}, line {line}: not a JSON object; a probe is one object a line, like {{\"from\": \"a/shop/web\", \"to\": \"b/db/pg\", \"protocol\": \"TCP\", \"port\": 5432}}"
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The output cannot be written.
    #[error("cannot write the results")]
    Write(#[from] std::io::Error),
    /// A result cannot be encoded.
    #[error("cannot encode a result")]
    Encode(#[from] serde_json::Error),
}

/// What a run came to, worst first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Probes whose `expect` differs.
    pub unexpected: usize,
    /// Probes that could not be judged.
    pub errors: usize,
    /// Ends about which the oracle says something else.
    pub differences: usize,
}

impl Summary {
    /// The exit code of docs/reference.md: 2 cannot be used, 3 the oracle differs, 1 an expectation differs, 0.
    pub fn exit_code(self) -> u8 {
        match self {
            Self { errors: 1.., .. } => 2,
            Self { differences: 1.., .. } => 3,
            Self { unexpected: 1.., .. } => 1,
            Self { unexpected: 0, errors: 0, differences: 0 } => 0,
        }
    }
}

/// One probe and what it came to.
struct Judged {
    fields: Fields,
    outcome: Result<Outcome, ProbeError>,
    expected: Option<Expectation>,
}

impl Judged {
    fn differs(&self) -> bool {
        match (&self.outcome, self.expected) {
            (Ok(outcome), Some(expected)) => outcome.allow() != (expected == Expectation::Allow),
            _ => false,
        }
    }
}

/// Judges the probes and writes the results to `out`, differences between oracle and tables to `complaints`.
pub fn run(
    input: &Input,
    probes: &Probes,
    output: Output,
    ask_oracle: bool,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> Result<Summary, SimulateError> {
    let simulation = Simulation::new(&input.config, &input.events);
    let check = ask_oracle.then(|| Check::new(input));
    let mut summary = Summary::default();
    let mut table = table::Table::default();
    for mut fields in read(probes, &simulation)? {
        let probe = Probe::resolve(&fields, &simulation);
        let expected = Expectation::of(&fields);
        let judged = match (probe, expected) {
            (Ok(probe), Ok(expected)) => {
                let outcome = simulation.judge(&probe.from, &probe.to, &probe.connection);
                if let Some(check) = &check {
                    summary.differences += check.compare(&probe, &outcome, complaints)?;
                }
                verdict::answer(&mut fields, &outcome)?;
                Judged { fields, outcome: Ok(outcome), expected }
            }
            (Err(error), _) | (_, Err(error)) => {
                verdict::refuse(&mut fields, &error)?;
                Judged { fields, outcome: Err(error), expected: None }
            }
        };
        summary.errors += usize::from(judged.outcome.is_err());
        summary.unexpected += usize::from(judged.differs());
        match output {
            Output::Json => writeln!(out, "{}", serde_json::to_string(&judged.fields)?)?,
            Output::Table => table.add(&judged),
        }
    }
    let issues = issues(input, &simulation);
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(&Issues { issues: &issues })?)?,
        Output::Table => table.print(&issues, out)?,
    }
    Ok(summary)
}

/// The probes, in order.
fn read(probes: &Probes, simulation: &Simulation) -> Result<Vec<Fields>, SimulateError> {
    let path = match probes {
        Probes::Matrix => return Ok(matrix::probes(simulation)?),
        Probes::File(path) => path,
    };
    let failed = |source| SimulateError::Read { path: path.clone(), source };
    let reader: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::io::BufReader::new(std::fs::File::open(path).map_err(failed)?))
    };
    let mut fields = Vec::new();
    for (line, text) in (1..).zip(reader.lines()) {
        let text = text.map_err(failed)?;
        if text.trim().is_empty() {
            continue;
        }
        let line_error = |source| SimulateError::Line { path: path.clone(), line, source };
        fields.push(serde_json::from_str(&text).map_err(line_error)?);
    }
    Ok(fields)
}

/// The issues of the files, of the whole as the local cluster sees it, and of each member's own policies.
fn issues(input: &Input, simulation: &Simulation) -> Vec<Issue> {
    let mut issues = input.issues.clone();
    for (id, node) in simulation.members() {
        let own_policies = format!("{id}/NetworkPolicy/");
        let seen = policy_core::issues::of(node.compiler()).into_iter();
        issues.extend(seen.filter(|issue| *id == input.config.local || issue.object.starts_with(&own_policies)));
    }
    issues.sort();
    issues.dedup();
    issues
}
