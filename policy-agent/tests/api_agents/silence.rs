//! Watches that stall without closing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use policy_lab::control_plane::ControlPlane;
use serde_json::json;

use crate::client::{patch, with_client};
use crate::clusters::{Clusters, NEIGHBOUR, NODE, RETRY, SOON, kept_its_promise};
use crate::outages::admit_neighbour;

/// After how many seconds of silence a watch is given up.
const SILENCE: &str = "2";

/// An object of each collection of cluster-a that is followed; of the others only the last two are.
const TOUCHED: [(&str, &str); 6] = [
    ("/api/v1/namespaces/default/services", "kubernetes"),
    ("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", "kubernetes"),
    ("/api/v1/nodes", "a1"),
    ("/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies", "web"),
    ("/api/v1/namespaces", "default"),
    ("/api/v1/namespaces/shop/pods", "api-1"),
];

/// Touches objects until told otherwise, so that no watch is silent by itself.
fn touch(control_plane: &ControlPlane, objects: &[(&str, &str)], is_done: &AtomicBool) {
    with_client(control_plane, async |client| {
        let mut count = 0;
        while !is_done.load(Ordering::Relaxed) {
            count += 1;
            let change = json!({"metadata": {"annotations": {"touched": count.to_string()}}});
            for (collection, name) in objects {
                patch(&client, collection, name, None, &change).await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
}

/// Runs nft inside a control plane's namespace.
fn nft(control_plane: &ControlPlane, rules: &str) {
    let output = control_plane.netns().command("nft").arg(rules).output().expect("nft runs");
    assert!(output.status.success(), "nft {rules}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The ports from which the agent of a node has connections to a control plane.
fn connections(clusters: &Clusters, control_plane: &ControlPlane) -> Vec<String> {
    let node = clusters.lab.host(NODE).expect("a node");
    let target = control_plane.address().to_string();
    let output = node.netns().command("ss").args(["-Htn", "state", "established", "dst", &target]).output();
    let lines = String::from_utf8(output.expect("ss runs").stdout).expect("text");
    let port = |line: &str| line.split_whitespace().nth(2)?.rsplit_once(':').map(|(_, port)| port.to_owned());
    lines.lines().filter_map(port).collect()
}

/// Does something while every watch is told something all the time.
fn while_touched(clusters: &Clusters, work: impl FnOnce()) {
    /// Ends the touching, also where an assertion fails.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = End(&is_done);
        scope.spawn(|| touch(&clusters.a, &TOUCHED, &is_done));
        scope.spawn(|| touch(&clusters.b, &TOUCHED[4..], &is_done));
        clusters.waits_until(RETRY, || no_issues(clusters));
        thread::sleep(SOON * 3);
        no_issues(clusters).expect("watches that are told something are not silent");
        work();
    });
}

fn no_issues(clusters: &Clusters) -> Result<(), String> {
    let issues = clusters.issues();
    if issues.is_empty() { Ok(()) } else { Err(format!("{issues:#?}")) }
}

#[test]
fn connections_that_swallow_everything_are_given_up_and_others_begun() {
    let Some(clusters) = Clusters::admitting("connections that stall", &["--watch-silence", SILENCE]) else {
        return;
    };
    let prober = clusters.probe_continuously();
    while_touched(&clusters, || {
        let stalled = connections(&clusters, &clusters.a);
        assert!(stalled.len() >= TOUCHED.len(), "a watch each: {stalled:?}");
        let ports = stalled.join(", ");
        // Neither end hears of it: no reset, no end, only nothing.
        nft(
            &clusters.a,
            &format!(
                "table inet stall {{ \
                   chain in {{ type filter hook input priority 0; tcp dport 6443 tcp sport {{ {ports} }} drop; }}; \
                   chain out {{ type filter hook output priority 0; tcp sport 6443 tcp dport {{ {ports} }} drop; }}; }}"
            ),
        );
        let begun = Instant::now();
        clusters.a.apply(&admit_neighbour("late")).expect("applied");
        clusters.becomes_allowed(NEIGHBOUR, true, RETRY);
        eprintln!("enforced {:?} after all connections had stalled", begun.elapsed());
        clusters.waits_until(RETRY, || no_issues(&clusters));
        let left = connections(&clusters, &clusters.a);
        assert!(!stalled.iter().any(|port| left.contains(port)), "{left:?} are not {stalled:?}");
    });
    eprintln!("{:?} datagrams were allowed and forbidden", kept_its_promise(prober));
}

#[test]
fn a_server_that_is_frozen_for_too_long_is_reported_and_heard_again_once_it_goes_on() {
    let Some(clusters) = Clusters::admitting("a server that is silent", &["--watch-silence", SILENCE]) else {
        return;
    };
    let prober = clusters.probe_continuously();
    while_touched(&clusters, || {
        clusters.a.pause().expect("frozen");
        clusters.shows_issue(&["unusable_source", "cluster-a", "nothing was heard for 2 s"], SOON * 10);
        thread::sleep(SOON * 5);
        clusters.becomes_allowed(NEIGHBOUR, false, SOON);
        clusters.a.resume().expect("it goes on");
        clusters.a.apply(&admit_neighbour("late")).expect("applied");
        let begun = Instant::now();
        clusters.becomes_allowed(NEIGHBOUR, true, RETRY);
        eprintln!("enforced {:?} after the server went on", begun.elapsed());
        clusters.waits_until(RETRY, || no_issues(&clusters));
    });
    eprintln!("{:?} datagrams were allowed and forbidden", kept_its_promise(prober));
}
