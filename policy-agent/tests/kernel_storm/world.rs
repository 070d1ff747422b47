//! A ClusterSet whose policies and labels change in ways that some packets must never notice.
//!
//! Everybody has a colour, and so has the policy. From state to state all colours are exchanged, those of the policy with
//! those of the pods: friends always have one that the policy admits, strangers never do. So a packet that is judged by
//! the pods' colours of one state and the policy's of another comes to another verdict than every state's. With address
//! blocks likewise: the policy names always others, which always cover the same addresses.

use std::net::IpAddr;

use policy_core::model::{Event, Scope};
use policy_core::testing::{ClusterSetBuilder, PodBuilder, abc, block, namespace, pod, pods_in, policy, rule};

use crate::choices::Choices;
use crate::frames::{Packet, Says, Way};

const COLOURS: usize = 6;
/// How many friends there are, how many strangers, and how many of whom each state says something else.
const OF_EACH: usize = 3;

/// Whom a packet comes from, or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// A pod that is always admitted.
    Friend(usize),
    /// A pod that never is.
    Stranger(usize),
    /// A pod that is in some states.
    Varying(usize),
    /// An address in a block that is always admitted.
    Inside,
    /// An address beside it.
    Outside,
}

/// All peers.
pub const PEERS: [Peer; 11] = [
    Peer::Friend(0),
    Peer::Friend(1),
    Peer::Friend(2),
    Peer::Stranger(0),
    Peer::Stranger(1),
    Peer::Stranger(2),
    Peer::Varying(0),
    Peer::Varying(1),
    Peer::Varying(2),
    Peer::Inside,
    Peer::Outside,
];

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The endpoint's address.
    pub fn own(self) -> IpAddr {
        self.pick("10.1.0.1", "fd00:1::1")
    }

    fn pick(self, v4: &str, v6: &str) -> IpAddr {
        match self {
            Self::V4 => v4.parse().expect("an address"),
            Self::V6 => v6.parse().expect("an address"),
        }
    }
}

impl Peer {
    /// Its address.
    pub fn address(self, family: Family) -> IpAddr {
        let pod = |number: usize| family.pick(&format!("10.2.0.{number}"), &format!("fd00:2::{number}"));
        match self {
            Self::Friend(number) => pod(10 + number),
            Self::Stranger(number) => pod(20 + number),
            Self::Varying(number) => pod(30 + number),
            Self::Inside => family.pick("203.0.113.5", "2001:db8::5"),
            Self::Outside => family.pick("203.0.113.205", "2001:db8::8000:0:0:5"),
        }
    }

    fn pod(self, colour: usize) -> PodBuilder {
        let name = match self {
            Self::Friend(number) => format!("b/shop/friend-{number}"),
            Self::Stranger(number) => format!("b/shop/stranger-{number}"),
            Self::Varying(number) => format!("b/shop/varying-{number}"),
            Self::Inside | Self::Outside => panic!("no pod"),
        };
        let [v4, v6] = Family::BOTH.map(|family| self.address(family).to_string());
        pod(&name).labels(&format!("colour=c{colour}")).ip(&v4).ip(&v6)
    }
}

/// The port to which friends may always open connections, and the one to which they may in some states.
pub const SERVED: u16 = 80;
/// See [`SERVED`].
pub const SOMETIMES: u16 = 81;
/// The port from which, and to the peers' [`crate::frames::PEER_PORT`], the endpoint may open connections to friends.
pub const CLIENT: u16 = 7000;

/// What policies and labels say.
#[derive(Clone, Debug)]
pub struct State {
    admitted: [bool; COLOURS],
    friends: [usize; OF_EACH],
    strangers: [usize; OF_EACH],
    varying: [usize; OF_EACH],
    serves_more: bool,
    split: usize,
    egress: Egress,
}

/// To whom the endpoint may open connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// To whomever the policy admits.
    Friends,
    /// To nobody.
    Nobody,
    /// To everybody: no policy isolates it.
    Open,
}

impl State {
    /// One of many.
    pub fn random(choices: &mut Choices) -> Self {
        let mut order: [usize; COLOURS] = std::array::from_fn(|colour| colour);
        for place in (1..COLOURS).rev() {
            order.swap(place, choices.below(place + 1));
        }
        let (admitted, others) = order.split_at(1 + choices.below(COLOURS - 1));
        Self {
            admitted: std::array::from_fn(|colour| admitted.contains(&colour)),
            friends: std::array::from_fn(|_| choices.pick(admitted)),
            strangers: std::array::from_fn(|_| choices.pick(others)),
            varying: std::array::from_fn(|_| choices.below(COLOURS)),
            serves_more: choices.below(2) == 0,
            split: choices.below(4),
            egress: Egress::Friends,
        }
    }

