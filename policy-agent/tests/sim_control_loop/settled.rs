//! When everything is quiet: tables say what a node says that learns it all at once, and nothing is left behind.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_core::compile::Subjects;
use policy_core::judge::{Origin, opening_packet};
use policy_core::model::{Connection, Direction, PodKey, Protocol, Transport};
use policy_core::modelled::Modelled;
use policy_core::node::{Attachment, Node};
use policy_core::oracle::{Oracle, Verdict};
use policy_core::plan::{Limits, Table, TableState};
use policy_core::world::World;

use crate::hooks::{self, UPLINK};
use crate::machine::Kernel;
use crate::network::Network;
use crate::numbers;
use crate::script::NODE;

/// What is wrong with a kernel that has been left alone for long enough.
pub fn check(kernel: &mut Kernel, network: &Network, world: &World) -> Result<(), String> {
    let Kernel { tables, witness, traffic, links, .. } = kernel;
    witness.is_settled(tables)?;
    let fresh = from_scratch(network, world);
    same_elements(tables, fresh.tables())?;
    if let Some(dangling) = numbers::dangling(tables) {
        return Err(dangling);
    }
    if let Some(bare) = tables.endpoints.keys().find(|ifindex| !links.contains(ifindex)) {
        return Err(format!("interface {bare} has no programs"));
    }
    if let Some(endpoint) = traffic.leftover(tables) {
        return Err(format!("a flow of endpoint {endpoint} is left behind"));
    }
    for (key, endpoint) in fresh.endpoints() {
        let ifindex = endpoint.attachment.ifindex;
        for own in &endpoint.addresses {
            same_verdicts(tables, fresh.tables(), (key, ifindex, *own), network, world)?;
        }
    }
    kernel.talk()
}

/// A node that is told all of it at once.
fn from_scratch(network: &Network, world: &World) -> Node {
    let config = world.config.clone().expect("it is configured");
    let mut node = Node::new(config, Subjects::OnNode(NODE.into()), TableState::default(), Limits::default());
    node.apply(&world.events());
    node.set_host_addresses(network.hosts.clone());
    let detached: Vec<(PodKey, Vec<IpAddr>)> =
        node.detached().map(|pod| (pod.key(), pod.addresses().into_vec())).collect();
    let bridge = Some(network.bridge()).filter(|bridge| *bridge != 0);
    for (key, addresses) in detached {
        let routes: BTreeSet<u32> =
            addresses.iter().filter_map(|address| network.routes.get(address)).copied().collect();
        if let (Some(ifindex), 1) = (routes.first(), routes.len()) {
            node.attach(&key, Attachment { ifindex: *ifindex, bridge });
        }
    }
    node.settle().expect("there are no limits");
    node
}

/// As many elements of each kind, and the same where no numbers are in them.
fn same_elements(tables: &TableState, fresh: &TableState) -> Result<(), String> {
    for table in Table::ALL {
        let (has, should) = (tables.len(table), fresh.len(table));
        if has != should {
            return Err(format!("{table} has {has} elements, should have {should}: {tables:?}\n  fresh {fresh:?}"));
        }
    }
    let endpoints = |tables: &TableState| {
        let shape = |(ifindex, endpoint): (&u32, &_)| (*ifindex, hooks::own_addresses(endpoint));
        tables.endpoints.iter().map(shape).collect::<Vec<_>>()
    };
    if endpoints(tables) != endpoints(fresh) {
        return Err(format!("endpoints {:?}, should be {:?}", endpoints(tables), endpoints(fresh)));
    }
    if tables.local != fresh.local {
        return Err(format!("local {:?}, should be {:?}", tables.local, fresh.local));
    }
    Ok(())
}

/// All connections of an endpoint: by the tables, by those of a fresh start, and by the oracle; and what nobody may send.
fn same_verdicts(
    tables: &TableState,
    fresh: &TableState,
    (key, ifindex, own): (&PodKey, u32, IpAddr),
    network: &Network,
    world: &World,
) -> Result<(), String> {
    let peers = peers(world, own);
    let transports = [
        Transport::Port(Protocol::Tcp, 80),
        Transport::Port(Protocol::Tcp, 8080),
        Transport::Port(Protocol::Udp, 53),
        Transport::Icmp,
    ];
    let is_alone = world.pods.values().filter(|pod| pod.is_workload() && pod.addresses.contains(&own)).count() == 1;
    for peer in peers {
        for transport in transports {
            for direction in Direction::BOTH {
                let (source, destination) = if direction == Direction::Egress { (own, peer) } else { (peer, own) };
                let connection = Connection { source, destination, transport };
                let verdict = |tables: &TableState| tables.judge(ifindex, direction, &connection, Origin::Network);
                let allows = |tables: &TableState| verdict(tables).is_some_and(|verdict| verdict.allow);
                let expected = Oracle::new(world).judge(key, direction, &connection);
                let told = is_alone.then_some(expected.verdict == Verdict::Allow);
                if allows(tables) != allows(fresh) || told.is_some_and(|told| told != allows(tables)) {
                    let (has, should) = (verdict(tables), verdict(fresh));
                    return Err(format!(
                        "{key} {direction:?} {connection:?}: {has:?}; a fresh start {should:?}, the oracle {expected:?}"
                    ));
                }
            }
        }
        lies(tables, ifindex, (own, peer), network)?;
    }
    Ok(())
}

/// Addresses of all pods, and of nobody.
fn peers(world: &World, own: IpAddr) -> BTreeSet<IpAddr> {
    let nobodys = ["203.0.113.7", "10.1.0.9", "2001:db8::7"].map(|text| text.parse().expect("an address"));
    let of_pods = world.pods.values().flat_map(|pod| pod.addresses.iter().copied());
    of_pods.chain(nobodys).filter(|peer| *peer != own && peer.is_ipv4() == own.is_ipv4()).collect()
}

/// Nobody sends under another's address: not the endpoint, nor anybody elsewhere under one of this node's.
fn lies(tables: &TableState, ifindex: u32, (own, peer): (IpAddr, IpAddr), network: &Network) -> Result<(), String> {
    let transport = Transport::Port(Protocol::Tcp, 80);
    let modelled = Modelled::new(tables);
    let packet = |source, destination| {
        opening_packet(&Connection { source, destination, transport }).expect("both are of one family")
    };
    if hooks::judge(&modelled, ifindex, Direction::Egress, ifindex, &packet(peer, own)).allow {
        return Err(format!("interface {ifindex} of {own} sends as {peer}"));
    }
    let is_local = network.routes.contains_key(&peer) && tables.local.contains_key(&peer);
    if is_local && hooks::judge(&modelled, ifindex, Direction::Ingress, UPLINK, &packet(peer, own)).allow {
        return Err(format!("{peer}, of this node, sends to {own} from elsewhere"));
    }
    Ok(())
}
