//! 20,000 pods that come at once.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::client::{create, patch, with_client};
use crate::clusters::{API, Clusters, PG, SOON, START, kept_its_promise};

/// How many pods are created.
const PODS: usize = 20_000;
/// How many of them get an address of each family; the others wait for a node for ever.
const ADDRESSED: usize = 5_000;
/// How many requests are under way at a time.
const REQUESTS: usize = 24;
const COLLECTION: &str = "/api/v1/namespaces/bulk/pods";

#[test]
fn twenty_thousand_pods_created_at_once_all_arrive_and_verdicts_stay_right() {
    let Some(mut clusters) = Clusters::admitting("20,000 pods", &[]) else {
        return;
    };
    let before = clusters.member("cluster-b").pods;
    let memory = resident_kib(&mut clusters);
    let prober = clusters.probe_continuously();
    clusters.b.kubectl(&["create", "namespace", "bulk"]).expect("created");
    let begun = Instant::now();
    with_client(&clusters.b, async |client| {
        let pods = stream::iter(0..PODS).map(|number| {
            let client = &client;
            async move {
                let name = format!("pod-{number}");
                let labels = json!({"app": format!("app-{}", number % 100), "team": format!("t{}", number % 7)});
                let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
                    "spec": {"containers": [{"name": "main", "image": "example.org/x:1"}]}});
                create(client, COLLECTION, &pod).await;
                if number < ADDRESSED {
                    let ips =
                        [format!("10.2.{}.{}", 100 + number / 200, number % 200), format!("fd00:2:0:ff::{number:x}")];
                    let ips: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
                    let status = json!({"status": {"phase": "Running", "podIP": ips[0]["ip"], "podIPs": ips}});
                    patch(client, COLLECTION, &name, Some("status"), &status).await;
                }
            }
        });
        pods.buffer_unordered(REQUESTS).collect::<Vec<()>>().await;
    });
    let created = begun.elapsed();
    let arrives = |clusters: &Clusters, within| {
        let begun = Instant::now();
        clusters.waits_until(within, || match clusters.member("cluster-b").pods {
            pods if pods == before + PODS => Ok(()),
            pods => Err(format!("{pods} pods")),
        });
        begun.elapsed()
    };
    let arrived = arrives(&clusters, Duration::from_secs(5));
    clusters.becomes_allowed(API, true, SOON);
    clusters.becomes_allowed(PG, false, SOON);
    let sent = kept_its_promise(prober);
    let grown = resident_kib(&mut clusters).saturating_sub(memory);
    eprintln!(
        "{PODS} pods were created in {created:?}, the last was known {arrived:?} later; the agent has grown by {grown} KiB \
         to {} KiB; {sent:?} datagrams were allowed and forbidden",
        memory + grown
    );
    // 800 bytes a pod, several times what the index keeps of one: nothing of what came over the wire is held.
    assert!(grown < 16 * 1024, "{grown} KiB for {PODS} pods");

    // One that begins now is told of all of them in one list.
    let begun = Instant::now();
    clusters.agent().restart().expect("restarted");
    let listed = begun.elapsed() + arrives(&clusters, START);
    thread::sleep(SOON);
    clusters.becomes_allowed(API, true, SOON);
    clusters.becomes_allowed(PG, false, SOON);
    eprintln!("an agent that began had listed them after {listed:?}; it has {} KiB", resident_kib(&mut clusters));

    // A policy that admits all of them finds those that have an address, to the last.
    clusters.a.apply(ADMIT_BULK).expect("applied");
    clusters.waits_until(SOON * 3, || {
        let answer =
            crate::agents::policyctl(&clusters.agents, crate::clusters::NODE, &["get", "policies", "-o", "json"]);
        let policies: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        let bulk =
            policies.as_array().expect("a list").iter().find(|it| it["name"] == "cluster-a/NetworkPolicy/shop/bulk");
        let admitted = bulk.map(|policy| policy["peers"]["ingress"]["pods"]["cluster-b"].clone());
        if admitted == Some(json!(ADDRESSED)) { Ok(()) } else { Err(answer) }
    });
}

/// Admits all of them.
const ADMIT_BULK: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: bulk, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: bulk, cluster.clusterset.k8s.io: cluster-b}
";

fn resident_kib(clusters: &mut Clusters) -> usize {
    let pid = clusters.agent().pid().expect("it runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
