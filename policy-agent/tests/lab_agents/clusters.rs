//! Three clusters with agents, and what their manifests say of every probe.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use policy_agent::cluster_set::ClusterSet;
use policy_agent::simulate::{Input, Output, Probes, Summary, run};
use policy_agent::sources::files;
use policy_lab::traffic::matrix::Unsettled;
use policy_lab::traffic::probe::Probe;
use policy_lab::{
    Agent, AgentOptions, ClusterLabels, ClusterSpec, Lab, LabBuilder, NamespaceSpec, NodeSpec, PeerScope, PodSpec,
    PortProtocol, Wiring,
};

/// How long a change may take to be seen in traffic.
pub const SOON: Duration = Duration::from_secs(1);
/// How long the agents may take to begin.
pub const START: Duration = Duration::from_secs(30);

/// A web pod, with TCP/80 (`http`) and UDP/53.
pub fn web(name: &str) -> PodSpec {
    PodSpec::new(name).label("app", "web").named_port("http", PortProtocol::Tcp, 80).udp(53)
}

/// Clusters a (two nodes), b and c; the namespace `shop` in all, `db` in b.
pub fn three_clusters(name: &str, wiring: Wiring) -> LabBuilder {
    let shop = || NamespaceSpec::new("shop").label("team", "shop");
    let api = |name: &str| PodSpec::new(name).label("app", "api").tcp(9000);
    Lab::builder(name)
        .wiring(wiring)
        .cluster(
            ClusterSpec::new("cluster-a")
                .namespace(shop())
                .node(NodeSpec::new("a1").pod(web("shop/web-1")).pod(api("shop/api-1")))
                .node(NodeSpec::new("a2").pod(web("shop/web-2"))),
        )
        .cluster(
            ClusterSpec::new("cluster-b")
                .namespace(shop())
                .namespace(NamespaceSpec::new("db").label("team", "data"))
                .node(
                    NodeSpec::new("b1")
                        .pod(web("shop/web-1"))
                        .pod(api("shop/api-1"))
                        .pod(PodSpec::new("db/pg-0").label("app", "pg").tcp(5432)),
                ),
        )
        .cluster(ClusterSpec::new("cluster-c").namespace(shop()).node(NodeSpec::new("c1").pod(web("shop/web-1"))))
}

/// A lab with an agent on every node.
pub struct Enforced {
    /// Before the lab, so that the agents end first.
    pub agents: Vec<Agent>,
    /// The lab.
    pub lab: Lab,
}

impl Enforced {
    /// Builds the lab and starts the agents; returns once traffic is as the manifests say.
    pub fn start(builder: LabBuilder) -> Self {
        let lab = builder.build().expect("the lab comes up");
        let options = AgentOptions::new(env!("CARGO_BIN_EXE_policy-agent")).arg("--log").arg("debug");
        let agents = lab.start_agents(&options).expect("the agents start");
        let enforced = Self { agents, lab };
        enforced.begin();
        enforced.becomes_simulated(START);
        enforced
    }

    /// Returns once every agent enforces: before that all traffic passes.
    fn begin(&self) {
        let start = Instant::now();
        for agent in &self.agents {
            while !self.policyctl(agent.node(), &["status", "-o", "json"]).contains(r#""phase": "enforcing""#) {
                assert!(start.elapsed() < START, "the agent on {} does not begin", agent.node());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Writes a policy to a cluster's directory.
    pub fn write(&self, cluster: &str, file: &str, yaml: &str) {
        self.lab.manifests().write(cluster, file, yaml).expect("written");
    }

    /// Removes it.
    pub fn delete(&self, cluster: &str, file: &str) {
        assert!(self.lab.manifests().delete(cluster, file).expect("deleted"), "{file} was there");
    }

    /// Traffic becomes just what the oracle and the compiled tables say of the manifests, for every probe.
    pub fn becomes_simulated(&self, within: Duration) {
        let expected = simulated(&self.lab, &self.lab.all_probes());
        self.becomes(&self.lab.all_probes(), |probe| expected[probe], within);
    }

    /// Traffic becomes as expected, or the test ends with what is not and what the agents said.
    pub fn becomes(&self, probes: &[Probe], expected: impl Fn(&Probe) -> bool, within: Duration) {
        let settled = self.lab.settle(probes, expected, within).expect("probes can be sent");
        if let Err(Unsettled { mismatches, within }) = settled {
            let wrong: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
            let logs: Vec<String> =
                self.agents.iter().map(|agent| format!("{}:\n{}", agent.node(), agent.log_tail())).collect();
            panic!("not as expected after {within:?}:\n{}\n\n{}", wrong.join("\n"), logs.join("\n"));
        }
    }

    /// One probe over both families becomes allowed, or denied.
    pub fn becomes_allowed(&self, probe: &Probe, allowed: bool, within: Duration) {
        self.becomes(&[probe.clone(), probe.clone().v6()], |_| allowed, within);
    }

    /// What `policyctl` says about an agent, as JSON.
    pub fn policyctl(&self, node: &str, arguments: &[&str]) -> String {
        let agent = self.agents.iter().find(|agent| agent.node() == node).expect("an agent of this node");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_policyctl"))
            .args(arguments)
            .arg("--socket")
            .arg(agent.socket())
            .output()
            .expect("policyctl runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "policyctl {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

/// What the manifests of a lab say of probes between pods, by the tables and by the oracle.
pub fn simulated(lab: &Lab, probes: &[Probe]) -> BTreeMap<Probe, bool> {
    let path = lab.manifests().cluster_set("cluster-a");
    let cluster_set = ClusterSet::load(&path).expect("the lab's ClusterSet can be read").cluster_set;
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

/// The scopes and label modes that a ClusterSet can have.
pub const MODES: [(PeerScope, ClusterLabels); 4] = [
    (PeerScope::Local, ClusterLabels::Implicit),
    (PeerScope::ClusterSet, ClusterLabels::Implicit),
    (PeerScope::Local, ClusterLabels::Explicit),
    (PeerScope::ClusterSet, ClusterLabels::Explicit),
];
