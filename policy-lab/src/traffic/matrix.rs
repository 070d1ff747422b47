//! Who reaches whom: all pairs, protocols and families at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::engine::{self, Job};
use super::probe::{Outcome, Probe, Protocol, Timing};
use crate::address::Family;
use crate::error::Result;
use crate::host::Host;
use crate::lab::Lab;
use crate::spec::PortProtocol;

/// Probes with their outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    /// In the order in which they were asked.
    pub cells: Vec<(Probe, Outcome)>,
}

/// A probe whose outcome is not the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The probe.
    pub probe: Probe,
    /// What came of it.
    pub outcome: Outcome,
}

/// Expectations that did not come true in time.
#[derive(Debug)]
pub struct Unsettled {
    /// What is still otherwise than expected.
    pub mismatches: Vec<Mismatch>,
    /// How long it was waited for.
    pub within: Duration,
}

impl Lab {
    /// Every pod to every other pod on every TCP and UDP port that the target serves, and
    /// pings, in every family that both have; sorted. Pods that share a namespace with
    /// their target (host network) are left out: their traffic never leaves it.
    #[must_use]
    pub fn all_probes(&self) -> Vec<Probe> {
        let mut probes = BTreeSet::new();
        for to in self.pods() {
            let ports: Vec<_> = self.ports_of(to.name()).map(Iterator::collect).unwrap_or_default();
            for from in self.pods() {
                if from.netns().name() == to.netns().name() {
                    continue;
                }
                for family in common_families(from, to) {
                    let (from, to) = (from.name(), to.name());
                    probes.insert(Probe::ping(from, to).over(family));
                    probes.extend(ports.iter().filter_map(|(protocol, port)| {
                        let probe = match protocol {
                            PortProtocol::Tcp => Probe::tcp(from, to, *port),
                            PortProtocol::Udp => Probe::udp(from, to, *port),
                            PortProtocol::Sctp => return None,
                        };
                        Some(probe.over(family))
                    }));
                }
            }
        }
        probes.into_iter().collect()
    }

    /// Runs probes, all at once.
    pub fn probe(&self, probes: &[Probe], timing: Timing) -> Result<Matrix> {
        let jobs: Vec<Job> = probes.iter().map(|probe| self.job(probe)).collect::<Result<_>>()?;
        let outcomes = engine::run(&jobs, timing)?;
        Ok(Matrix { cells: probes.iter().cloned().zip(outcomes).collect() })
    }

    /// Runs one probe.
    pub fn probe_one(&self, probe: &Probe, timing: Timing) -> Result<Outcome> {
        let outcomes = engine::run(&[self.job(probe)?], timing)?;
        Ok(outcomes[0])
    }

    /// Runs [`Lab::all_probes`].
    pub fn matrix(&self, timing: Timing) -> Result<Matrix> {
        self.probe(&self.all_probes(), timing)
    }

    /// Whether `from` can open TCP to a port of `to` and gets its bytes back.
    pub fn tcp_connect(&self, from: &str, to: &str, port: u16, family: Family, timeout: Duration) -> Result<Outcome> {
        self.probe_one(&Probe::tcp(from, to, port).over(family), Timing::within(timeout))
    }

    /// Whether a datagram of `from` to a port of `to` comes back.
    pub fn udp_exchange(&self, from: &str, to: &str, port: u16, family: Family, timeout: Duration) -> Result<Outcome> {
        self.probe_one(&Probe::udp(from, to, port).over(family), Timing::within(timeout))
    }

    /// Whether `to` answers an echo request of `from`.
    pub fn ping(&self, from: &str, to: &str, family: Family, timeout: Duration) -> Result<Outcome> {
        self.probe_one(&Probe::ping(from, to).over(family), Timing::within(timeout))
    }

    /// Repeats `probes` until all of them are as `expected` says (`true` is allowed); the last round covers all of
    /// them. Returns when that round began: what it saw was so by its end, and may have become so within it.
    pub fn settle(
        &self,
        probes: &[Probe],
        expected: impl Fn(&Probe) -> bool,
        within: Duration,
    ) -> Result<Result<Duration, Unsettled>> {
        let timing = Timing::default();
        let start = Instant::now();
        let mut open: Vec<Probe> = probes.to_vec();
        loop {
            let since = start.elapsed();
            let is_full_round = open.len() == probes.len();
            let mismatches = self.probe(&open, timing)?.mismatches(&expected);
            if mismatches.is_empty() && is_full_round {
                return Ok(Ok(since));
            }
            if start.elapsed() > within && !mismatches.is_empty() {
                return Ok(Err(Unsettled { mismatches, within }));
            }
            open = if mismatches.is_empty() {
                probes.to_vec()
            } else {
                mismatches.into_iter().map(|mismatch| mismatch.probe).collect()
            };
        }
    }

