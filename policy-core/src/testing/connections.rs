//! Generated connections: between addresses that a world's rules and pods care about, to the ports at their edges.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::strategies::{PORTS, other_addresses, worlds};
use crate::model::{Connection, Direction, Lifecycle, PodKey, Protocol, Transport};
use crate::world::World;

/// Connections in this world, mostly between addresses that pods of it have.
pub fn connections(world: &World) -> impl Strategy<Value = Connection> + use<> {
    let choices = Choices::of(world);
    seeds().prop_map(move |seed| choices.pick(&seed))
}

/// A world and connections in it; shrinks both.
pub fn worlds_with_connections(how_many: usize) -> impl Strategy<Value = (World, Vec<Connection>)> {
    (worlds(), vec(seeds(), 1..=how_many)).prop_map(|(world, seeds)| {
        let choices = Choices::of(&world);
        let connections = seeds.iter().map(|seed| choices.pick(seed)).collect();
        (world, connections)
    })
}

/// The workloads at which a connection is judged, by its addresses: all that claim its source, for egress, and all
/// that claim its destination, for ingress.
pub fn ends(world: &World, connection: &Connection) -> Vec<(PodKey, Direction)> {
    let claimants = |address: IpAddr, direction: Direction| {
        let workloads = world.pods.values().filter(|pod| !pod.host_network && pod.lifecycle != Lifecycle::Finished);
        workloads
            .filter(move |pod| pod.addresses.contains(&address))
            .map(move |pod| (pod.key.clone(), direction))
            .collect::<Vec<_>>()
    };
    let mut ends = claimants(connection.source, Direction::Egress);
    ends.extend(claimants(connection.destination, Direction::Ingress));
    ends
}

/// A connection before it is known what there is to choose from.
#[derive(Clone, Debug)]
struct Seed {
    source: Index,
    destination: Index,
    transport: Index,
}

fn seeds() -> impl Strategy<Value = Seed> {
    (any::<Index>(), any::<Index>(), any::<Index>()).prop_map(|(source, destination, transport)| Seed {
        source,
        destination,
        transport,
    })
}

/// What there is to choose from in one world.
struct Choices {
    addresses: Vec<IpAddr>,
    transports: Vec<Transport>,
}

impl Choices {
    fn of(world: &World) -> Self {
        let own: Vec<IpAddr> = world.pods.values().flat_map(|pod| pod.addresses.iter().copied()).collect();
        let of_nodes = world.nodes.values().flat_map(|node| node.addresses.iter().copied());
        let mut addresses: Vec<IpAddr> = own.iter().copied().cycle().take(own.len() * 5).collect();
        addresses.extend(of_nodes);
        addresses.extend(other_addresses());

        let declared = world.pods.values().flat_map(|pod| &pod.ports);
        let mut transports: Vec<Transport> = declared.map(|port| Transport::Port(port.protocol, port.number)).collect();
        for protocol in Protocol::ALL {
            transports.extend(PORTS.map(|number| Transport::Port(protocol, number)));
        }
        transports.extend([Transport::Icmp, Transport::Icmp, Transport::Other(47), Transport::Other(0)]);
        Self { addresses, transports }
    }

    fn pick(&self, seed: &Seed) -> Connection {
        let source = *seed.source.get(&self.addresses);
        let of_its_family: Vec<IpAddr> =
            self.addresses.iter().copied().filter(|address| address.is_ipv4() == source.is_ipv4()).collect();
        Connection {
            source,
            destination: *seed.destination.get(&of_its_family),
            transport: *seed.transport.get(&self.transports),
        }
    }
}
