//! How long after an API server tells of a change packets are decided by it.
//!
//! Pods of the other cluster are relabelled, at a steady rate, so that a policy here admits them or no longer does. All the
//! while datagrams from the pod that was just changed are sent to the pod here: the first one whose fate is the new one ends
//! the time. It begins when the change was first seen anywhere: by who made it, in the API server's answer, or by a bare
//! watch beside the agent's.

mod changes;
mod crowd;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::report::{Report, Samples, TimeUnit};
use crate::site::{NODE, Site, THERE, WEB, cpu_time};
use changes::Series;
use crowd::{Crowd, Settled};

/// What changes may take at [`BUSY`]: half of them, and 99 of 100.
const BUDGET_P50: f64 = 5.0;
const BUDGET_P99: f64 = 30.0;
/// How many pods are changed in turn.
const PODS: u32 = 400;
/// How many pods the other cluster has beside them.
const OTHERS: usize = 1;
/// For how long each rate is kept up in a round.
const VISIT: Duration = Duration::from_secs(10);

/// Admits those of the crowd that are labelled so.
const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: crowd, cluster.clusterset.k8s.io: cluster-b}}
      podSelector: {matchLabels: {admitted: 'yes'}}
";

/// How many changes there are in a second.
#[derive(Clone, Copy)]
struct Rate {
    name: &'static str,
    per_s: u32,
}

const RATES: [Rate; 2] = [Rate { name: "idle", per_s: 10 }, Rate { name: "busy", per_s: 200 }];

/// Measures all rates in each round.
pub fn run(rounds: usize) -> Result<Report> {
    let site = Site::build("latency", &[POLICY])?;
    changes::create(&site.there, PODS)?;
    let agent = site.start_agent(OTHERS + PODS as usize)?;
    let process = agent.pid().context("the agent runs")?;
    let crowd = Crowd::new(site.lab.host(THERE)?, site.lab.host(WEB)?)?;
    let mut samples = Samples::default();
    let mut first = 0;
    for _ in 0..rounds {
        for rate in RATES {
            let (before, ran) = (cpu_time(process)?, Instant::now());
            let series = Series { pods: PODS, first, per_s: rate.per_s, within: VISIT };
            let settled = visit(&site, &crowd, series)?;
            first = series.next();
            let cores = (cpu_time(process)? - before).as_secs_f64() / ran.elapsed().as_secs_f64();
            add(&mut samples, rate, &settled, cores)?;
        }
    }
    for (figure, budget) in [("p50", BUDGET_P50), ("p99", BUDGET_P99)] {
        samples.budget(&format!("event_to_verdict_{figure}_busy"), budget);
        for rate in RATES {
            let name = rate.name;
            samples.beside(&format!("event_to_verdict_{figure}_{name}"), &format!("event_to_watch_{figure}_{name}"));
        }
    }
    ensure!(agent.pid() == Some(process), "the agent on {NODE} began anew");
    Ok(Report::new("latency", samples.rows()))
}

/// Makes changes, and watches what comes of them.
fn visit(site: &Site, crowd: &Crowd, series: Series) -> Result<Vec<Settled>> {
    let (told, tales) = mpsc::channel();
    thread::scope(|scope| {
        let changes = scope.spawn(move || changes::make(&site.there, series, told));
        let settled = crowd.watch(&tales);
        changes.join().map_err(|_| anyhow!("the changes ended in a panic"))??;
        settled
    })
}

fn add(samples: &mut Samples, rate: Rate, settled: &[Settled], cores: f64) -> Result<()> {
    ensure!(!settled.is_empty(), "nothing was changed");
    let name = rate.name;
    let mut times = |figure: &str, of: fn(&Settled) -> Duration| {
        let mut times: Vec<Duration> = settled.iter().map(of).collect();
        times.sort_unstable();
        for (part, percent) in [("p50", 50), ("p99", 99)] {
            let at = (times.len() * percent / 100).min(times.len() - 1);
            samples.add_time(&format!("{figure}_{part}_{name}"), TimeUnit::MS, times[at]);
        }
    };
    times("event_to_verdict", Settled::event_to_verdict);
    times("event_to_watch", Settled::event_to_watch);
    times("request_to_verdict", Settled::request_to_verdict);
    samples.add(&format!("events_{name}"), "1/s", settled.len() as f64 / VISIT.as_secs_f64());
    samples.add(&format!("agent_{name}"), "cores", cores);
    Ok(())
}
