//! The lab by itself, without agents: everything reaches everything, and nothing stays behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Stdio;
use std::time::{Duration, Instant};

use policy_lab::traffic::packet::{Between, SctpChunk};
use policy_lab::traffic::probe::{Denial, Outcome, Probe, Timing};
use policy_lab::traffic::prober::Flow;
use policy_lab::{ClusterSpec, Family, Lab, LabBuilder, NamespaceSpec, NodeSpec, PodSpec, PortProtocol, Wiring};
use support::{runs_here, traces};

/// All is allowed here, so a round ends with the last answer; only a busy machine needs so long.
const PATIENT: Timing = Timing { timeout: Duration::from_secs(4), attempts: 4 };

/// Three clusters, four nodes, twelve pods.
fn three_clusters(wiring: Wiring) -> LabBuilder {
    let pod = |name: &str| PodSpec::new(name).tcp(80).udp(53);
    Lab::builder("topology")
        .wiring(wiring)
        .cluster(
            ClusterSpec::new("cluster-a")
                .namespace(NamespaceSpec::new("shop").label("team", "web"))
                .node(NodeSpec::new("a1").pod(pod("shop/web-1")).pod(pod("shop/web-2")).pod(pod("ops/tool")))
                .node(NodeSpec::new("a2").pod(pod("shop/web-3")).pod(pod("shop/cart")).pod(pod("ops/log"))),
        )
        .cluster(
            ClusterSpec::new("cluster-b")
                .node(NodeSpec::new("b1").pod(pod("db/pg-0")).pod(pod("db/pg-1")).pod(pod("ops/tool"))),
        )
        .cluster(
            ClusterSpec::new("cluster-c")
                .node(NodeSpec::new("c1").pod(pod("shop/web-1")).pod(pod("db/pg-0")).pod(pod("ops/tool"))),
        )
        .outside_host("world")
}

fn denied(lab: &Lab, probes: &[Probe]) -> Vec<String> {
    let matrix = lab.probe(probes, PATIENT).unwrap();
    matrix.mismatches(|_| true).iter().map(ToString::to_string).collect()
}

fn everything_reaches_everything(wiring: Wiring) {
    let start = Instant::now();
    let lab = three_clusters(wiring).build().unwrap();
    let built = start.elapsed();
    let probes = lab.all_probes();
    // 12 × 11 pairs, 2 families, TCP, UDP, ICMP.
    assert_eq!(probes.len(), 12 * 11 * 2 * 3);
    let start = Instant::now();
    let matrix = lab.matrix(PATIENT).unwrap();
    eprintln!("{wiring:?}: built in {built:?}, {} probes in {:?}", probes.len(), start.elapsed());
    assert_eq!(matrix.mismatches(|_| true), vec![], "\n{matrix}");
    let run = lab.run_id();
    drop(lab);
    assert_eq!(traces(run), Vec::<String>::new());
}

#[test]
fn everything_reaches_everything_over_veth_pairs_with_host_routes() {
    if runs_here("ptp wiring") {
        everything_reaches_everything(Wiring::Ptp);
    }
}

#[test]
fn everything_reaches_everything_over_bridges() {
    if runs_here("bridge wiring") {
        everything_reaches_everything(Wiring::Bridge);
    }
}

#[test]
fn outside_hosts_and_nodes_take_part() {
    if !runs_here("outside hosts") {
        return;
    }
    let lab = three_clusters(Wiring::Ptp).build().unwrap();
    lab.serve("world", PortProtocol::Tcp, 443).unwrap();
    lab.serve("cluster-a/a1", PortProtocol::Udp, 10250).unwrap();
    let pod = "cluster-a/shop/web-1";
    let probes: Vec<Probe> = Family::BOTH
        .into_iter()
        .flat_map(|family| {
            [
                Probe::tcp(pod, "world", 443),
                Probe::tcp("world", pod, 80),
                Probe::udp(pod, "cluster-a/a1", 10250),
                Probe::udp("cluster-b/db/pg-0", "cluster-a/a1", 10250),
                Probe::tcp("cluster-a/a1", pod, 80),
                Probe::tcp("cluster-c/c1", pod, 80),
                Probe::ping("cluster-a/a2", "cluster-b/b1"),
            ]
            .map(|probe| probe.over(family))
        })
        .collect();
    assert_eq!(denied(&lab, &probes), Vec::<String>::new());
}

#[test]
fn a_closed_port_is_refused_and_an_unused_address_is_silent() {
    if !runs_here("denials") {
        return;
    }
    let lab = three_clusters(Wiring::Ptp).build().unwrap();
    let (from, to) = ("cluster-a/shop/web-1", "cluster-b/db/pg-0");
    let probes = [Probe::tcp(from, to, 81), Probe::udp(from, to, 81).v6(), Probe::udp(from, "172.20.9.9", 53)];
    let start = Instant::now();
    let matrix = lab.probe(&probes, Timing::within(Duration::from_millis(300))).unwrap();
    let outcomes: Vec<Outcome> = matrix.cells.iter().map(|(_, outcome)| *outcome).collect();
    let refused = Outcome::Denied(Denial::Refused);
    assert_eq!(outcomes, [refused, refused, Outcome::Denied(Denial::Timeout)]);
    assert!(start.elapsed() < Duration::from_millis(900));
}

