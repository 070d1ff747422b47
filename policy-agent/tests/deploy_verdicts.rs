//! What the policies that `deploy/` holds let through, as `policyctl simulate` judges them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use policy_agent::document::{Format, parse};
use serde_json::{Value, json};
use tempfile::TempDir;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Two clusters whose objects are files.
struct World(TempDir);

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let set = "{apiVersion: crosswall.dev/v1alpha1, kind: ClusterSet, spec: {members: [
            {id: cluster-a, source: {directory: {path: cluster-a}}, podCIDRs: [10.1.0.0/16]},
            {id: cluster-b, source: {directory: {path: cluster-b}}, podCIDRs: [10.2.0.0/16]}]}}";
        fs::write(folder.path().join("set.yaml"), set).expect("written");
        for cluster in ["cluster-a", "cluster-b"] {
            fs::create_dir(folder.path().join(cluster)).expect("made");
        }
        Self(folder)
    }

    /// Puts namespaces into a cluster, and pods: namespace, name and labels.
    fn put(&self, cluster: &str, namespaces: &[&str], pods: &[(&str, &str, Value)]) {
        let block = if cluster == "cluster-a" { 1 } else { 2 };
        let namespaces =
            namespaces.iter().map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        let pods = pods.iter().enumerate().map(|(number, (namespace, name, labels))| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "status": {"podIP": format!("10.{block}.0.{number}")}})
        });
        let items: Vec<Value> = namespaces.chain(pods).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        fs::write(self.0.path().join(cluster).join("objects.json"), list).expect("written");
    }

    /// Puts a file of `deploy/` into a cluster.
    fn copy(&self, file: &str, cluster: &str) {
        fs::copy(deploy().join(file), self.0.path().join(cluster).join("policy.yaml")).expect("copied");
    }

    /// Judges probes: from, to, protocol and port, and what is expected.
    fn judge(&self, probes: &[(&str, &str, &str, u16, &str)]) {
        let lines: Vec<String> = probes
            .iter()
            .map(|(from, to, protocol, port, expect)| {
                json!({"from": from, "to": to, "protocol": protocol, "port": port, "expect": expect}).to_string()
            })
            .collect();
        fs::write(self.0.path().join("probes.jsonl"), lines.join("\n")).expect("written");
        let mut simulate = Command::new(env!("CARGO_BIN_EXE_policyctl"));
        simulate.current_dir(self.0.path()).args(["simulate", "set.yaml", "--probes", "probes.jsonl", "--check"]);
        let output = simulate.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_policy_of_the_example_admits_the_shops_of_both_clusters_and_nobody_else() {
    let world = World::new();
    for cluster in ["cluster-a", "cluster-b"] {
        let pods = [("shop", "web"), ("shop", "other"), ("else", "web"), ("db", "postgres")];
        let pods = pods.map(|(namespace, app)| (namespace, app, json!({"app": app})));
        world.put(cluster, &["shop", "else", "db"], &pods);
    }
    world.copy("examples/two-clusters/cluster-b/policy.yaml", "cluster-b");
    let probes = [
        ("cluster-a/shop/web", 5432, "allow"),
        ("cluster-b/shop/web", 5432, "allow"),
        ("cluster-a/shop/web", 80, "deny"),
        ("cluster-a/shop/other", 5432, "deny"),
        ("cluster-b/shop/other", 5432, "deny"),
        ("cluster-a/else/web", 5432, "deny"),
        ("cluster-b/else/web", 5432, "deny"),
    ];
    world.judge(&probes.map(|(from, port, expect)| (from, "cluster-b/db/postgres", "TCP", port, expect)));
}

#[test]
fn the_controller_reaches_api_servers_and_names_and_its_namespace_is_shut_otherwise() {
    let world = World::new();
    let [controller] = parse(&fs::read(deploy().join("base/controller.yaml")).expect("readable"), Format::Yaml)
        .expect("a manifest")
        .try_into()
        .expect("one");
    let labels = controller["spec"]["template"]["metadata"]["labels"].clone();
    let metrics = &controller["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"];
    let metrics = u16::try_from(metrics.as_u64().expect("a number")).expect("a port");
    let pods = [
        ("crosswall-system", "controller", labels),
        ("crosswall-system", "other", json!({})),
        ("kube-system", "any", json!({})),
    ];
    world.put("cluster-a", &["crosswall-system", "kube-system"], &pods);
    world.put("cluster-b", &["else"], &[("else", "any", json!({}))]);
    world.copy("base/networkpolicy.yaml", "cluster-a");
    let (controller, other) = ("cluster-a/crosswall-system/controller", "cluster-a/crosswall-system/other");
    let mut probes = Vec::new();
    for anybody in ["cluster-a/kube-system/any", "cluster-b/else/any"] {
        probes.extend([
            (controller, anybody, "TCP", 443, "allow"),
            (controller, anybody, "TCP", 6443, "allow"),
            (controller, anybody, "UDP", 53, "allow"),
            (controller, anybody, "TCP", 53, "allow"),
            (controller, anybody, "TCP", 80, "deny"),
            (controller, anybody, "UDP", 443, "deny"),
            (controller, anybody, "TCP", metrics, "deny"),
            (anybody, controller, "TCP", metrics, "allow"),
            (anybody, controller, "TCP", 443, "deny"),
            (anybody, controller, "UDP", 53, "deny"),
            (other, anybody, "TCP", 443, "deny"),
            (anybody, other, "TCP", metrics, "deny"),
        ]);
    }
    world.judge(&probes);
}
