//! What a filter costs connections, datagrams, streams and echoes between two namespaces with a node between them: every
//! filter on a road of its own, all measured in every round beside a road without one.

mod crosswall;
mod queue;
mod rivals;
mod road;
mod table;
mod traffic;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;

use crate::report::{Better, Budget, Report, Row, Skipped};
use crosswall::Crosswall;
use queue::Verdicts;
use road::Road;
use traffic::Visit;

/// What stands on a road.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Variant {
    /// Nothing.
    None,
    /// Nothing, either: how far two figures of the same are apart.
    NoneAgain,
    /// A program at each of Crosswall's hooks that does nothing.
    EmptyTcx,
    /// The node tracks connections.
    Conntrack,
    /// And admits a set of 1,000 addresses.
    Nftables,
    /// A thread judges each new connection.
    Nfqueue,
    /// Crosswall with one policy that admits one pod.
    CrosswallOne,
    /// Crosswall with 1,000 policies that each admit one pod.
    Crosswall,
    /// The same while pods that it admits come and go.
    CrosswallChurn,
}

impl Variant {
    const ALL: [Self; 9] = [
        Self::None,
        Self::NoneAgain,
        Self::EmptyTcx,
        Self::Conntrack,
        Self::Nftables,
        Self::Nfqueue,
        Self::CrosswallOne,
        Self::Crosswall,
        Self::CrosswallChurn,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NoneAgain => "none_again",
            Self::EmptyTcx => "empty_tcx",
            Self::Conntrack => "conntrack",
            Self::Nftables => "nftables_1k",
            Self::Nfqueue => "nfqueue",
            Self::CrosswallOne => "crosswall_1",
            Self::Crosswall => "crosswall_1k",
            Self::CrosswallChurn => "crosswall_1k_churn",
        }
    }

    /// The name of its road: one of Kubernetes' names.
    fn road(self) -> String {
        self.as_str().replace('_', "-")
    }
}

/// A filter that stands on its road.
enum Filter {
    /// What needs nobody to hold it.
    Standing,
    Program(#[expect(dead_code, reason = "held for its links")] Box<Ebpf>),
    Queue(#[expect(dead_code, reason = "held for its thread")] Verdicts),
    Crosswall(Box<Crosswall>),
}

impl Filter {
    fn set_up(variant: Variant, road: &Road) -> Result<Self> {
        let filter = match variant {
            Variant::None | Variant::NoneAgain => Self::Standing,
            Variant::EmptyTcx => Self::Program(Box::new(rivals::do_nothing(road)?)),
            Variant::Conntrack => rivals::track(road).map(|()| Self::Standing)?,
            Variant::Nftables => rivals::admit_set(road).map(|()| Self::Standing)?,
            Variant::Nfqueue => Self::Queue(Verdicts::give(road)?),
            Variant::CrosswallOne => Self::Crosswall(Box::new(Crosswall::enforce(road, 1)?)),
            Variant::Crosswall | Variant::CrosswallChurn => {
                Self::Crosswall(Box::new(Crosswall::enforce(road, rivals::ADDRESSES)?))
            }
        };
        let enforces = match variant {
            Variant::None | Variant::NoneAgain | Variant::EmptyTcx | Variant::Conntrack => false,
            Variant::Nftables | Variant::Nfqueue => true,
            Variant::CrosswallOne | Variant::Crosswall | Variant::CrosswallChurn => true,
        };
        ensure!(traffic::is_open(road)? != enforces, "the filter does not do what it is there for");
        Ok(filter)
    }
}

/// What is measured of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Metric {
    ConnectP50,
    ConnectP99,
    ConnectionRate,
    Datagram,
    Stream,
    Echo,
}

impl Metric {
    const ALL: [Self; 6] =
        [Self::ConnectP50, Self::ConnectP99, Self::ConnectionRate, Self::Datagram, Self::Stream, Self::Echo];

    fn as_str(self) -> &'static str {
        match self {
            Self::ConnectP50 => "connect_p50",
            Self::ConnectP99 => "connect_p99",
            Self::ConnectionRate => "connection_rate",
            Self::Datagram => "udp_packet",
            Self::Stream => "tcp_stream",
            Self::Echo => "ping_p50",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::ConnectP50 | Self::ConnectP99 | Self::Echo => "µs",
            Self::ConnectionRate => "1/s",
            Self::Datagram => "ns",
            Self::Stream => "GB/s",
        }
    }

    fn better(self) -> Better {
        match self {
            Self::ConnectionRate | Self::Stream => Better::Higher,
            Self::ConnectP50 | Self::ConnectP99 | Self::Datagram | Self::Echo => Better::Lower,
        }
    }

    fn of(self, visit: &Visit) -> f64 {
        let Visit { connect_p50, connect_p99, connections_per_s, datagram_ns, stream_gb_per_s, echo_p50 } = visit;
        let us = |took: &std::time::Duration| took.as_nanos() as f64 / 1e3;
        match self {
            Self::ConnectP50 => us(connect_p50),
            Self::ConnectP99 => us(connect_p99),
            Self::ConnectionRate => *connections_per_s,
            Self::Datagram => *datagram_ns,
            Self::Stream => *stream_gb_per_s,
            Self::Echo => us(echo_p50),
        }
    }