    /// The same but for one pod: a commit that moves one pointer in each family.
    pub fn with_one_changed(&self, choices: &mut Choices) -> Self {
        let mut changed = self.clone();
        changed.varying[choices.below(OF_EACH)] = choices.below(COLOURS);
        changed
    }

    /// The objects of this state.
    pub fn events(&self) -> Vec<Event> {
        let pods = (0..OF_EACH).flat_map(|number| {
            [
                Peer::Friend(number).pod(self.friends[number]).into(),
                Peer::Stranger(number).pod(self.strangers[number]).into(),
                Peer::Varying(number).pod(self.varying[number]).into(),
            ]
        });
        pods.chain([self.policy()]).collect()
    }

    fn policy(&self) -> Event {
        let ports = if self.serves_more { "TCP/80 TCP/81 UDP/80" } else { "TCP/80 UDP/80" };
        let colours = (0..COLOURS).filter(|colour| self.admitted[*colour]);
        let pods = colours.map(|colour| pods_in("", &format!("colour=c{colour}")));
        // The same addresses in other blocks.
        let blocks: &[&str] = [
            &["203.0.113.0/25", "2001:db8::/65"][..],
            &["203.0.113.0/26", "203.0.113.64/26", "2001:db8::/66", "2001:db8::4000:0:0:0/66"],
            &["203.0.113.0/27", "203.0.113.32/27", "203.0.113.64/26", "2001:db8::/65"],
            &["203.0.113.0/24", "2001:db8::/64"],
        ][self.split];
        let blocks = blocks.iter().map(|cidr| match *cidr {
            "203.0.113.0/24" => block(cidr, "203.0.113.128/25"),
            "2001:db8::/64" => block(cidr, "2001:db8::8000:0:0:0/65"),
            _ => block(cidr, ""),
        });
        let peers: Vec<_> = pods.chain(blocks).collect();
        let open = || peers.iter().fold(rule(), |rule, peer| rule.peer(peer.clone()));
        let policy = policy("a/shop/web").select("app=web").ingress([open().ports(ports)]);
        match self.egress {
            Egress::Friends => policy.egress([open()]),
            Egress::Nobody => policy.no_egress(),
            Egress::Open => policy,
        }
        .into()
    }

    /// The same with another egress.
    pub fn egress(self, egress: Egress) -> Self {
        Self { egress, ..self }
    }

    /// The same, and of the varying pods all or none is admitted.
    pub fn admits_varying(mut self, admits: bool) -> Self {
        let colour = (0..COLOURS).find(|colour| self.admitted[*colour] == admits);
        self.varying = [colour.expect("there are colours of both kinds"); OF_EACH];
        self
    }

    /// Whether a connection between the endpoint and a peer may be opened in this direction.
    pub fn allows(&self, peer: Peer, way: Way, own_port: u16) -> bool {
        let is_admitted = match peer {
            Peer::Friend(_) | Peer::Inside => true,
            Peer::Stranger(_) | Peer::Outside => false,
            Peer::Varying(number) => self.admitted[self.varying[number]],
        };
        match way {
            Way::In => is_admitted && (own_port == SERVED || self.serves_more),
            Way::Out => match self.egress {
                Egress::Friends => is_admitted,
                Egress::Nobody => false,
                Egress::Open => true,
            },
        }
    }
}

/// The ClusterSet in a first state.
pub fn cluster_set(state: &State) -> ClusterSetBuilder {
    let [v4, v6] = Family::BOTH.map(|family| family.own().to_string());
    let set = abc()
        .scope(Scope::ClusterSet)
        .with(namespace("a/shop"))
        .with(namespace("b/shop"))
        .with(pod("a/shop/web").labels("app=web").ip(&v4).ip(&v6))
        .with(pod("a/shop/db").labels("app=db").ip("10.1.0.2"))
        .with(knows_all_colours());
    state.events().into_iter().fold(set, ClusterSetBuilder::with)
}

/// A policy of another pod that asks for every colour, so that colours keep their numbers from state to state: otherwise
/// the policies of one state would know nobody of another, and a mixture could only drop packets.
fn knows_all_colours() -> Event {
    let colours = (0..COLOURS).map(|colour| rule().peer(pods_in("", &format!("colour=c{colour}"))));
    policy("a/shop/db").select("app=db").ingress(colours).into()
}

/// A packet of a connection with a peer.
pub fn packet(way: Way, family: Family, own_port: u16, peer: Peer, says: Says) -> Packet {
    Packet::new(way, family.own(), own_port, peer.address(family), says)
}
