//! Two clusters with an API server each, and an agent on each node that may read no more than it needs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use policy_agent::api::types::{Cluster, SyncState};
use policy_lab::control_plane::{Assets, ControlPlane, ControlPlaneOptions};
use policy_lab::traffic::probe::Probe;
use policy_lab::traffic::prober::{Flow, Prober};
use policy_lab::{
    Agent, AgentOptions, ClusterSpec, Lab, MemberSource, NamespaceSpec, NodeSpec, PodSpec, PortProtocol, can_run,
};
use serde_json::{Value, json};

use crate::agents::{all_enforce, becomes, policyctl, simulated};

pub use crate::agents::{SOON, START};

/// The node whose agent enforces what these tests look at.
pub const NODE: &str = "cluster-a/a1";
/// The pod that policies are about.
pub const WEB: &str = "cluster-a/shop/web-1";
/// A pod of the same node.
pub const NEIGHBOUR: &str = "cluster-a/shop/api-1";
/// A pod of the other cluster that [`ADMIT_API`] admits.
pub const API: &str = "cluster-b/shop/api-1";
/// A pod of the other cluster that it does not admit.
pub const PG: &str = "cluster-b/db/pg-0";
/// How long a follower may wait before it tries again, and some more for a busy machine.
pub const RETRY: Duration = Duration::from_secs(45);
/// How long it may take until something that is wrong is told: what may be over in a second is not.
pub const TOLD: Duration = Duration::from_secs(5);

/// Admits the api of cluster-b to the web pods of cluster-a, and nobody else.
pub const ADMIT_API: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {team: shop, cluster.clusterset.k8s.io: cluster-b}}
      podSelector: {matchLabels: {app: api}}
";

/// Who reads what: agents of the own cluster, and those of others.
const ROLES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: agent}
rules:
- {apiGroups: [""], resources: [pods, namespaces, nodes, services], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
- {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules:
- {apiGroups: [""], resources: [pods, namespaces], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: agent}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: agent}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: agent}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: reader}]
"#;

/// One lab at a time: two API servers keep a machine busy enough.
static TURN: Mutex<()> = Mutex::new(());

/// A lab with a control plane for each cluster. What is first here ends first.
pub struct Clusters {
    pub agents: Vec<Agent>,
    pub a: ControlPlane,
    pub b: ControlPlane,
    pub lab: Lab,
    _turn: MutexGuard<'static, ()>,
}

/// A pod that can be asked over TCP/80 and UDP/53.
pub fn pod(name: &str, app: &str) -> PodSpec {
    PodSpec::new(name).label("app", app).named_port("http", PortProtocol::Tcp, 80).udp(53)
}

impl Clusters {
    /// The lab and its API servers, which have what the lab has, without agents. `None`, and a line that says why,
    /// where that cannot be.
    pub fn prepare(test: &str) -> Option<Self> {
        let assets = can_run().and_then(|()| Assets::from_env());
        let assets = assets.inspect_err(|missing| eprintln!("skipped {test}: {missing}")).ok()?;
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let shop = || NamespaceSpec::new("shop").label("team", "shop");
        let here = NodeSpec::new("a1").pod(pod("shop/web-1", "web")).pod(pod("shop/api-1", "api"));
        let there = NodeSpec::new("b1").pod(pod("shop/web-1", "web")).pod(pod("shop/api-1", "api"));
        let there = there.pod(pod("db/pg-0", "pg"));
        let mut lab = Lab::builder("api")
            .cluster(ClusterSpec::new("cluster-a").namespace(shop()).node(here))
            .cluster(ClusterSpec::new("cluster-b").namespace(shop()).node(there))
            .build()
            .expect("the lab comes up");
        let control_planes = lab.start_control_planes(&ControlPlaneOptions::new(assets)).expect("they start");
        for control_plane in &control_planes {
            control_plane.apply(ROLES).expect("applied");
            lab.publish(control_plane).expect("published");
            let user = |name| control_plane.kubeconfig_for(name, None).expect("a kubeconfig");
            let source = MemberSource::Kubeconfigs { own: user("agent"), others: user("reader") };
            lab.set_source(control_plane.cluster(), source).expect("written");
        }
        let [a, b] = <[_; 2]>::try_from(control_planes).expect("one for each cluster");
        Some(Self { agents: Vec::new(), a, b, lab, _turn: turn })
    }

    /// The same with an agent on each node, which enforce.
    pub fn start(test: &str, arguments: &[&str]) -> Option<Self> {
        let mut clusters = Self::prepare(test)?;
        clusters.agents = clusters.lab.start_agents(&options(arguments)).expect("the agents start");
        all_enforce(&clusters.agents, START);
        Some(clusters)
    }

    /// The same with [`ADMIT_API`] in force.
    pub fn admitting(test: &str, arguments: &[&str]) -> Option<Self> {
        let clusters = Self::start(test, arguments)?;
        clusters.a.apply(ADMIT_API).expect("applied");
        clusters.becomes_allowed(PG, false, START);
        clusters.becomes_allowed(API, true, START);
        Some(clusters)
    }

    /// The control plane of a cluster.
    pub fn of(&self, cluster: &str) -> &ControlPlane {
        if cluster == self.a.cluster() { &self.a } else { &self.b }
    }

    /// The agent of [`NODE`].
    pub fn agent(&mut self) -> &mut Agent {
        self.agents.iter_mut().find(|agent| agent.node() == NODE).expect("its agent")
    }

