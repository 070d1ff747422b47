//! An agent with the capabilities that its DaemonSet gives it can do all it must; with one fewer it says so.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use policy_agent::document::{Format, parse};
use policy_lab::traffic::probe::Probe;
use policy_lab::{AgentOptions, ClusterSpec, Lab, NodeSpec, Wiring};

use crate::clusters::{Enforced, SOON, START, three_clusters, web};

const ADMIT_C: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {cluster.clusterset.k8s.io: cluster-c}}}]
";
const WEB: &str = "cluster-a/shop/web-1";

/// What the agent is given on a node.
fn capabilities() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base/daemonset.yaml");
    let documents = parse(&fs::read(path).expect("readable"), Format::Yaml).expect("YAML");
    let context = &documents[0]["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    let added = context["capabilities"]["add"].as_array().expect("a list");
    added.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// Its number, as setpriv knows it whatever the names are that it was built with.
fn number(capability: &str) -> u8 {
    match capability {
        "NET_ADMIN" => 12,
        "PERFMON" => 38,
        "BPF" => 39,
        other => panic!("{other} is not among those that this test knows"),
    }
}

/// A program in a folder that is the agent with these capabilities and no more.
fn confined(folder: &Path, capabilities: &[String]) -> PathBuf {
    let kept: String = capabilities.iter().map(|capability| format!(",+cap_{}", number(capability))).collect();
    let script = format!(
        "#!/bin/sh\nexec setpriv --bounding-set=-all{kept} --inh-caps=-all --no-new-privs {:?} \"$@\"\n",
        env!("CARGO_BIN_EXE_policy-agent")
    );
    let path = folder.join("policy-agent");
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("changed");
    path
}

/// Behind a bridge the agent has to ask for neighbours, behind routes it does not.
fn enforces(name: &str, wiring: Wiring) {
    let folder = tempfile::tempdir().expect("a directory");
    let lab = three_clusters(name, wiring).build().expect("the lab comes up");
    let options = AgentOptions::new(confined(folder.path(), &capabilities()));
    let agents = lab.start_agents(&options).expect("the agents start");
    let mut enforced = Enforced { agents, lab };
    enforced.write("cluster-a", "web.yaml", ADMIT_C);
    enforced.becomes_simulated(START);
    // One that takes over what is pinned.
    for agent in &mut enforced.agents {
        agent.restart().expect("it starts again");
    }
    enforced.delete("cluster-a", "web.yaml");
    enforced.becomes_simulated(START);
    let bits: u64 = capabilities().iter().map(|capability| 1 << number(capability)).sum();
    for agent in &mut enforced.agents {
        let status = format!("/proc/{}/status", agent.pid().expect("it runs"));
        let status = fs::read_to_string(status).expect("readable");
        assert!(status.contains(&format!("CapEff:\t{bits:016x}\n")), "{status}");
        agent.stop(START).expect("it ends");
        let mut uninstall = agent.netns().command("setpriv");
        uninstall.args(["--bounding-set=-all", "--inh-caps=-all", env!("CARGO_BIN_EXE_policy-agent"), "uninstall"]);
        let output = uninstall.arg("--bpffs").arg(agent.bpffs()).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!agent.bpffs().join("crosswall").exists(), "no pin is left");
    }
}

#[test]
fn the_capabilities_of_the_daemonset_suffice_behind_routes_and_none_is_needed_to_uninstall() {
    enforces("few-ptp", Wiring::Ptp);
}

#[test]
fn the_capabilities_of_the_daemonset_suffice_behind_bridges_and_none_is_needed_to_uninstall() {
    enforces("few-bridge", Wiring::Bridge);
}

#[test]
fn without_one_of_them_an_agent_says_so_and_changes_nothing() {
    let lab = Lab::builder("fewer")
        .cluster(ClusterSpec::new("cluster-a").node(NodeSpec::new("a1").pod(web("shop/web-1")).pod(web("shop/web-2"))));
    let lab = lab.build().expect("the lab comes up");
    let said = [
        ("BPF", "not permitted to make table"),
        ("NET_ADMIN", "not permitted to load program from_pod"),
        ("PERFMON", "the kernel's verifier refuses program from_pod"),
    ];
    let mut names = capabilities();
    names.sort();
    assert_eq!(names, said.map(|(name, _)| name));
    for (missing, said) in said {
        let folder = tempfile::tempdir().expect("a directory");
        let rest: Vec<String> = names.iter().filter(|name| *name != missing).cloned().collect();
        let options = AgentOptions::new(confined(folder.path(), &rest));
        let mut agent = lab.prepare_agent("cluster-a/a1", options).expect("prepared");
        let refused = agent.start().expect_err("it cannot go on").to_string();
        assert!(refused.contains(said), "without {missing}: {refused}");
        assert!(!agent.bpffs().join("crosswall").exists(), "without {missing}: something was left");
    }
    let probe = Probe::udp("cluster-a/shop/web-2", WEB, 53);
    let settled = lab.settle(&[probe], |_| true, SOON).expect("probes can be sent");
    assert!(settled.is_ok(), "traffic is as it was");
}
