//! Three clusters with agents, and what their manifests say of every probe.

use std::time::Duration;

use policy_lab::traffic::probe::Probe;
use policy_lab::{
    Agent, AgentOptions, ClusterLabels, ClusterSpec, Lab, LabBuilder, NamespaceSpec, NodeSpec, PeerScope, PodSpec,
    PortProtocol, Wiring,
};

use crate::agents::{all_enforce, becomes, policyctl, simulated};

pub use crate::agents::{SOON, START};

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
        all_enforce(&enforced.agents, START);
        enforced.becomes_simulated(START);
        enforced
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
        let expected = simulated(&self.lab.manifests().cluster_set("cluster-a"), &self.lab.all_probes());
        self.becomes(&self.lab.all_probes(), |probe| expected[probe], within);
    }

    /// Traffic becomes as expected, or the test ends with what is not and what the agents said.
    pub fn becomes(&self, probes: &[Probe], expected: impl Fn(&Probe) -> bool, within: Duration) {
        becomes(&self.lab, &self.agents, probes, expected, within);
    }

    /// One probe over both families becomes allowed, or denied.
    pub fn becomes_allowed(&self, probe: &Probe, allowed: bool, within: Duration) {
        self.becomes(&[probe.clone(), probe.clone().v6()], |_| allowed, within);
    }

    /// What `policyctl` says about an agent, as JSON.
    pub fn policyctl(&self, node: &str, arguments: &[&str]) -> String {
        policyctl(&self.agents, node, arguments)
    }
}

/// The scopes and label modes that a ClusterSet can have.
pub const MODES: [(PeerScope, ClusterLabels); 4] = [
    (PeerScope::Local, ClusterLabels::Implicit),
    (PeerScope::ClusterSet, ClusterLabels::Implicit),
    (PeerScope::Local, ClusterLabels::Explicit),
    (PeerScope::ClusterSet, ClusterLabels::Explicit),
];
