//! A node with enforcement: routed pods in namespaces, the compiler, the datapath, and datagrams between pods.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use policy_agent::datapath::Datapath;
use policy_core::compile::Subjects;
use policy_core::model::{Event, PodKey};
use policy_core::node::{Attachment, Node};
use policy_core::plan::TableState;
use policy_core::testing::ClusterSetBuilder;

use crate::bpffs::{Bpffs, SMALL};
use crate::net::{Net, ip};

/// How long to wait for a datagram that should not come.
const SHORT: Duration = Duration::from_millis(150);

/// A node with enforcement.
pub struct EnforcingNode {
    /// Before the file system that it is pinned in, so that it ends first.
    pub datapath: Option<Datapath>,
    pub bpffs: Bpffs,
    pub net: Net,
    pub pods: BTreeMap<&'static str, Net>,
    pub node: Node,
}

impl EnforcingNode {
    /// Of a ClusterSet: the pods of cluster `a` become namespaces, in which nothing is enforced yet.
    pub fn new(set: &ClusterSetBuilder, pods: &[(&'static str, &[&str])]) -> Self {
        let bpffs = Bpffs::new();
        let net = Net::new("node");
        let pods = pods.iter().map(|(name, addresses)| (*name, net.routed_pod(name, addresses))).collect();
        let (datapath, state) = bpffs.open();
        let mut node = Node::new(set.config(), Subjects::All, state, SMALL.limits());
        node.apply(&set.events());
        Self { datapath: Some(datapath), bpffs, net, pods, node }
    }

    /// Finds the interfaces, commits, and puts the programs on them.
    pub fn enforce(&mut self) {
        let keys: Vec<PodKey> = self.node.compiler().subjects().keys().cloned().collect();
        for key in &keys {
            if self.pods.contains_key(&*key.name) {
                let ifindex = self.net.ifindex(&key.name);
                self.node.attach(key, Attachment { ifindex, bridge: None });
            }
        }
        let addresses = ["169.254.1.1", "fe80::1"].map(ip);
        self.node.set_host_addresses(addresses.into());
        self.commit();
        self.attach();
    }

    /// Puts the programs on all interfaces.
    pub fn attach(&mut self) {
        let interfaces: Vec<_> = self.pods.keys().map(|name| (self.net.ifindex(name), *name)).collect();
        let datapath = self.datapath.as_mut().expect("open");
        self.net.enter(|| {
            for (ifindex, name) in interfaces {
                datapath.attach(ifindex, name).unwrap_or_else(|error| panic!("{error}: {error:?}"));
            }
        });
    }

    /// Takes an event and commits what follows.
    pub fn take(&mut self, event: impl Into<Event>) {
        self.node.apply([&event.into()]);
        self.commit();
    }

    pub fn commit(&mut self) {
        let plan = self.node.plan().expect("it fits");
        let datapath = self.datapath.as_mut().expect("open");
        let executed = datapath.execute(&plan, |step| self.node.stepped(step));
        executed.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    }

    /// The datapath, which is open.
    pub fn datapath(&mut self) -> &mut Datapath {
        self.datapath.as_mut().expect("open")
    }

    /// Ends the datapath and opens it again.
    pub fn reopen(&mut self) -> TableState {
        drop(self.datapath.take());
        let (datapath, state) = self.bpffs.open();
        self.datapath = Some(datapath);
        state
    }

    /// A pair of sockets, one in each pod (or in the node itself, `""`).
    pub fn pair(&self, from: &str, to: &str, address: &str, port: u16) -> Pair {
        let inside = |name: &str| self.pods.get(name).unwrap_or(&self.net);
        let any: IpAddr = if ip(address).is_ipv4() { ip("0.0.0.0") } else { ip("::") };
        let bind = |net: &Net, port| net.enter(|| bind(any, port));
        let pair =
            Pair { client: bind(inside(from), 0), server: bind(inside(to), port), to: (ip(address), port).into() };
        pair.client.set_read_timeout(Some(SHORT)).expect("a timeout");
        pair.server.set_read_timeout(Some(SHORT)).expect("a timeout");
        pair
    }

    /// Whether a datagram of a new connection arrives.
    pub fn reaches(&self, from: &str, to: &str, address: &str, port: u16) -> bool {
        self.pair(from, to, address, port).send().is_some()
    }

    /// The ids of the programs at both hooks of an interface.
    pub fn programs(&self, name: &str) -> [Vec<u32>; 2] {
        use aya::programs::{SchedClassifier, TcAttachType};
        self.net.enter(|| {
            [TcAttachType::Ingress, TcAttachType::Egress].map(|hook| {
                let (_, programs) = SchedClassifier::query_tcx(name, hook).expect("tcx");
                programs.iter().map(aya::programs::ProgramInfo::id).collect()
            })
        })
    }
}

/// A socket of a port. Processes that other tests start have the sockets of all until they execute their programs.
fn bind(any: IpAddr, port: u16) -> UdpSocket {
    for _ in 0..100 {
        match UdpSocket::bind((any, port)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                std::thread::sleep(Duration::from_millis(20));
            }
            bound => return bound.expect("a socket in a pod"),
        }
    }
    panic!("port {port} stays in use");
}

/// Two sockets, between which datagrams are sent.
pub struct Pair {
    client: UdpSocket,
    server: UdpSocket,
    to: SocketAddr,
}

impl Pair {
    /// Sends to the server; if it arrives, whom the server saw.
    pub fn send(&self) -> Option<SocketAddr> {
        let sent = u64::from(std::process::id()).to_ne_bytes();
        self.client.send_to(&sent, self.to).expect("sending is possible");
        let mut received = [0; 8];
        let (_, sender) = self.server.recv_from(&mut received).ok()?;
        assert_eq!(received, sent);
        Some(sender)
    }

    /// Whether the server's reply arrives.
    pub fn reply(&self, to: SocketAddr) -> bool {
        self.server.send_to(b"reply", to).expect("sending is possible");
        self.client.recv_from(&mut [0; 8]).is_ok()
    }
}