#[test]
fn pods_and_clusters_come_and_go_and_an_address_serves_again() {
    if !runs_here("changes") {
        return;
    }
    for wiring in [Wiring::Ptp, Wiring::Bridge] {
        let mut lab = three_clusters(wiring).build().unwrap();
        let old = "cluster-b/db/pg-0";
        let addresses = lab.host(old).unwrap().addresses();
        let file = lab.manifests().directory("cluster-b").join("pods/db.pg-0.json");
        assert!(file.exists());
        lab.remove_pod(old).unwrap();
        assert!(!file.exists());
        let spec = PodSpec::new("db/pg-9").tcp(5432).ipv4(addresses.v4.unwrap()).ipv6(addresses.v6.unwrap());
        let new = lab.add_pod("cluster-b/b1", &spec).unwrap();
        // An address of cluster-c's network that lives in cluster-a: needs routes of its own.
        let stray = PodSpec::new("shop/stray").tcp(80).ipv4([10, 3, 1, 200].into());
        let stray = lab.add_pod("cluster-a/a1", &stray).unwrap();
        lab.remove_cluster("cluster-c").unwrap();
        let node = NodeSpec::new("d1").pod(PodSpec::new("x/y").tcp(80));
        lab.add_cluster(&ClusterSpec::new("cluster-d").node(node)).unwrap();
        let mut probes = lab.all_probes();
        probes.push(Probe::tcp("world", &new, 5432).v6());
        probes.push(Probe::tcp("world", &stray, 80));
        assert_eq!(denied(&lab, &probes), Vec::<String>::new(), "{wiring:?}");
        lab.remove_pod(&stray).unwrap();
        let members = fs::read_to_string(lab.manifests().cluster_set("cluster-a")).unwrap();
        assert!(members.contains("cluster-d") && !members.contains("cluster-c"));
    }
}

#[test]
fn an_established_connection_tells_when_its_peer_goes() {
    if !runs_here("connections") {
        return;
    }
    let mut lab = three_clusters(Wiring::Bridge).build().unwrap();
    let (from, to) = ("cluster-a/shop/web-1", "cluster-c/db/pg-0");
    let second = Duration::from_secs(1);
    let mut stream = lab.establish_tcp(from, to, 80, Family::V6, second).unwrap();
    assert_eq!(stream.exchange(second), Outcome::Allowed);
    lab.remove_pod(to).unwrap();
    assert!(!stream.exchange(Duration::from_millis(100)).is_allowed());
}

#[test]
fn injected_frames_are_seen_where_they_arrive_and_only_there() {
    if !runs_here("injection") {
        return;
    }
    let quick = Duration::from_millis(200);
    for wiring in [Wiring::Ptp, Wiring::Bridge] {
        let lab = three_clusters(wiring).build().unwrap();
        let (from, near, far) = ("cluster-a/shop/web-1", "cluster-a/shop/web-2", "cluster-b/db/pg-0");
        for family in Family::BOTH {
            let victim = lab.host("cluster-a/ops/tool").unwrap().address(family).unwrap();
            for to in [near, far] {
                let address = lab.host(to).unwrap().address(family).unwrap();
                let between = Between { from: victim, to: address };
                let frame = lab.frame(from, address).unwrap();
                let bystander = lab.sniffer("cluster-a/shop/cart").unwrap();
                let spoofed = frame.udp(between, (4000, 53), b"spoofed source").unwrap();
                assert!(lab.inject(from, to, &spoofed, b"spoofed source", Duration::from_secs(2)).unwrap());
                let init = frame.sctp(between, (4000, 9999), SctpChunk::Init, b"sctp init").unwrap();
                assert!(lab.inject(from, to, &init, b"sctp init", Duration::from_secs(2)).unwrap());
                assert!(!bystander.hears(b"spoofed source", quick / 4).unwrap());
            }
        }
    }
}

#[test]
fn a_prober_counts_what_arrives_and_what_does_not() {
    if !runs_here("prober") {
        return;
    }
    let mut lab = three_clusters(Wiring::Bridge).build().unwrap();
    let (from, near, far) = ("cluster-a/shop/web-1", "cluster-a/shop/web-2", "cluster-b/db/pg-0");
    let flows = [
        Flow::steady(from, near, 53),
        Flow::fresh(from, near, 53).v6(),
        Flow::fresh(far, from, 53),
        Flow::steady(from, "cluster-c/db/pg-0", 53),
    ];
    let prober = lab.probe_continuously(&flows, Duration::from_millis(1)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    lab.remove_pod("cluster-c/db/pg-0").unwrap();
    let removed = prober.elapsed();
    std::thread::sleep(Duration::from_millis(300));
    let reports = prober.stop();
    for report in &reports[..3] {
        let all = report.sent;
        assert!(all > 100, "{report:?}");
        assert_eq!((report.arrived, report.echoed), (all, all), "{report:?}");
    }
    let cut = &reports[3];
    assert!(cut.arrived > 50 && cut.lost() > 50, "{cut:?}");
    assert!(cut.last_arrival.unwrap() <= removed, "{cut:?} {removed:?}");
}

#[test]
fn a_panic_leaves_nothing_behind() {
    if !runs_here("cleanup") {
        return;
    }
    let mut run = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let lab = three_clusters(Wiring::Ptp).build().unwrap();
        run = Some(lab.run_id());
        lab.bpffs("cluster-a/a1").unwrap();
        assert_ne!(traces(lab.run_id()), Vec::<String>::new());
        // A process that nobody waits for, in a pod.
        let netns = lab.host("cluster-a/shop/web-1").unwrap().netns();
        #[expect(clippy::zombie_processes, reason = "the lab must end what nobody waits for")]
        let _sleeper = netns.command("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        panic!("on purpose");
    }));
    assert!(outcome.is_err());
    assert_eq!(traces(run.unwrap()), Vec::<String>::new());
}