    /// How its figure may compare with that of no filter.
    fn budget(self, variant: Variant) -> Option<Budget> {
        let ratio = match (variant, self) {
            (Variant::CrosswallOne | Variant::Crosswall, Self::ConnectP50) => 1.08,
            (Variant::CrosswallOne | Variant::Crosswall, Self::ConnectionRate) => 0.96,
            (Variant::CrosswallOne | Variant::Crosswall, Self::Datagram) => 1.06,
            (Variant::CrosswallOne | Variant::Crosswall, Self::Stream) => 0.97,
            (Variant::CrosswallChurn, Self::ConnectP50) => 1.12,
            (Variant::CrosswallChurn, Self::Stream) => 0.96,
            _ => return None,
        };
        Some(Budget(ratio))
    }
}

/// A road and what stands on it.
struct Site {
    variant: Variant,
    filter: Filter,
    road: Road,
}

/// What was measured, by variant and round.
#[derive(Default)]
struct Measured {
    visits: BTreeMap<Variant, Vec<Visit>>,
    commits_per_s: Vec<f64>,
}

/// Measures all filters that this machine has, in every round each, in an order that changes.
pub fn run(rounds: usize) -> Result<Report> {
    policy_lab::remove_labs_on_signals().context("prepare for signals")?;
    let names = Variant::ALL.map(Variant::road);
    let (_lab, roads) = road::build(&names.each_ref().map(String::as_str))?;
    let mut sites = Vec::new();
    let mut skipped = Vec::new();
    for (variant, road) in Variant::ALL.into_iter().zip(roads) {
        match Filter::set_up(variant, &road) {
            Ok(filter) => sites.push(Site { variant, filter, road }),
            // What is not ours a machine may lack.
            Err(error) if matches!(variant, Variant::Conntrack | Variant::Nftables | Variant::Nfqueue) => {
                skipped.push(Skipped { case: variant.as_str().to_owned(), reason: format!("{error:#}") });
            }
            Err(error) => return Err(error.context(format!("set up {}", variant.as_str()))),
        }
    }
    let mut measured = Measured::default();
    for round in 0..rounds {
        for place in order(round, sites.len()) {
            let site = &mut sites[place];
            site.measure(round, &mut measured).with_context(|| format!("measure {}", site.variant.as_str()))?;
        }
    }
    Ok(measured.report(skipped))
}

/// The places of a round: each round begins elsewhere, and strides so that neighbours change, too.
fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    let strides: Vec<usize> = (1..count.max(2)).filter(|stride| are_coprime(*stride, count)).collect();
    let stride = strides[(round / count.max(1)) % strides.len()];
    (0..count).map(move |step| (round + step * stride) % count)
}

fn are_coprime(a: usize, b: usize) -> bool {
    if b == 0 { a == 1 } else { are_coprime(b, a % b) }
}

impl Site {
    fn measure(&mut self, round: usize, measured: &mut Measured) -> Result<()> {
        let Self { variant, filter, road } = self;
        let visit = match filter {
            Filter::Crosswall(crosswall) => {
                crosswall.age()?;
                if *variant == Variant::CrosswallChurn {
                    let (visit, churn) = crosswall.churning(|| traffic::visit(road, round))?;
                    measured.commits_per_s.push(churn.per_s());
                    visit
                } else {
                    traffic::visit(road, round)?
                }
            }
            Filter::Standing | Filter::Program(_) | Filter::Queue(_) => traffic::visit(road, round)?,
        };
        measured.visits.entry(*variant).or_default().push(visit);
        Ok(())
    }
}

impl Measured {
    fn figures(&self, variant: Variant, metric: Metric) -> Vec<f64> {
        self.visits.get(&variant).into_iter().flatten().map(|visit| metric.of(visit)).collect()
    }

    /// What was measured, in its unit.
    fn row(&self, variant: Variant, metric: Metric) -> Row {
        let name = format!("{}_{}", metric.as_str(), variant.as_str());
        Row::new(name, metric.unit(), &self.figures(variant, metric)).better(metric.better())
    }

    /// How it compares with no filter in the same round.
    fn ratio(&self, variant: Variant, metric: Metric) -> Row {
        let name = format!("{}_{}_to_none", metric.as_str(), variant.as_str());
        let pairs = self.figures(variant, metric).into_iter().zip(self.figures(Variant::None, metric));
        let ratios: Vec<f64> = pairs.map(|(figure, none)| figure / none).collect();
        Row::new(name, "ratio", &ratios).better(metric.better()).budget(metric.budget(variant))
    }

    fn commits(&self) -> Row {
        Row::new("churn_commits", "1/s", &self.commits_per_s).better(Better::Higher)
    }

    fn report(&self, skipped: Vec<Skipped>) -> Report {
        let mut rows = Vec::new();
        for metric in Metric::ALL {
            let none = self.row(Variant::None, metric);
            rows.push(none.clone());
            for variant in self.visits.keys().filter(|variant| **variant != Variant::None) {
                rows.push(self.row(*variant, metric).beside(&none));
                rows.push(self.ratio(*variant, metric).beside(&none));
            }
        }
        rows.push(self.commits());
        let table = table::of(self);
        Report::new("path", rows).shown_as(table).skipped(skipped)
    }
}
