//! An agent of a cluster whose neighbour has a real API server.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use ipnet::IpNet;
use policy_agent::api::types::{Cluster, Phase, Status, SyncState};
use policy_lab::control_plane::{Assets, ControlPlane, ControlPlaneOptions};
use policy_lab::{Agent, AgentOptions, ClusterSpec, Lab, MemberSource, NodeSpec, PodSpec};
use serde::de::DeserializeOwned;

/// The node whose agent is measured, and the pod that policies are about.
pub const NODE: &str = "cluster-a/a1";
pub const WEB: &str = "cluster-a/shop/web-1";
/// Where traffic of the other cluster begins.
pub const THERE: &str = "cluster-b/b1";

/// The first of a million addresses of the other cluster that the lab gives to nobody.
pub const MANY: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);

/// How long an agent, or a list, may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two clusters. The local one is a directory, so that nothing but its neighbour is heard of; that one has an API server.
/// What is first here ends first.
pub struct Site {
    /// The API server of the neighbour.
    pub there: ControlPlane,
    pub lab: Lab,
}

impl Site {
    /// Without an agent; these are the local cluster's policies.
    pub fn build(name: &str, policies: &[&str]) -> Result<Self> {
        policy_lab::remove_labs_on_signals().context("prepare for signals")?;
        let assets = Assets::from_env().map_err(|missing| anyhow!(missing))?;
        let cluster = |id: &str, node: &str| {
            let node = NodeSpec::new(node).pod(PodSpec::new("shop/web-1"));
            ClusterSpec::new(id).node(node)
        };
        let many = IpNet::new(MANY.into(), 12)?;
        let there = cluster("cluster-b", "b1").pod_cidrs(["10.2.0.0/16".parse()?, many, "fd00:2::/48".parse()?]);
        let builder = Lab::builder(name).cluster(cluster("cluster-a", "a1")).cluster(there);
        let mut lab = builder.build().context("build two clusters")?;
        lab.manifests().write("cluster-a", "policies.yaml", &policies.join("\n---\n"))?;
        let there = lab.start_control_plane("cluster-b", &ControlPlaneOptions::new(assets))?;
        lab.publish(&there)?;
        lab.set_source("cluster-b", MemberSource::Kubeconfig(there.admin_kubeconfig().to_owned()))?;
        Ok(Self { there, lab })
    }

    /// An agent that enforces and knows so many pods of the neighbour.
    pub fn start_agent(&self, pods: usize) -> Result<Agent> {
        let mut agent = self.lab.start_agent(NODE, AgentOptions::new(env!("CARGO_BIN_EXE_policy-agent")))?;
        wait_until(&mut agent, |agent| {
            let members: Vec<Cluster> = ask(agent, &["get", "clusters"])?;
            let there = members.iter().find(|member| member.id == "cluster-b").context("cluster-b is no member")?;
            let status: Status = ask(agent, &["status"])?;
            let knows_all = there.state == SyncState::Synced && there.pods == pods;
            Ok(knows_all && status.phase == Phase::Enforcing)
        })?;
        Ok(agent)
    }
}

fn wait_until(agent: &mut Agent, is_so: impl Fn(&Agent) -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so(agent)? {
        ensure!(agent.is_running(), "the agent ended:\n{}", agent.log_tail());
        ensure!(begun.elapsed() < PATIENCE, "the agent is not ready after {PATIENCE:?}:\n{}", agent.log_tail());
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn ask<T: DeserializeOwned>(agent: &Agent, arguments: &[&str]) -> Result<T> {
    let mut policyctl = Command::new(env!("CARGO_BIN_EXE_policyctl"));
    policyctl.args(arguments).args(["-o", "json", "--socket"]).arg(agent.socket());
    let output = policyctl.output().context("start policyctl")?;
    ensure!(output.status.success(), "policyctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).with_context(|| format!("read what policyctl {arguments:?} says"))
}

/// A figure of a process's memory, in bytes.
pub fn resident(process: &str, field: &str) -> Result<i64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<i64>().ok());
    Ok(1024 * kib.with_context(|| format!("{path} has no {field}"))?)
}

/// For how long a process has had a core.
pub fn cpu_time(process: u32) -> Result<Duration> {
    // The first field is in nanoseconds (Documentation/scheduler/sched-stats.rst); it is of one thread each.
    let folder = format!("/proc/{process}/task");
    let threads = fs::read_dir(&folder).with_context(|| format!("read {folder}"))?;
    let of_thread = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Ok(Duration::from_nanos(threads.flatten().filter_map(of_thread).sum()))
}