    fn job(&self, probe: &Probe) -> Result<Job> {
        let from = self.host(&probe.from)?;
        let to = self.target(&probe.to, probe.family)?;
        Ok(Job {
            netns: from.netns().clone(),
            protocol: probe.protocol,
            to: SocketAddr::new(to, probe.port.unwrap_or(0)),
        })
    }

    /// The address of a target: a host's, or the target itself if it is an address.
    pub(crate) fn target(&self, name: &str, family: Family) -> Result<IpAddr> {
        match name.parse() {
            Ok(address) => Ok(address),
            Err(_) => self.host(name)?.address(family),
        }
    }
}

impl Matrix {
    /// The probes whose outcome differs from what `expected` says (`true` is allowed).
    pub fn mismatches(&self, expected: impl Fn(&Probe) -> bool) -> Vec<Mismatch> {
        self.cells
            .iter()
            .filter(|(probe, outcome)| outcome.is_allowed() != expected(probe))
            .map(|(probe, outcome)| Mismatch { probe: probe.clone(), outcome: *outcome })
            .collect()
    }

    /// The outcome of a probe that was asked.
    #[must_use]
    pub fn outcome(&self, probe: &Probe) -> Option<Outcome> {
        self.cells.iter().find(|(asked, _)| asked == probe).map(|(_, outcome)| *outcome)
    }

    /// How many were allowed and denied.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let allowed = self.cells.iter().filter(|(_, outcome)| outcome.is_allowed()).count();
        (allowed, self.cells.len() - allowed)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.probe, self.outcome)
    }
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} probes are otherwise than expected after {} ms:",
            self.mismatches.len(),
            self.within.as_millis()
        )?;
        self.mismatches.iter().try_for_each(|mismatch| writeln!(f, "  {mismatch}"))
    }
}

impl std::error::Error for Unsettled {}

/// A grid per family: rows open to columns; `T`, `U`, `I` stand for TCP, UDP and ICMP when
/// all ports are allowed, in lower case when only some are, `.` when none is.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: BTreeSet<&str> =
            self.cells.iter().flat_map(|(probe, _)| [probe.from.as_str(), probe.to.as_str()]).collect();
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
        for family in Family::BOTH {
            let tally = self.tally(family);
            if tally.is_empty() {
                continue;
            }
            write!(f, "{:<width$}  ", family.name())?;
            for column in 1..=names.len() {
                write!(f, " {column:<3}")?;
            }
            writeln!(f)?;
            for (row, from) in names.iter().enumerate() {
                write!(f, "{from:<width$} {:>2}", row + 1)?;
                for to in &names {
                    write!(f, " ")?;
                    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
                        write!(f, "{}", letter(protocol, tally.get(&(*from, *to, protocol))))?;
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// Allowed and denied probes of one pair and protocol.
type Tally<'a> = BTreeMap<(&'a str, &'a str, Protocol), (usize, usize)>;

impl Matrix {
    fn tally(&self, family: Family) -> Tally<'_> {
        let mut tally = Tally::new();
        for (probe, outcome) in self.cells.iter().filter(|(probe, _)| probe.family == family) {
            let key = (probe.from.as_str(), probe.to.as_str(), probe.protocol);
            let (allowed, denied) = tally.entry(key).or_default();
            if outcome.is_allowed() {
                *allowed += 1;
            } else {
                *denied += 1;
            }
        }
        tally
    }
}

fn letter(protocol: Protocol, counts: Option<&(usize, usize)>) -> char {
    let all = match protocol {
        Protocol::Tcp => 'T',
        Protocol::Udp => 'U',
        Protocol::Icmp => 'I',
    };
    match counts {
        None => ' ',
        Some((0, _)) => '.',
        Some((_, 0)) => all,
        Some(_) => all.to_ascii_lowercase(),
    }
}

fn common_families(from: &Host, to: &Host) -> impl Iterator<Item = Family> {
    let (from, to) = (from.addresses(), to.addresses());
    Family::BOTH.into_iter().filter(move |family| from.of(*family).is_some() && to.of(*family).is_some())
}
