//! What happens to an agent, as data: made from a seed, played, and made shorter when it shows a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use policy_core::model::{ClusterConfig, ClusterId, Connection, Direction, Event, Protocol};
use policy_core::plan::Table;
use policy_core::testing::EventSequence;

/// The node whose agent is looked at.
pub const NODE: &str = "n1";
/// The bridge that interfaces are ports of, where they are.
pub const BRIDGE: u32 = 3;

/// A whole life of a node.
#[derive(Clone, Debug)]
pub struct Script {
    /// What it was made from; chance within the play comes from it too.
    pub seed: u64,
    /// The ClusterSet at the beginning.
    pub config: ClusterConfig,
    /// Whether interfaces are ports of a bridge.
    pub bridged: bool,
    /// How much the tables hold; a table that is missing has no limit.
    pub limits: BTreeMap<Table, usize>,
    /// Connections that are judged after every single step of the agent.
    pub probes: Vec<Probe>,
    /// In order.
    pub actions: Vec<Action>,
}

/// A connection, at one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// Whether its end is the source or the destination.
    pub direction: Direction,
    /// The connection.
    pub connection: Connection,
}

impl Probe {
    /// The address of the end at which it is judged.
    pub fn own(&self) -> IpAddr {
        match self.direction {
            Direction::Egress => self.connection.source,
            Direction::Ingress => self.connection.destination,
        }
    }
}

/// How a source tells what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// At once.
    Now,
    /// At once, and once more.
    Twice,
    /// With [`Action::Deliver`], in another order than that of other objects.
    Later,
    /// Not before its cluster is listed anew.
    Lost,
}

/// What the machine refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// To tell where an address is.
    Locate,
    /// To put programs on an interface.
    Attach,
    /// To tell which interfaces have the programs.
    Prune,
    /// To tell the node's addresses.
    Hosts,
    /// To sweep flows.
    Sweep,
}

/// One thing that happens.
#[derive(Clone)]
pub enum Action {
    /// Objects change.
    Change(Vec<Event>, Delivery),
    /// What waits is told, in so many batches.
    Deliver(usize),
    /// A cluster is listed anew, or at last.
    Relist(ClusterId),
    /// The ClusterSet changes; who joins is listed.
    Configure(ClusterConfig),
    /// Addresses are behind this interface from now on; whether the network tells of it.
    Plug(u32, Vec<IpAddr>, bool),
    /// An interface is gone, and with it its routes; whether the network tells of it.
    Unplug(u32, bool),
    /// An interface goes and comes back with the same number.
    Replug(u32),
    /// These are the node's addresses.
    Hosts(BTreeSet<IpAddr>),
    /// Somebody takes the programs off an interface.
    Unlink(u32),
    /// The step of a plan after so many others fails.
    Fail(usize),
    /// The machine refuses this so many times.
    Refuse(Refusal, usize),
    /// The agent dies before it does anything after so many more things.
    Die(usize),
    /// An agent begins, on whatever the kernel holds; these clusters are not listed yet. One that runs dies first.
    Restart(Vec<ClusterId>),
    /// Milliseconds pass.
    Pass(u64),
    /// So much time passes that whatever was told is in force, and nothing lags behind it.
    Rest,
    /// A connection is opened from (`true`) or to a pod of this node, with this protocol and port.
    Open(IpAddr, IpAddr, bool, Protocol, u16),
    /// The node opens a connection from an address of its own to a pod.
    Greet(IpAddr, IpAddr, Protocol, u16),
    /// Every connection sends a packet, from either end.
    Talk,
    /// The flow tables forget everything but what was cut.
    Evict,
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clusters =
            |clusters: &[ClusterId]| clusters.iter().map(ClusterId::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Change(events, delivery) => {
                let events = format!("{:?}", EventSequence { batches: vec![events.clone()] });
                let lines = events.lines().filter(|line| !line.is_empty() && !line.starts_with("batch"));
                write!(f, "change, told {delivery:?}:")?;
                lines.into_iter().try_for_each(|line| write!(f, "\n    {}", line.trim_start()))
            }
            Self::Deliver(batches) => write!(f, "what waits is told, in batches: {batches}"),
            Self::Relist(cluster) => write!(f, "{cluster} is listed"),
            Self::Configure(config) => {
                let members: Vec<ClusterId> = config.members.iter().map(|member| member.id.clone()).collect();
                let ClusterConfig { default_scope, cluster_labels, .. } = config;
                write!(f, "the ClusterSet is {}, {default_scope:?}, {cluster_labels:?}", clusters(&members))
            }
            Self::Plug(ifindex, addresses, told) => write!(f, "{addresses:?} behind {ifindex}, told {told}"),
            Self::Unplug(ifindex, told) => write!(f, "interface {ifindex} is gone, told {told}"),
            Self::Replug(ifindex) => write!(f, "interface {ifindex} goes and comes back"),
            Self::Hosts(hosts) => write!(f, "the node has {hosts:?}"),
            Self::Unlink(ifindex) => write!(f, "the programs are taken off {ifindex}"),
            Self::Fail(after) => write!(f, "a step fails after {after}"),
            Self::Refuse(refusal, times) => write!(f, "{refusal:?} is refused, times: {times}"),
            Self::Die(after) => write!(f, "the agent dies after {after}"),
            Self::Restart(late) if late.is_empty() => write!(f, "an agent begins"),
            Self::Restart(late) => write!(f, "an agent begins; not listed: {}", clusters(late)),
            Self::Pass(ms) => write!(f, "{ms} ms pass"),
            Self::Rest => write!(f, "all comes to rest"),
            Self::Open(own, peer, true, protocol, port) => write!(f, "{own} opens {} {peer}:{port}", protocol.as_str()),
            Self::Open(own, peer, false, protocol, port) => {
                write!(f, "{peer} opens {} {own}:{port}", protocol.as_str())
            }
            Self::Greet(host, own, protocol, port) => {
                write!(f, "the node opens {} {own}:{port} from {host}", protocol.as_str())
            }
            Self::Talk => write!(f, "everybody talks"),
            Self::Evict => write!(f, "flows are forgotten"),
        }
    }
}

/// As a failing test shows it.
impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, config, bridged, limits, probes, actions } = self;
        writeln!(f, "seed {seed}; bridged {bridged}; limits {limits:?}; probes {}", probes.len())?;
        writeln!(f, "at first {:?}", Action::Configure(config.clone()))?;
        actions.iter().enumerate().try_for_each(|(number, action)| writeln!(f, "{number:3}  {action:?}"))
    }
}