    /// Makes a pod of the lab (again) an object of its cluster's API server.
    pub fn publish(&self, pod: &str) {
        let [cluster, namespace, name] = <[_; 3]>::try_from(pod.split('/').collect::<Vec<_>>()).expect("a pod's name");
        let file = self.lab.manifests().directory(cluster).join(format!("pods/{namespace}.{name}.json"));
        let object = std::fs::read_to_string(file).expect("the lab has its manifest");
        self.of(cluster).apply(&object).expect("applied");
        self.of(cluster).apply_status(&object).expect("applied");
    }

    /// New connections from a pod to [`WEB`] become allowed, or denied, over both families.
    pub fn becomes_allowed(&self, from: &str, allowed: bool, within: Duration) {
        let probe = Probe::tcp(from, WEB, 80);
        self.becomes(&[probe.clone(), probe.v6()], |_| allowed, within);
    }

    /// Traffic becomes as expected, or the test ends with what is not.
    pub fn becomes(&self, probes: &[Probe], expected: impl Fn(&Probe) -> bool, within: Duration) {
        becomes(&self.lab, &self.agents, probes, expected, within);
    }

    /// Every pod to every other becomes what the oracle says of the lab's manifests, which must be what the API servers
    /// have. Gives how many probes were allowed and denied.
    pub fn becomes_simulated(&self, within: Duration) -> (usize, usize) {
        let probes = self.lab.all_probes();
        let expected = simulated(&self.directories(), &probes);
        self.becomes(&probes, |probe| expected[probe], within);
        let allowed = expected.values().filter(|allowed| **allowed).count();
        (allowed, probes.len() - allowed)
    }

    /// The lab's ClusterSet with directories in place of API servers.
    fn directories(&self) -> std::path::PathBuf {
        let file = std::fs::read_to_string(self.lab.manifests().cluster_set("cluster-a")).expect("written by the lab");
        let mut cluster_set: Value = serde_json::from_str(&file).expect("the lab writes JSON");
        for member in cluster_set["spec"]["members"].as_array_mut().expect("members") {
            let directory = self.lab.manifests().directory(member["id"].as_str().expect("an id"));
            member["source"] = json!({"directory": {"path": directory}});
        }
        let path = self.lab.directory().join("directories.yaml");
        std::fs::write(&path, cluster_set.to_string()).expect("written");
        path
    }

    /// What the agent of [`NODE`] says of a member.
    pub fn member(&self, cluster: &str) -> Cluster {
        let answer = policyctl(&self.agents, NODE, &["get", "clusters", "-o", "json"]);
        let members: Vec<Cluster> = serde_json::from_str(&answer).expect("JSON");
        members.into_iter().find(|member| member.id == cluster).expect("a member")
    }

    /// Waits until a member is in this state.
    pub fn becomes_state(&self, cluster: &str, state: SyncState, within: Duration) {
        self.waits_until(within, || {
            let member = self.member(cluster);
            if member.state == state { Ok(()) } else { Err(format!("{member:?}")) }
        });
    }

    /// Waits until an issue of the agent of [`NODE`] has all these words.
    pub fn shows_issue(&self, words: &[&str], within: Duration) {
        self.waits_until(within, || {
            let issues = self.issues();
            let is_told = issues.iter().any(|issue| words.iter().all(|word| issue.contains(word)));
            if is_told { Ok(()) } else { Err(format!("no issue with {words:?}: {issues:#?}")) }
        });
    }

    /// The issues of the agent of [`NODE`], each as JSON.
    pub fn issues(&self) -> Vec<String> {
        let answer = policyctl(&self.agents, NODE, &["issues", "-o", "json"]);
        let issues: Vec<Value> = serde_json::from_str(&answer).expect("JSON");
        issues.iter().map(Value::to_string).collect()
    }

    /// Waits until the log of the agent of [`NODE`] has these words.
    pub fn says(&self, words: &str, within: Duration) {
        let agent = self.agents.iter().find(|agent| agent.node() == NODE).expect("its agent");
        self.waits_until(within, || {
            if agent.log().contains(words) { Ok(()) } else { Err(format!("it does not say that {words}")) }
        });
    }

    /// Waits until it is so; the error is what is instead.
    pub fn waits_until(&self, within: Duration, is_so: impl Fn() -> Result<(), String>) {
        let begun = Instant::now();
        while let Err(instead) = is_so() {
            let logs: Vec<String> = self.agents.iter().map(Agent::log_tail).collect();
            assert!(begun.elapsed() < within, "not within {within:?}: {instead}\n{}", logs.join("\n"));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends all the time what [`ADMIT_API`] admits and what it does not.
    pub fn probe_continuously(&self) -> Prober {
        let flows = [
            Flow::steady(API, WEB, 53),
            Flow::fresh(API, WEB, 53).v6(),
            Flow::fresh(PG, WEB, 53),
            Flow::steady(PG, WEB, 53).v6(),
            Flow::fresh(NEIGHBOUR, WEB, 53).v6(),
        ];
        self.lab.probe_continuously(&flows, Duration::from_millis(5)).expect("probing")
    }
}

/// How the agents are started.
pub fn options(arguments: &[&str]) -> AgentOptions {
    let options = AgentOptions::new(env!("CARGO_BIN_EXE_policy-agent")).arg("--log").arg("debug");
    arguments.iter().fold(options, AgentOptions::arg)
}

/// Nothing forbidden has passed and nothing allowed was cut; gives how many of each were sent.
pub fn kept_its_promise(prober: Prober) -> (u64, u64) {
    let mut sent = (0, 0);
    for report in prober.stop() {
        assert!(report.sent > 100, "{report:?}");
        if report.flow.from == API {
            assert_eq!(report.sent, report.echoed, "allowed packets were cut: {report:?}");
            sent.0 += report.sent;
        } else {
            assert_eq!(report.arrived, 0, "forbidden packets passed: {report:?}");
            sent.1 += report.sent;
        }
    }
    sent
}
