//! Judging one new connection at one endpoint: a packet that opens it, the compiled tables, the datapath's decision.

use std::net::IpAddr;

use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep};
use policy_common::decide::{Context, Verdict, from_pod, to_pod};
use policy_common::reason::Reason;
use policy_common::table::{IFINDEX_HOST, RULE_NONE};

use crate::compile::RulePlace;
use crate::model::{Connection, Direction, PodKey, PolicyKey, Protocol, Transport};
use crate::modelled::Modelled;
use crate::node::Node;
use crate::plan::TableState;

/// What one end says of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Whether it lets it pass.
    pub allow: bool,
    /// Why.
    pub reason: Reason,
    /// The rule that decided, if one did.
    pub rule: Option<RulePlace>,
    /// The policies that isolate the pod in this direction.
    pub isolated_by: Vec<PolicyKey>,
}

/// Where a connection comes from, besides its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Some pod, or the world.
    Network,
    /// A local socket of the subject's own node.
    OwnNode,
}

/// The source port of judged connections: any will do, no rule names it.
const SOURCE_PORT: u16 = 54_321;
/// An interface that is no endpoint's: packets of other nodes arrive by it.
const UPLINK: u32 = u32::MAX;

impl Node {
    /// What `subject`'s end of a connection says under the tables in force; `None`: it is no endpoint here.
    ///
    /// In direction [`Direction::Egress`] the subject is the source, else the destination.
    pub fn judge(
        &self,
        subject: &PodKey,
        direction: Direction,
        connection: &Connection,
        origin: Origin,
    ) -> Option<End> {
        let ifindex = self.endpoints().get(subject)?.attachment.ifindex;
        let verdict = self.tables().judge(ifindex, direction, connection, origin)?;
        let rule = (verdict.rule != RULE_NONE).then(|| self.compiler().rows().place(verdict.rule).cloned()).flatten();
        let policies = self.compiler().subjects().get(subject);
        let isolated_by = policies.map(|policies| policies.isolated_by(direction).to_vec()).unwrap_or_default();
        Some(End { allow: verdict.allow, reason: verdict.reason, rule, isolated_by })
    }
}

impl TableState {
    /// What the datapath decides under these tables at the endpoint behind `ifindex`; `None`: there is no such packet.
    pub fn judge(
        &self,
        ifindex: u32,
        direction: Direction,
        connection: &Connection,
        origin: Origin,
    ) -> Option<Verdict> {
        let packet = opening_packet(connection)?;
        let tables = Modelled::new(self);
        Some(match direction {
            Direction::Egress => {
                let context = Context { ifindex, ingress_ifindex: ifindex, has_socket: false };
                from_pod(packet.as_slice(), &context, &tables)
            }
            Direction::Ingress => {
                let ingress_ifindex = self.arrival(connection.source, origin);
                let context = Context { ifindex, ingress_ifindex, has_socket: origin == Origin::OwnNode };
                to_pod(packet.as_slice(), &context, &tables)
            }
        })
    }

    /// The interface by which packets from an address reach the node.
    fn arrival(&self, source: IpAddr, origin: Origin) -> u32 {
        match (origin, self.local.get(&source)) {
            (Origin::OwnNode, _) => 0,
            (Origin::Network, Some(local)) if local.ifindex != IFINDEX_HOST => local.ifindex,
            (Origin::Network, _) => UPLINK,
        }
    }
}

/// Whether a protocol number is a protocol's that [`Transport`] has no other name for, and no extension header's.
fn stands_for_itself(number: u8) -> bool {
    !matches!(number, 0 | 1 | 6 | 17 | 43 | 44 | 51 | 58 | 60 | 132 | 135 | 139 | 140)
}

/// The first packet of a connection, from its Ethernet header on; `None`: its ends are of two families, or there is no
/// such protocol.
pub fn opening_packet(connection: &Connection) -> Option<Vec<u8>> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let (builder, v4) = match (connection.source, connection.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            (builder.ipv4(source.octets(), destination.octets(), 64), true)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            (builder.ipv6(source.octets(), destination.octets(), 64), false)
        }
        _ => return None,
    };
    let mut packet = Vec::with_capacity(80);
    let written = match connection.transport {
        Transport::Port(Protocol::Tcp, port) => builder.tcp(SOURCE_PORT, port, 1, 64_000).syn().write(&mut packet, &[]),
        Transport::Port(Protocol::Udp, port) => builder.udp(SOURCE_PORT, port).write(&mut packet, &[]),
        Transport::Port(Protocol::Sctp, port) => write_raw(builder, &mut packet, IpNumber::SCTP, &sctp_init(port)),
        Transport::Icmp if v4 => builder.icmpv4_echo_request(1, 1).write(&mut packet, &[]),
        Transport::Icmp => builder.icmpv6_echo_request(1, 1).write(&mut packet, &[]),
        Transport::Other(number) if !stands_for_itself(number) => return None,
        Transport::Other(number) => write_raw(builder, &mut packet, IpNumber(number), &[0; 8]),
    };
    written.ok().map(|()| packet)
}

fn write_raw(
    builder: PacketBuilderStep<etherparse::IpHeaders>,
    packet: &mut Vec<u8>,
    protocol: IpNumber,
    payload: &[u8],
) -> Result<(), etherparse::err::packet::BuildWriteError> {
    builder.write(packet, protocol, payload)
}

/// An SCTP common header and the start of an INIT chunk.
fn sctp_init(port: u16) -> [u8; 32] {
    let mut segment = [0; 32];
    segment[..2].copy_from_slice(&SOURCE_PORT.to_be_bytes());
    segment[2..4].copy_from_slice(&port.to_be_bytes());
    segment[12] = 1;
    segment[15] = 20;
    segment
}
