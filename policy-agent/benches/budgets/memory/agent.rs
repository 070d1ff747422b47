//! Whole agents that list the pods of another cluster at a real API server: what their processes weigh beside one that
//! lists next to none.

use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use policy_lab::control_plane::Assets;
use serde_json::{Value, json};

use super::BUDGET;
use crate::report::{Samples, TimeUnit};
use crate::site::{MANY, Site, cpu_time, resident};

/// How many pods are listed, and how many there are beside them.
const PODS: u32 = 100_000;
const OTHERS: u32 = 1;
/// How many pods a Deployment has.
const REPLICAS: u32 = 20;
/// How long an agent is left alone before it is weighed.
const REST: Duration = Duration::from_secs(3);
const NAMESPACES: u32 = 100;

/// Rules here match nobody of them, and everybody.
const POLICIES: [(&str, &str); 2] = [("nobody", "{matchLabels: {app: nobody}}"), ("everybody", "{}")];

/// Why this machine cannot weigh agents.
pub fn obstacle() -> Option<String> {
    policy_lab::can_run().err().or_else(|| Assets::from_env().err())
}

/// Weighs them.
pub fn weigh(rounds: usize, samples: &mut Samples) -> Result<()> {
    let site = Site::build("memory", &[])?;
    let empty = Weight::of(&site, OTHERS)?;
    site.there.store((0..NAMESPACES).map(namespace).chain((0..PODS).map(pod)))?;
    for _ in 0..rounds {
        for (name, pods) in POLICIES {
            site.lab.manifests().write("cluster-a", "policies.yaml", &admitting(pods))?;
            let Weight { rss, rss_peak, cpu } = Weight::of(&site, OTHERS + PODS)?;
            let per_pod = |bytes: i64| (bytes - empty.rss) as f64 / f64::from(PODS);
            samples.add(&format!("agent_rss_per_pod_{name}_v4"), "B", per_pod(rss));
            samples.add(&format!("agent_rss_peak_per_pod_{name}_v4"), "B", per_pod(rss_peak));
            samples.add_time(&format!("agent_list_cpu_{name}_v4"), TimeUnit::S, cpu);
            samples.budget(&format!("agent_rss_per_pod_{name}_v4"), BUDGET);
        }
    }
    samples.add("agent_rss_without_pods", "MB", empty.rss as f64 / 1e6);
    Ok(())
}

/// What a process weighs, in bytes, and for how long it had a core until then.
struct Weight {
    rss: i64,
    rss_peak: i64,
    cpu: Duration,
}

impl Weight {
    /// Of an agent that knows so many pods of the other cluster; it ends then.
    fn of(site: &Site, pods: u32) -> Result<Self> {
        let agent = site.start_agent(pods as usize)?;
        thread::sleep(REST);
        let process = agent.pid().context("the agent runs")?;
        let of = |field| resident(&process.to_string(), field);
        let weight = Self { rss: of("VmRSS")?, rss_peak: of("VmHWM")?, cpu: cpu_time(process)? };
        // The next one is to list all itself, not to begin with what this one has kept.
        let state = agent.state_dir().to_owned();
        drop(agent);
        fs::remove_dir_all(&state).with_context(|| format!("remove {}", state.display()))?;
        Ok(weight)
    }
}

fn admitting(pods: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: web, namespace: shop}}, \
         spec: {{podSelector: {{}}, ingress: [{{from: [{{podSelector: {pods}, \
         namespaceSelector: {{matchLabels: {{cluster.clusterset.k8s.io: cluster-b}}}}}}]}}]}}}}"
    )
}

fn namespace(number: u32) -> (String, Value) {
    let name = format!("team-{number}");
    let labels = json!({"kubernetes.io/metadata.name": name, "team": name});
    let metadata = json!({"name": name, "labels": labels, "uid": uid(1, number), "creationTimestamp": CREATED});
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata,
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    (format!("/registry/namespaces/team-{number}"), object)
}

const CREATED: &str = "2026-01-01T00:00:00Z";

fn uid(kind: u32, number: u32) -> String {
    format!("{kind:08x}-0000-4000-8000-{number:012x}")
}

/// One of a Deployment's, as a kubelet leaves it: 2.4 kB, most of which no policy asks for.
fn pod(number: u32) -> (String, Value) {
    let deployment = number / REPLICAS;
    let (team, app) = (format!("team-{}", deployment % NAMESPACES), format!("app-{deployment}"));
    let hash = format!("{:09x}", deployment.wrapping_mul(0x9e37_79b1));
    let name = format!("{app}-{hash}-{number:05x}");
    let ip = Ipv4Addr::from(u32::from(MANY) + number).to_string();
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-{hash}"),
        "uid": uid(2, deployment), "controller": true, "blockOwnerDeletion": true});
    let manager = |name: &str| {
        json!({"manager": name, "operation": "Update", "apiVersion": "v1", "time": CREATED, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}, "f:pod-template-hash": {}}},
                "f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {".": {}, "f:image": {}, "f:name": {}}}}}})
    };
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": CREATED});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    let object = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": team, "uid": uid(3, number), "creationTimestamp": CREATED,
            "generateName": format!("{app}-{hash}-"), "ownerReferences": [owner],
            "labels": {"app": app, "pod-template-hash": hash, "app.kubernetes.io/part-of": team},
            "annotations": {"kubectl.kubernetes.io/restartedAt": CREATED},
            "managedFields": [manager("kube-controller-manager"), manager("kubelet")]},
        "spec": {"nodeName": format!("node-{}", number % 1000), "serviceAccountName": "default",
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "containers": [{"name": "main", "image": format!("example.org/{app}:1.0.0"),
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]},
        "status": {"phase": "Running", "hostIP": "10.0.0.1", "podIP": ip, "podIPs": [{"ip": ip}],
            "startTime": CREATED, "qosClass": "Burstable",
            "conditions": conditions}});
    (format!("/registry/pods/{team}/{name}"), object)
}
