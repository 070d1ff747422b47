//! A road with Crosswall on it: the programs, and tables filled from a ClusterSet by the plans of a node.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use policy_agent::datapath::{Capacities, Datapath};
use policy_core::compile::Subjects;
use policy_core::index::PodEntry;
use policy_core::model::Event;
use policy_core::node::{Attachment, Node};
use policy_core::testing::build::PodBuilder;
use policy_core::testing::{cluster_set, namespace, pod, pods_in, policy, rule};
use policy_lab::{BpfFs, Family};

use super::rivals::FIRST_PEER;
use super::road::Road;
use super::traffic::{FIRST_PORT, LAST_PORT};

/// How many commits a second there are while pods come and go elsewhere.
pub const CHURN_PER_S: u32 = 200;
/// How many pods come and go in turn.
const CHURNING: u32 = 500;
/// How long they have done so when measuring begins.
const LEAD_IN: Duration = Duration::from_millis(50);

/// A node that enforces.
pub struct Crosswall {
    /// Before the file system that it is pinned in, so that it ends first.
    datapath: Datapath,
    _bpffs: BpfFs,
    node: Node,
    /// When its clock last went on.
    ticked: Instant,
    /// How many policies there are.
    policies: u32,
    churned: u32,
}

/// How many commits there were in what time.
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    commits: u32,
    took: Duration,
}

impl Churn {
    /// Commits in a second. The first one is at the beginning of the time.
    pub fn per_s(&self) -> f64 {
        f64::from(self.commits.saturating_sub(1)) / self.took.as_secs_f64()
    }
}

impl Crosswall {
    /// Enforces so many policies on the pod of a road. Each isolates it in both directions and admits one pod of another
    /// cluster; the client is one of these.
    pub fn enforce(road: &Road, policies: u32) -> Result<Self> {
        let bpffs = BpfFs::mount().context("mount a BPF file system")?;
        let (datapath, tables) = Datapath::open(bpffs.path(), &Capacities::default())?;
        let set = cluster_set("a")
            .member("a", "10.1.0.0/16 fd00:1::/48")
            .member("b", "10.2.0.0/16 fd00:2::/48")
            .with(namespace("a/shop"))
            .with(namespace("b/shop"));
        let mut node = Node::new(set.config(), Subjects::OnNode("n1".into()), tables, datapath.limits().clone());
        node.apply(&set.events());
        node.apply(&objects(road, policies)?);
        let keys: Vec<_> = node.detached().map(PodEntry::key).collect();
        for key in keys {
            node.attach(&key, Attachment { ifindex: road.ifindex, bridge: None });
        }
        node.set_host_addresses(road.node.addresses().iter().collect());
        let mut enforcing = Self { datapath, _bpffs: bpffs, node, ticked: Instant::now(), policies, churned: 0 };
        enforcing.commit()?;
        let datapath = &mut enforcing.datapath;
        road.node.netns().enter(|| datapath.attach(road.ifindex, &road.interface))??;
        Ok(enforcing)
    }

    fn commit(&mut self) -> Result<()> {
        let Self { datapath, node, .. } = self;
        let plan = node.plan().map_err(|full| anyhow!("{full:?}"))?;
        ensure!(!plan.is_empty(), "nothing is left to commit");
        datapath.execute(&plan, |step| node.stepped(step)).context("commit")
    }

    /// Does what an agent does every second: lets flows grow old, and removes those that are over.
    pub fn age(&mut self) -> Result<()> {
        let seconds = self.ticked.elapsed().as_secs();
        if seconds > 0 {
            self.ticked += Duration::from_secs(seconds);
            self.datapath.tick(seconds as u32);
            while !self.datapath.sweep_flows()?.is_over {}
        }
        Ok(())
    }

    /// Does something while pods that policies admit come and go, each with a commit.
    pub fn churning<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<(T, Churn)> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let churn = scope.spawn(|| self.churn(&is_over));
            thread::sleep(LEAD_IN);
            let outcome = work();
            is_over.store(true, Ordering::Relaxed);
            let churn = churn.join().map_err(|_| anyhow!("the commits ended in a panic"))?;
            Ok((outcome?, churn?))
        })
    }

    fn churn(&mut self, is_over: &AtomicBool) -> Result<Churn> {
        let begun = Instant::now();
        let mut commits = 0;
        while !is_over.load(Ordering::Relaxed) {
            let due = begun + Duration::from_secs(1) * commits / CHURN_PER_S;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let number = self.churned % CHURNING;
            let comes = (self.churned / CHURNING).is_multiple_of(2);
            let pod = peer(&format!("churn-{number}"), 1 + number % (self.policies - 1).max(1))
                .ip(&Ipv4Addr::from(u32::from(FIRST_CHURNING) + number).to_string());
            let event = if comes { Event::from(pod) } else { pod.deleted() };
            self.node.apply(&[event]);
            self.commit()?;
            self.churned += 1;
            commits += 1;
        }
        Ok(Churn { commits, took: begun.elapsed() })
    }
}

/// The first address of the pods that come and go.
const FIRST_CHURNING: Ipv4Addr = Ipv4Addr::new(10, 2, 128, 0);

fn peer(name: &str, group: u32) -> PodBuilder {
    pod(&format!("b/shop/{name}")).labels(&format!("app=client,group=g{group}"))
}

/// The pod, its peers, the first of which is the client, and the policies.
fn objects(road: &Road, policies: u32) -> Result<Vec<Event>> {
    let own = |address: Option<IpAddr>| address.map(|address| address.to_string()).context("no address");
    let addresses = road.pod.addresses();
    let [v4, v6] = Family::BOTH.map(|family| own(addresses.of(family)));
    let web = pod("a/shop/web").labels("app=web").ip(&v4?).ip(&v6?).node("n1");
    let mut objects = vec![Event::from(web)];
    let client = road.client.address(Family::V4)?;
    for number in 0..policies {
        let address = match number {
            0 => client,
            _ => IpAddr::from(Ipv4Addr::from(u32::from(FIRST_PEER) + number)),
        };
        objects.push(peer(&format!("client-{number}"), number).ip(&address.to_string()).into());
        let peers = || pods_in("cluster.clusterset.k8s.io=b", &format!("app=client,group=g{number}"));
        let ports = format!("TCP/{FIRST_PORT}-{LAST_PORT} UDP/{FIRST_PORT}-{LAST_PORT}");
        let policy = policy(&format!("a/shop/web-{number}"))
            .select("app=web")
            .ingress([rule().peer(peers()).ports(&ports)])
            .egress([rule().peer(peers())]);
        objects.push(policy.into());
    }
    Ok(objects)
}
