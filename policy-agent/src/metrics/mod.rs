//! Metrics for Prometheus, and whether the agent is well and ready.

mod server;

use std::fmt;

use policy_common::reason::Reason;
use policy_common::table::EndpointCounters;
use policy_core::model::Issue;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::{mpsc, oneshot};

use crate::api::types::{Phase, SyncState, TableUse};

pub use server::{MetricsError, MetricsServer};

/// What is asked of the control loop.
#[derive(Debug)]
pub enum Scrape {
    /// Whether it turns, and where it stands.
    Phase(oneshot::Sender<Phase>),
    /// Everything.
    Everything(oneshot::Sender<Told>),
}

/// Where scrapes are handed in.
pub type Scrapes = mpsc::Sender<Scrape>;

/// What is told, by whoever is asked.
#[derive(Debug)]
pub enum Told {
    /// The agent of a node.
    Agent(Box<Snapshot>),
    /// The controller of a cluster.
    Controller(ControllerSnapshot),
}

/// All that the metrics of a controller tell, at one moment.
#[derive(Debug)]
pub struct ControllerSnapshot {
    /// Whether it leads.
    pub leads: bool,
    /// Annotations and Events that it wrote.
    pub written: u64,
    /// Tries to write that failed.
    pub failed: u64,
    /// What is wrong with policies of its cluster; empty unless it leads.
    pub issues: Vec<Issue>,
}

/// All that the metrics of an agent tell, at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Whether the agent enforces already.
    pub phase: Phase,
    /// The commit in force.
    pub commit: u64,
    /// Commits made by this process.
    pub commits: u64,
    /// From the arrival of a change to the commit that makes it count.
    pub latency: Histogram,
    /// Endpoints whose interface is known, with their counters where those could be read.
    pub endpoints: Vec<(String, Option<Box<EndpointCounters>>)>,
    /// Endpoints without an interface.
    pub endpoints_without_interface: usize,
    /// Identities in use.
    pub identities: usize,
    /// Policies of the local cluster.
    pub policies: usize,
    /// Members and their pods.
    pub clusters: Vec<(String, SyncState, usize)>,
    /// All that is wrong.
    pub issues: Vec<Issue>,
    /// The tables.
    pub tables: Vec<TableUse>,
    /// Flows removed because nobody used them.
    pub flows_swept: u64,
}

