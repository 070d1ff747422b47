//! What tests with real agents share: waiting for traffic, asking agents, and what manifests say of every probe.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use policy_agent::cluster_set::ClusterSet;
use policy_agent::simulate::{Input, Output, Probes, Summary, run};
use policy_agent::sources::files;
use policy_lab::traffic::matrix::Unsettled;
use policy_lab::traffic::probe::Probe;
use policy_lab::{Agent, Lab};

/// How long a change may take to be seen in traffic.
pub const SOON: Duration = Duration::from_secs(1);
/// How long the agents may take to begin.
pub const START: Duration = Duration::from_secs(30);

/// Returns once every agent enforces: before that all traffic passes.
pub fn all_enforce(agents: &[Agent], within: Duration) {
    let start = Instant::now();
    for agent in agents {
        while !policyctl(agents, agent.node(), &["status", "-o", "json"]).contains(r#""phase": "enforcing""#) {
            assert!(start.elapsed() < within, "the agent on {} does not begin", agent.node());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Traffic becomes as expected, or the test ends with what is not and what the agents said.
pub fn becomes(lab: &Lab, agents: &[Agent], probes: &[Probe], expected: impl Fn(&Probe) -> bool, within: Duration) {
    let settled = lab.settle(probes, expected, within).expect("probes can be sent");
    if let Err(Unsettled { mismatches, within }) = settled {
        let wrong: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
        let logs: Vec<String> = agents.iter().map(|agent| format!("{}:\n{}", agent.node(), agent.log_tail())).collect();
        panic!("not as expected after {within:?}:\n{}\n\n{}", wrong.join("\n"), logs.join("\n"));
    }
}

/// What `policyctl` says about an agent.
pub fn policyctl(agents: &[Agent], node: &str, arguments: &[&str]) -> String {
    let agent = agents.iter().find(|agent| agent.node() == node).expect("an agent of this node");
    let output = Command::new(env!("CARGO_BIN_EXE_policyctl"))
        .args(arguments)
        .arg("--socket")
        .arg(agent.socket())
        .output()
        .expect("policyctl runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "policyctl {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// What a ClusterSet file of directories says of probes between pods, by the tables and by the oracle.
pub fn simulated(cluster_set: &Path, probes: &[Probe]) -> BTreeMap<Probe, bool> {
    let cluster_set = ClusterSet::load(cluster_set).expect("the lab's ClusterSet can be read").cluster_set;
    let batch = files::load(&cluster_set).expect("and its directories");
    let local = cluster_set.local.clone().expect("it names the local cluster");
    let input = Input { config: cluster_set.config(&local), issues: batch.issues().to_vec(), events: batch.events };
    let lines: Vec<String> = probes.iter().map(|probe| serde_json::to_string(probe).expect("JSON")).collect();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), lines.join("\n")).expect("written");
    let (mut out, mut complaints) = (Vec::new(), Vec::new());
    let asked = Probes::File(file.path().to_owned());
    let summary = run(&input, &asked, Output::Json, true, &mut out, &mut complaints).expect("simulated");
    let out = String::from_utf8(out).expect("UTF-8");
    assert_eq!(summary, Summary::default(), "{}\n{out}", String::from_utf8_lossy(&complaints));
    let verdicts = out.lines().map(is_allowed);
    probes.iter().cloned().zip(verdicts).collect()
}

fn is_allowed(line: &str) -> bool {
    let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
    value["verdict"] == "allow"
}
