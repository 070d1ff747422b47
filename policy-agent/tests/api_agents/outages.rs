//! The local API server stops, freezes and forgets its history: what was enforced stays, and what was changed comes.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clusters::{Clusters, NEIGHBOUR, RETRY, SOON, kept_its_promise};

/// Admits the neighbour to TCP/80 too, besides what other policies admit.
pub fn admit_neighbour(name: &str) -> String {
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}, namespace: shop, annotations: {{crosswall.dev/peer-scope: Local}}}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: api}}}}}}], ports: [{{port: 80}}]}}]
"
    )
}

#[test]
fn while_the_local_api_server_is_gone_everything_stays_and_afterwards_changes_come() {
    let Some(mut clusters) = Clusters::admitting("an API server that stops", &[]) else {
        return;
    };
    let prober = clusters.probe_continuously();
    clusters.a.stop().expect("stopped");
    clusters.shows_issue(&["unusable_source", "cluster-a"], RETRY);
    thread::sleep(Duration::from_secs(2));
    clusters.becomes_allowed(NEIGHBOUR, false, SOON);
    clusters.a.start().expect("started");
    clusters.a.apply(&admit_neighbour("late")).expect("applied");
    let begun = Instant::now();
    clusters.becomes_allowed(NEIGHBOUR, true, RETRY);
    eprintln!("enforced {:?} after it was applied to a server that came back", begun.elapsed());
    clusters.waits_until(RETRY, || match clusters.issues() {
        issues if issues.is_empty() => Ok(()),
        issues => Err(format!("{issues:#?}")),
    });
    eprintln!("{:?} datagrams were allowed and forbidden", kept_its_promise(prober));
}

#[test]
fn while_the_local_api_server_is_frozen_everything_stays_and_afterwards_changes_come() {
    let Some(clusters) = Clusters::admitting("an API server that freezes", &[]) else {
        return;
    };
    let prober = clusters.probe_continuously();
    clusters.a.pause().expect("frozen");
    thread::scope(|scope| {
        let asked = scope.spawn(|| clusters.a.apply(&admit_neighbour("late")));
        thread::sleep(Duration::from_secs(3));
        assert!(!asked.is_finished(), "a frozen server answers nobody");
        clusters.becomes_allowed(NEIGHBOUR, false, SOON);
        clusters.a.resume().expect("it goes on");
        asked.join().expect("no panic").expect("applied");
    });
    clusters.becomes_allowed(NEIGHBOUR, true, SOON);
    eprintln!("{:?} datagrams were allowed and forbidden", kept_its_promise(prober));
}

#[test]
fn what_was_changed_in_a_history_that_is_forgotten_is_listed_anew_without_a_gap() {
    let Some(mut clusters) = Clusters::admitting("a server that forgets", &[]) else {
        return;
    };
    let prober = clusters.probe_continuously();
    // The agent hears nothing of all this.
    let agent = Pid::from_raw(clusters.agent().pid().expect("it runs") as i32);
    kill(agent, Signal::SIGSTOP).expect("frozen");
    let a = &clusters.a;
    a.apply(&admit_neighbour("short-lived")).expect("applied");
    a.kubectl(&["delete", "networkpolicy", "short-lived", "--namespace=shop"]).expect("deleted");
    a.apply(&admit_neighbour("late")).expect("applied");
    a.kubectl(&["create", "namespace", "new"]).expect("created");
    a.compact().expect("compacted");
    clusters.a.stop().expect("stopped");
    clusters.a.start().expect("started");
    kill(agent, Signal::SIGCONT).expect("it goes on");
    clusters.becomes_allowed(NEIGHBOUR, true, RETRY);
    // Events that were on their way before the server ended may be all that one collection missed, but not all of them.
    clusters.says("the server has forgotten where the watch was", RETRY);
    assert_eq!(clusters.member("cluster-a").namespaces, clusters.member("cluster-b").namespaces);
    eprintln!("{:?} datagrams were allowed and forbidden", kept_its_promise(prober));
}
