//! The story that the demo tells, on real packets.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use policy_lab::traffic::probe::{Probe, Timing};
use policy_lab::traffic::prober::Flow;
use policy_lab::{
    Agent, AgentOptions, ClusterSpec, Family, Lab, NamespaceSpec, NodeSpec, PodSpec, PortProtocol, Wiring,
};

use crate::{Programs, screen};

const POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: pg, namespace: db}
spec:
  podSelector: {matchLabels: {app: pg}}
  ingress:
  - from:                                   # the api of two clusters, and nobody else
    - namespaceSelector:
        matchExpressions:
        - {key: cluster.clusterset.k8s.io, operator: In, values: [cluster-a, cluster-b]}
      podSelector: {matchLabels: {app: api}}
    ports: [{port: 5432}]
";
const PG: &str = "cluster-b/db/pg-0";
const API: &str = "cluster-a/shop/api-1";
const OTHER: &str = "cluster-c/shop/api-1";
const SOON: Duration = Duration::from_secs(5);

/// Tells it, and leaves nothing behind.
pub fn tell(programs: &Programs) -> Result<()> {
    let begin = Instant::now();
    screen::chapter("Three clusters on one flat pod network");
    let lab = lab()?;
    let built = begin.elapsed();
    screen::done(&format!(
        "{} pods on {} nodes, each a network namespace ({built:.1?})",
        lab.pods().count(),
        lab.nodes().count()
    ));
    let agents = lab.start_agents(&AgentOptions::new(&programs.agent))?;
    for agent in &agents {
        screen::done(&format!("policy-agent runs on {}", agent.node()));
    }
    screen::chapter("Before: no policy, everybody talks to everybody");
    expect(&lab, &lab.all_probes(), |_| true)?;
    screen::matrix(&lab.matrix(Timing::default())?);
    across_clusters(&lab)?;
    a_connection_dies(&lab)?;
    inspect(programs, &lab, &agents)?;
    screen::chapter("The end");
    drop(agents);
    drop(lab);
    screen::done(&format!("everything is removed again; {:.0?} in all", begin.elapsed()));
    Ok(())
}

fn lab() -> Result<Lab> {
    let shop = || NamespaceSpec::new("shop");
    let web = |name: &str| PodSpec::new(name).label("app", "web").named_port("http", PortProtocol::Tcp, 80).udp(53);
    let api = |name: &str| PodSpec::new(name).label("app", "api").tcp(9000);
    let pg = |name: &str| PodSpec::new(name).label("app", "pg").tcp(5432);
    let lab = Lab::builder("demo")
        .wiring(Wiring::Ptp)
        .cluster(
            ClusterSpec::new("cluster-a")
                .namespace(shop())
                .node(NodeSpec::new("a1").pod(web("shop/web-1")).pod(api("shop/api-1")))
                .node(NodeSpec::new("a2").pod(web("shop/web-2"))),
        )
        .cluster(
            ClusterSpec::new("cluster-b")
                .namespace(shop())
                .namespace(NamespaceSpec::new("db"))
                .node(NodeSpec::new("b1").pod(api("shop/api-1")).pod(pg("db/pg-0"))),
        )
        .cluster(ClusterSpec::new("cluster-c").namespace(shop()).node(NodeSpec::new("c1").pod(api("shop/api-1"))))
        .build()?;
    Ok(lab)
}

/// Traffic becomes as expected.
pub fn expect(lab: &Lab, probes: &[Probe], expected: impl Fn(&Probe) -> bool) -> Result<()> {
    match lab.settle(probes, expected, SOON)? {
        Ok(_) => Ok(()),
        Err(unsettled) => bail!("traffic is not as expected: {unsettled}"),
    }
}

fn admitted(probe: &Probe) -> bool {
    let admits = |from: &str| from == API || from == "cluster-b/shop/api-1";
    probe.to != PG || (admits(&probe.from) && probe.port == Some(5432))
}

fn across_clusters(lab: &Lab) -> Result<()> {
    screen::chapter("A policy of cluster-b admits pods of cluster-a");
    screen::quote(POLICY);
    // A datagram every millisecond, from a pod that the policy does not admit.
    let prober = lab.probe_continuously(&[Flow::fresh(OTHER, PG, 53)], Duration::from_millis(1))?;
    std::thread::sleep(Duration::from_millis(100));
    let written = prober.elapsed();
    lab.manifests().write("cluster-b", "pg.yaml", POLICY)?;
    expect(lab, &lab.all_probes(), admitted)?;
    let last = prober.stop().pop().and_then(|report| report.last_arrival).context("datagrams passed before")?;
    screen::done(&format!(
        "written to cluster-b's directory: the last datagram that it forbids passed {:.0?} later",
        last.saturating_sub(written)
    ));
    screen::matrix(&lab.matrix(Timing::default())?);
    Ok(())
}

fn a_connection_dies(lab: &Lab) -> Result<()> {
    screen::chapter("An established connection lives as long as its permission");
    let mut connection = lab.establish_tcp(API, PG, 5432, Family::V6, SOON)?;
    screen::done(&format!("{API} has a TCP connection to {PG} over IPv6, and bytes are echoed"));
    let narrower = POLICY.replace("[cluster-a, cluster-b]", "[cluster-b]");
    lab.manifests().write("cluster-b", "pg.yaml", &narrower)?;
    expect(lab, &[Probe::tcp(API, PG, 5432).v6()], |_| false)?;
    if connection.exchange(Duration::from_millis(700)).is_allowed() {
        bail!("the connection outlived its permission");
    }
    screen::done("cluster-a is taken out of the policy: the connection carries nothing any more");
    lab.manifests().write("cluster-b", "pg.yaml", POLICY)?;
    expect(lab, &[Probe::tcp(API, PG, 5432).v6()], |_| true)?;
    screen::done("and put back: a new connection passes");
    Ok(())
}

fn inspect(programs: &Programs, lab: &Lab, agents: &[Agent]) -> Result<()> {
    let agent = agents.iter().find(|agent| agent.node() == "cluster-b/b1").context("cluster-b/b1 has an agent")?;
    screen::chapter("What the kernel holds on cluster-b/b1");
    let pin = lab.bpffs("cluster-b/b1")?.join("crosswall/ident_v4");
    screen::command("bpftool map dump pinned BPFFS/crosswall/ident_v4");
    match Command::new("bpftool").args(["map", "dump", "pinned"]).arg(&pin).output() {
        Ok(dump) => {
            let text = String::from_utf8_lossy(&dump.stdout).into_owned();
            let excerpt: Vec<&str> = text.lines().take(18).collect();
            screen::output(&excerpt.join("\n"));
        }
        Err(_) => screen::warning("bpftool is not installed: `cargo xtask setup` does it on Debian and Ubuntu"),
    }
    screen::chapter("Why");
    policyctl(programs, agent, &["explain", API, PG, "tcp/5432"])?;
    policyctl(programs, agent, &["explain", OTHER, PG, "tcp/5432"])?;
    policyctl(programs, agent, &["get", "endpoints"])
}

/// Asks an agent, and shows what was asked and answered.
pub fn policyctl(programs: &Programs, agent: &Agent, arguments: &[&str]) -> Result<()> {
    screen::command(&format!("policyctl {}", arguments.join(" ")));
    let output = Command::new(&programs.policyctl).args(arguments).arg("--socket").arg(agent.socket()).output()?;
    screen::output(&String::from_utf8_lossy(&output.stdout));
    screen::output(&String::from_utf8_lossy(&output.stderr));
    Ok(())
}