/// The buckets of the latency: 0.1 ms to 13 s.
pub fn latency_histogram() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.000_1, 2.0, 18))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PacketLabels {
    pod: String,
    direction: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabel {
    cluster: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabel {
    table: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssueLabels {
    code: String,
    level: String,
}

/// What was told, in the text format of OpenMetrics.
pub fn encode(told: &Told) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("crosswall");
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    registry.register("build", "The version of who answers", Info::new(version));
    match told {
        Told::Agent(snapshot) => {
            register_packets(&mut registry, snapshot);
            register_state(&mut registry, snapshot);
            register_issues(&mut registry, &snapshot.issues);
            register_tables(&mut registry, snapshot);
        }
        Told::Controller(snapshot) => register_controller(&mut registry, snapshot),
    }
    let mut encoded = String::new();
    text::encode(&mut encoded, &registry)?;
    Ok(encoded)
}

fn register_packets(registry: &mut Registry, snapshot: &Snapshot) {
    let packets = Family::<PacketLabels, Counter>::default();
    let bytes = Family::<PacketLabels, Counter>::default();
    for (pod, counters) in &snapshot.endpoints {
        let Some(counters) = counters else { continue };
        for (direction, counted) in [("egress", &counters.from_pod), ("ingress", &counters.to_pod)] {
            for reason in Reason::ALL {
                let counter = counted[reason as usize];
                if counter.packets > 0 {
                    let labels = PacketLabels { pod: pod.clone(), direction, reason: reason.as_str() };
                    packets.get_or_create(&labels).inc_by(counter.packets);
                    bytes.get_or_create(&labels).inc_by(counter.bytes);
                }
            }
        }
    }
    let help = "Packets of a pod, by direction as the pod sees it and by why they passed or were dropped";
    registry.register("packets", help, packets);
    registry.register("packet_bytes", "Bytes of these packets", bytes);
}

fn register_state(registry: &mut Registry, snapshot: &Snapshot) {
    let gauge = |value: usize| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    let counter = |value: u64| {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        counter
    };
    let endpoints = Family::<StateLabel, Gauge>::default();
    let found = i64::try_from(snapshot.endpoints.len()).unwrap_or(i64::MAX);
    endpoints.get_or_create(&StateLabel { state: "found" }).set(found);
    let missing = i64::try_from(snapshot.endpoints_without_interface).unwrap_or(i64::MAX);
    endpoints.get_or_create(&StateLabel { state: "no_interface" }).set(missing);
    registry.register("endpoints", "Pods of this node, by whether their interface is found", endpoints);
    registry.register(
        "enforcing",
        "Whether the agent enforces yet",
        gauge(usize::from(snapshot.phase == Phase::Enforcing)),
    );
    registry.register("identities", "Identities in use", gauge(snapshot.identities));
    registry.register("policies", "Policies of the local cluster", gauge(snapshot.policies));
    registry.register("commits", "Commits made since the agent began", counter(snapshot.commits));
    registry.register("commit", "The commit in force", gauge(usize::try_from(snapshot.commit).unwrap_or(usize::MAX)));
    registry.register("flows_swept", "Flows removed because nobody used them", counter(snapshot.flows_swept));
    let help = "From the arrival of a change to the commit that makes it count";
    registry.register_with_unit("event_to_commit", help, Unit::Seconds, snapshot.latency.clone());
    let synced = Family::<ClusterLabel, Gauge>::default();
    let pods = Family::<ClusterLabel, Gauge>::default();
    for (cluster, state, count) in &snapshot.clusters {
        let label = ClusterLabel { cluster: cluster.clone() };
        synced.get_or_create(&label).set(i64::from(*state == SyncState::Synced));
        pods.get_or_create(&label).set(i64::try_from(*count).unwrap_or(i64::MAX));
    }
    registry.register("cluster_synced", "Whether a member has told all it has and can be reached", synced);
    registry.register("cluster_pods", "Pods of a member", pods);
}

fn register_controller(registry: &mut Registry, snapshot: &ControllerSnapshot) {
    let ControllerSnapshot { leads, written, failed, issues } = snapshot;
    let leader: Gauge = Gauge::default();
    leader.set(i64::from(*leads));
    registry.register("controller_leads", "Whether this controller leads", leader);
    for (name, help, value) in [
        ("controller_writes", "Annotations and Events written", *written),
        ("controller_write_failures", "Tries to write them that failed", *failed),
    ] {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    register_issues(registry, issues);
}

fn register_issues(registry: &mut Registry, all: &[Issue]) {
    let issues = Family::<IssueLabels, Gauge>::default();
    for issue in all {
        issues.get_or_create(&IssueLabels { code: name(&issue.code), level: name(&issue.level) }).inc();
    }
    registry.register("issues", "What is wrong, by code and level; policyctl issues lists it", issues);
}

fn register_tables(registry: &mut Registry, snapshot: &Snapshot) {
    let entries = Family::<TableLabel, Gauge>::default();
    let limits = Family::<TableLabel, Gauge>::default();
    for TableUse { table, entries: used, limit } in &snapshot.tables {
        let label = TableLabel { table: table.clone() };
        entries.get_or_create(&label).set(i64::try_from(*used).unwrap_or(i64::MAX));
        if let Some(limit) = limit {
            limits.get_or_create(&label).set(i64::try_from(*limit).unwrap_or(i64::MAX));
        }
    }
    registry.register("table_entries", "Elements of a kernel table", entries);
    registry.register("table_limit", "The most elements of a kernel table", limits);
}

/// A unit variant as JSON names it.
fn name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(_) | Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use policy_common::table::{Counter, REASON_SLOTS};
    use policy_core::model::{IssueCode, Level};

    use super::*;

    #[test]
    fn a_snapshot_becomes_open_metrics_text() {
        let mut counters = Box::new(EndpointCounters {
            from_pod: [Counter::default(); REASON_SLOTS],
            to_pod: [Counter::default(); REASON_SLOTS],
        });
        counters.to_pod[Reason::NoRule as usize] = Counter { packets: 3, bytes: 180 };
        let latency = latency_histogram();
        latency.observe(0.002);
        let text = encode(&Told::Agent(Box::new(Snapshot {
            phase: Phase::Enforcing,
            commit: 7,
            commits: 5,
            latency,
            endpoints: vec![("a/shop/web".to_owned(), Some(counters)), ("a/shop/api".to_owned(), None)],
            endpoints_without_interface: 1,
            identities: 4,
            policies: 2,
            clusters: vec![("b".to_owned(), SyncState::Waiting, 9)],
            issues: vec![Issue {
                code: IssueCode::TableFull,
                level: Level::Error,
                object: "Node/n".to_owned(),
                field: "rules".to_owned(),
                message: String::new(),
            }],
            tables: vec![TableUse { table: "rules".to_owned(), entries: 10, limit: Some(100) }],
            flows_swept: 11,
        })))
        .expect("it can be encoded");
        for line in [
            "crosswall_build_info{version=\"0.1.0\"} 1",
            "crosswall_packets_total{pod=\"a/shop/web\",direction=\"ingress\",reason=\"no_rule\"} 3",
            "crosswall_packet_bytes_total{pod=\"a/shop/web\",direction=\"ingress\",reason=\"no_rule\"} 180",
            "crosswall_endpoints{state=\"found\"} 2",
            "crosswall_endpoints{state=\"no_interface\"} 1",
            "crosswall_enforcing 1",
            "crosswall_identities 4",
            "crosswall_policies 2",
            "crosswall_commits_total 5",
            "crosswall_commit 7",
            "crosswall_flows_swept_total 11",
            "crosswall_event_to_commit_seconds_count 1",
            "crosswall_cluster_synced{cluster=\"b\"} 0",
            "crosswall_cluster_pods{cluster=\"b\"} 9",
            "crosswall_issues{code=\"table_full\",level=\"error\"} 1",
            "crosswall_table_entries{table=\"rules\"} 10",
            "crosswall_table_limit{table=\"rules\"} 100",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_controller_tells_whether_it_leads_and_what_it_wrote() {
        let issue = Issue {
            code: IssueCode::SplitPeer,
            level: Level::Warning,
            object: "a/NetworkPolicy/shop/web".to_owned(),
            field: String::new(),
            message: String::new(),
        };
        let snapshot = ControllerSnapshot { leads: true, written: 3, failed: 2, issues: vec![issue] };
        let text = encode(&Told::Controller(snapshot)).expect("it can be encoded");
        for line in [
            "crosswall_controller_leads 1",
            "crosswall_controller_writes_total 3",
            "crosswall_controller_write_failures_total 2",
            "crosswall_issues{code=\"split_peer\",level=\"warning\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }
}
