//! The story of two real API servers: what `kubectl` applies is what packets meet.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use policy_lab::control_plane::{Assets, ControlPlane, ControlPlaneOptions};
use policy_lab::traffic::probe::{Probe, Timing};
use policy_lab::traffic::prober::Flow;
use policy_lab::{Agent, AgentOptions, ClusterSpec, Lab, MemberSource, NamespaceSpec, NodeSpec, PodSpec, Wiring};

use crate::story::{expect, policyctl};
use crate::{Programs, screen};

const POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: pg, namespace: db}
spec:
  podSelector: {matchLabels: {app: pg}}
  ingress:
  - from:                                   # the api of cluster-a, and nobody else
    - namespaceSelector: {matchLabels: {cluster.clusterset.k8s.io: cluster-a}}
      podSelector: {matchLabels: {app: api}}
    ports: [{port: 5432}]
";
const PG: &str = "cluster-b/db/pg-0";
const API: &str = "cluster-a/shop/api-1";
const WEB: &str = "cluster-a/shop/web-1";
/// Whom the agents' accounts may ask for what: the manifests that a real cluster gets.
const ROLES: [&str; 2] = ["base/namespace.yaml", "base/rbac.yaml"];

/// Tells it, and leaves nothing behind.
pub fn tell(programs: &Programs, assets: Assets) -> Result<()> {
    let begin = Instant::now();
    screen::chapter("Two clusters, each with a kube-apiserver of its own");
    let mut lab = lab()?;
    let control_planes = lab.start_control_planes(&ControlPlaneOptions::new(assets))?;
    for control_plane in &control_planes {
        lab.publish(control_plane)?;
        let source = MemberSource::Kubeconfig(account(control_plane)?);
        lab.set_source(control_plane.cluster(), source)?;
        screen::done(&format!("{}: kube-apiserver at {}", control_plane.cluster(), control_plane.address()));
    }
    let agents = lab.start_agents(&AgentOptions::new(&programs.agent))?;
    for agent in &agents {
        screen::done(&format!("policy-agent runs on {}, with the rights of deploy/base", agent.node()));
    }
    let agent = agents.iter().find(|agent| agent.node() == "cluster-b/b1").context("cluster-b/b1 has an agent")?;
    screen::chapter("Before: no policy, everybody talks to everybody");
    expect(&lab, &lab.all_probes(), |_| true)?;
    screen::matrix(&lab.matrix(Timing::default())?);
    let b = control_planes.iter().find(|it| it.cluster() == "cluster-b").context("cluster-b has a control plane")?;
    let a = control_planes.iter().find(|it| it.cluster() == "cluster-a").context("cluster-a has a control plane")?;
    a_policy_is_applied(&lab, b)?;
    policyctl(programs, agent, &["get", "clusters"])?;
    a_pod_is_relabelled(&lab, a)?;
    without_api_servers(programs, &lab, &control_planes, agent)?;
    screen::chapter("The end");
    drop(agents);
    drop(control_planes);
    drop(lab);
    screen::done(&format!("everything is removed again; {:.0?} in all", begin.elapsed()));
    Ok(())
}

fn lab() -> Result<Lab> {
    let shop = || NamespaceSpec::new("shop");
    let web = |name: &str| PodSpec::new(name).label("app", "web").tcp(80).udp(53);
    let api = |name: &str| PodSpec::new(name).label("app", "api").tcp(9000);
    let pg = |name: &str| PodSpec::new(name).label("app", "pg").tcp(5432);
    let a = ClusterSpec::new("cluster-a")
        .namespace(shop())
        .node(NodeSpec::new("a1").pod(web("shop/web-1")).pod(api("shop/api-1")));
    let b = ClusterSpec::new("cluster-b")
        .namespace(shop())
        .namespace(NamespaceSpec::new("db"))
        .node(NodeSpec::new("b1").pod(api("shop/api-1")).pod(pg("db/pg-0")));
    Ok(Lab::builder("kube").wiring(Wiring::Ptp).cluster(a).cluster(b).build()?)
}

/// A kubeconfig of the account that `deploy/base` gives agents.
fn account(control_plane: &ControlPlane) -> Result<PathBuf> {
    for role in ROLES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(role);
        let objects = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        control_plane.apply(&objects)?;
    }
    let token = control_plane.token("crosswall-system", "crosswall-agent")?;
    Ok(control_plane.kubeconfig_with_token("crosswall-agent", &token)?)
}

fn a_policy_is_applied(lab: &Lab, b: &ControlPlane) -> Result<()> {
    screen::chapter("A policy of cluster-b admits pods of cluster-a");
    screen::command("kubectl --context cluster-b apply -f - <<EOF");
    screen::quote(POLICY);
    // A datagram every millisecond, from a pod that the policy does not admit.
    let prober = lab.probe_continuously(&[Flow::fresh(WEB, PG, 53)], Duration::from_millis(1))?;
    std::thread::sleep(Duration::from_millis(100));
    screen::output(&b.apply(POLICY)?);
    let applied = prober.elapsed();
    expect(lab, &lab.all_probes(), |probe| admitted(probe, API))?;
    let last = prober.stop().pop().and_then(|report| report.last_arrival).context("datagrams passed before")?;
    let passed = match last.checked_sub(applied) {
        Some(late) => format!("the last datagram that it forbids passed {late:.0?} after kubectl was back"),
        None => "no datagram that it forbids passed after kubectl was back".to_owned(),
    };
    screen::done(&passed);
    screen::matrix(&lab.matrix(Timing::default())?);
    Ok(())
}

/// Whether a connection is allowed while this pod is the api of cluster-a.
fn admitted(probe: &Probe, api: &str) -> bool {
    probe.to != PG || (probe.from == api && probe.port == Some(5432)) || probe.from == PG
}

fn a_pod_is_relabelled(lab: &Lab, a: &ControlPlane) -> Result<()> {
    screen::chapter("A label in one cluster, a verdict in the other");
    for (pod, label, admitted_pod) in [("web-1", "app=api", WEB), ("web-1", "app=web", API)] {
        screen::command(&format!("kubectl --context cluster-a -n shop label pod {pod} {label} --overwrite"));
        screen::output(&a.kubectl(&["-n", "shop", "label", "pod", pod, label, "--overwrite"])?);
        let is_admitted = admitted_pod == WEB;
        expect(lab, &[Probe::tcp(WEB, PG, 5432), Probe::tcp(WEB, PG, 5432).v6()], |_| is_admitted)?;
        screen::done(&format!("{WEB} {} {PG}", if is_admitted { "reaches" } else { "no longer reaches" }));
    }
    Ok(())
}

fn without_api_servers(programs: &Programs, lab: &Lab, all: &[ControlPlane], agent: &Agent) -> Result<()> {
    screen::chapter("API servers that say nothing");
    all.iter().try_for_each(ControlPlane::pause)?;
    screen::done("both are stopped (SIGSTOP): connections stay, nothing answers");
    expect(lab, &lab.all_probes(), |probe| admitted(probe, API))?;
    screen::done("every verdict is as before");
    all.iter().try_for_each(ControlPlane::resume)?;
    policyctl(programs, agent, &["explain", API, PG, "tcp/5432"])?;
    policyctl(programs, agent, &["explain", WEB, PG, "tcp/5432"])
}
