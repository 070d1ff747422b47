//! Packet tables: what hooks see, packet by packet, and what they must say. One table for the host and the kernel.

mod build;
mod rows;
pub mod words;

pub use build::{Frame, Ip, MORE, Who, arp, chunk, flags};
pub use rows::rows;

use policy_common::reason::Reason;

use super::build::{ClusterSetBuilder, abc, namespace, pod, pods_in, policy, rule};
use crate::compile::Subjects;
use crate::index::PodEntry;
use crate::model::{Event, PodKey};
use crate::node::{Attachment, Node};
use crate::plan::{Limits, TableState};

/// The interface of the endpoint under test, `a/shop/web`: loopback, which exists in every network namespace.
pub const WEB: u32 = 1;
/// The interface of another endpoint of the node, `a/shop/db`.
pub const DB: u32 = 4001;
/// The bridge that [`DB`] is a port of.
pub const BRIDGE: u32 = 4000;
/// An interface towards other nodes.
pub const UPLINK: u32 = 77;

/// A row: packets in order, under policies that may change between them.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is claimed.
    pub claim: &'static str,
    /// Of which family.
    pub ip: Ip,
    /// The policies at the beginning.
    pub policies: Policies,
    /// What happens.
    pub steps: Vec<Step>,
}

/// The policies of the endpoint under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policies {
    /// None.
    Open,
    /// Ingress from `b/shop/client` to TCP/80, UDP/53 and SCTP/90; egress not isolated.
    Served,
    /// Ingress from `b/shop/client` to everything; no egress.
    ServedOnly,
    /// Egress to `b/shop/client` on TCP/443 and UDP/53; ingress not isolated.
    Calls,
    /// Egress to `b/shop/client` on everything; no ingress.
    CallsOnly,
    /// No ingress, no egress.
    Closed,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A packet, and what the hook says.
    Packet(Sight),
    /// A commit with these policies.
    Commit(Policies),
    /// A commit that concerns another pod.
    OtherCommit,
    /// The flow table forgets everything.
    Forget,
    /// Another pod takes the endpoint's address and interface.
    Replace,
}

/// A packet at a hook.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The hook.
    pub hook: Hook,
    /// The packet.
    pub frame: Vec<u8>,
    /// The interface by which it reached the node; 0: made here.
    pub arrival: u32,
    /// Whether a socket of the node sent it. The kernel's test run cannot say no.
    pub has_socket: bool,
    /// Whether it passes.
    pub allow: bool,
    /// Why.
    pub reason: Reason,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// It leaves the endpoint.
    FromPod,
    /// It reaches the endpoint.
    ToPod,
}

impl Row {
    /// Whether `BPF_PROG_TEST_RUN` can show every packet: frames hold a whole IP header of the kind that they announce,
    /// and every packet has a socket.
    pub fn fits_the_kernel(&self) -> bool {
        self.steps.iter().all(|step| match step {
            Step::Packet(sight) => {
                let least = match sight.frame.get(12..14) {
                    Some([0x08, 0x00]) => 34,
                    Some([0x86, 0xdd]) => 54,
                    _ => 15,
                };
                sight.has_socket && sight.frame.len() >= least
            }
            _ => true,
        })
    }
}

/// The node on which rows play.
#[derive(Debug)]
pub struct Stage {
    node: Node,
    others: u32,
}

impl Stage {
    /// With these policies in force.
    pub fn new(policies: Policies) -> Self {
        let set = world();
        let mut node = Node::new(set.config(), Subjects::OnNode("n1".into()), TableState::default(), Limits::default());
        node.apply(&set.events());
        node.set_host_addresses(
            ["10.1.255.254", "fd00:1:ff::1", "fe80::1"].map(|text| text.parse().expect("an address")).into(),
        );
        let mut stage = Self { node, others: 0 };
        stage.commit(policies);
        stage
    }

    /// The node, whose tables are those in force.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The next plan; whoever carries it out tells each step to [`Self::stepped`].
    pub fn node_mut(&mut self) -> &mut Node {
        &mut self.node
    }

    /// Carries out what a step of a row does to the policies, on the modelled tables.
    pub fn act(&mut self, step: &Step) {
        match step {
            Step::Packet(_) | Step::Forget => {}
            Step::Commit(policies) => self.commit(*policies),
            Step::OtherCommit => self.other_commit(),
            Step::Replace => self.replace(),
        }
    }

    fn commit(&mut self, policies: Policies) {
        let events: Vec<Event> = [("in", policies.ingress()), ("out", policies.egress())]
            .into_iter()
            .map(|(name, event)| event.unwrap_or_else(|| policy(&format!("a/shop/{name}")).deleted()))
            .collect();
        self.settle(&events);
    }

    /// A change of the other endpoint's policy moves the commit, and nothing else that the rows look at.
    fn other_commit(&mut self) {
        self.others += 1;
        let other = policy("a/shop/db").select("app=db");
        let event = if self.others % 2 == 1 { other.no_ingress().into() } else { other.deleted() };
        self.settle(&[event]);
    }

    fn replace(&mut self) {
        let old = pod("a/shop/web").deleted();
        let new = pod("a/shop/web").uid("the next").labels("app=web").ip("10.1.0.1").ip("fd00:1::1").node("n1");
        self.settle(&[old, new.into()]);
    }

    fn settle(&mut self, events: &[Event]) {
        self.node.apply(events);
        let keys: Vec<PodKey> = self.node.detached().map(PodEntry::key).collect();
        for key in keys {
            let attachment = match &*key.name {
                "web" => Attachment { ifindex: WEB, bridge: None },
                _ => Attachment { ifindex: DB, bridge: Some(BRIDGE) },
            };
            self.node.attach(&key, attachment);
        }
        self.node.settle().expect("modelled tables have no limits");
    }
}

fn world() -> ClusterSetBuilder {
    abc()
        .with(namespace("a/shop"))
        .with(namespace("b/shop"))
        .with(pod("a/shop/web").labels("app=web").ip("10.1.0.1").ip("fd00:1::1").node("n1"))
        .with(pod("a/shop/db").labels("app=db").ip("10.1.0.2").ip("fd00:1::2").node("n1"))
        .with(pod("b/shop/client").labels("app=client").ip("10.2.0.1").ip("fd00:2::1").node("n2"))
}

impl Policies {
    fn ingress(self) -> Option<Event> {
        let client = || rule().peer(pods_in("cluster.clusterset.k8s.io=b", "app=client"));
        let policy = policy("a/shop/in").select("app=web");
        match self {
            Self::Open | Self::Calls => None,
            Self::Served => Some(policy.ingress([client().ports("TCP/80 UDP/53 SCTP/90")]).into()),
            Self::ServedOnly => Some(policy.ingress([client()]).into()),
            Self::CallsOnly | Self::Closed => Some(policy.no_ingress().into()),
        }
    }

    fn egress(self) -> Option<Event> {
        let client = || rule().peer(pods_in("cluster.clusterset.k8s.io=b", "app=client"));
        let policy = policy("a/shop/out").select("app=web");
        match self {
            Self::Open | Self::Served => None,
            Self::Calls => Some(policy.egress([client().ports("TCP/443 UDP/53")]).into()),
            Self::CallsOnly => Some(policy.egress([client()]).into()),
            Self::ServedOnly | Self::Closed => Some(policy.no_egress().into()),
        }
    }
}
