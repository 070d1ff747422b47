//! Connections that live while policies change, agents die and endpoints come and go.

use std::net::IpAddr;

use policy_common::table::FlowKey;
use policy_core::model::{Connection, Direction, Protocol, Transport};
use policy_core::modelled::Flows;
use policy_core::plan::TableState;

use crate::hooks::{self, Part};
use crate::script::Probe;
use crate::witness::Witness;

/// One connection, at its end on this node.
#[derive(Clone, Debug)]
struct Live {
    own: IpAddr,
    peer: IpAddr,
    /// Whether this end opened it.
    outbound: bool,
    protocol: Protocol,
    own_port: u16,
    peer_port: u16,
    /// The endpoint whose flow it is.
    endpoint: u32,
}

impl Live {
    /// The connection as its opener, or as the sender of its next packet, would open it.
    fn judged(&self, from_own: bool) -> Probe {
        let Self { own, peer, protocol, own_port, peer_port, .. } = *self;
        let (source, destination, port, direction) = if from_own {
            (own, peer, peer_port, Direction::Egress)
        } else {
            (peer, own, own_port, Direction::Ingress)
        };
        Probe { direction, connection: Connection { source, destination, transport: Transport::Port(protocol, port) } }
    }

    fn packet(&self, from_own: bool, part: Part) -> Vec<u8> {
        let (own, peer) = ((self.own, self.own_port), (self.peer, self.peer_port));
        let (from, to) = if from_own { (own, peer) } else { (peer, own) };
        hooks::packet(from, to, self.protocol, part)
    }

    fn is_remembered(&self, flows: &Flows) -> bool {
        let protocol = match self.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp | Protocol::Sctp => 17,
        };
        let Self { own_port, peer_port, endpoint, .. } = *self;
        match self.peer {
            IpAddr::V4(peer) => {
                let peer = peer.octets();
                let key = FlowKey { endpoint, peer, own_port, peer_port, protocol };
                flows.v4.flows.contains_key(&key)
            }
            IpAddr::V6(peer) => {
                let peer = peer.octets();
                let key = FlowKey { endpoint, peer, own_port, peer_port, protocol };
                flows.v6.flows.contains_key(&key)
            }
        }
    }
}

/// All of them, and what the kernel remembers of them.
#[derive(Debug, Default)]
pub struct Traffic {
    /// `flows_…` and `cuts_…`.
    pub flows: Flows,
    live: Vec<Live>,
    /// Connections that the node itself opened.
    nodes: Vec<Live>,
    opened: u16,
    /// How many packets were judged.
    pub packets: u64,
}

impl Traffic {
    /// A connection is opened; if it is let through, it lives.
    pub fn open(
        &mut self,
        tables: &TableState,
        now_s: u32,
        witness: &Witness,
        (own, peer, outbound, protocol, port): (IpAddr, IpAddr, bool, Protocol, u16),
    ) -> Result<(), String> {
        self.opened += 1;
        let (own_port, peer_port) = if outbound { (40_000 + self.opened, port) } else { (port, 40_000 + self.opened) };
        let live = Live { own, peer, outbound, protocol, own_port, peer_port, endpoint: 0 };
        let Some((ifindex, endpoint)) = behind(tables, own, 0) else { return Ok(()) };
        let live = Live { endpoint, ..live };
        if self.send(tables, now_s, witness, &live, (ifindex, outbound, Part::Opens), &live.judged(outbound))? {
            self.live.push(live);
        }
        Ok(())
    }

    /// The node itself opens a connection, from an address that the tables know as its own: whatever policies say.
    pub fn greet(
        &mut self,
        tables: &TableState,
        now_s: u32,
        (host, own, protocol, port): (IpAddr, IpAddr, Protocol, u16),
    ) -> Result<(), String> {
        self.opened += 1;
        let Some((ifindex, endpoint)) = behind(tables, own, 0) else { return Ok(()) };
        let (own_port, peer_port) = (port, 40_000 + self.opened);
        let live = Live { own, peer: host, outbound: false, protocol, own_port, peer_port, endpoint };
        if hooks::is_host(tables, host) {
            self.is_the_nodes(tables, now_s, &live, (ifindex, false, Part::Opens))?;
            self.nodes.push(live);
        }
        Ok(())
    }

    fn is_the_nodes(
        &mut self,
        tables: &TableState,
        now_s: u32,
        live: &Live,
        (ifindex, from_own, part): (u32, bool, Part),
    ) -> Result<(), String> {
        let (direction, arrival) =
            if from_own { (Direction::Egress, ifindex) } else { (Direction::Ingress, hooks::SOCKET) };
        let packet = live.packet(from_own, part);
        let verdict = hooks::judge_with(tables, &mut self.flows, now_s, (ifindex, direction, arrival), &packet);
        self.packets += 1;
        if verdict.allow {
            Ok(())
        } else {
            Err(format!("{part:?}, from own {from_own}, of the node's {live:?}: {verdict:?}"))
        }
    }

    /// The node's own connections go on as long as their addresses are its own, and are anybody's after that.
    pub fn nodes_talk(&mut self, tables: &TableState, now_s: u32, witness: &Witness) -> Result<(), String> {
        for live in std::mem::take(&mut self.nodes) {
            let Some((ifindex, endpoint)) = behind(tables, live.own, live.endpoint) else { continue };
            if endpoint != live.endpoint || tables.is_held(ifindex) || !live.is_remembered(&self.flows) {
                continue;
            }
            let from_own = live.peer_port.is_multiple_of(2);
            if hooks::is_host(tables, live.peer) {
                self.is_the_nodes(tables, now_s, &live, (ifindex, from_own, Part::GoesOn))?;
                self.is_the_nodes(tables, now_s, &live, (ifindex, !from_own, Part::GoesOn))?;
                self.nodes.push(live);
            } else {
                self.send(tables, now_s, witness, &live, (ifindex, from_own, Part::GoesOn), &live.judged(false))?;
            }
        }
        Ok(())
    }

    /// Every connection sends a packet from either end.
    pub fn talk(&mut self, tables: &TableState, now_s: u32, witness: &Witness) -> Result<(), String> {
        for number in (0..self.live.len()).rev() {
            self.one_sends(tables, now_s, witness, number, number % 2 == 0)?;
        }
        for number in (0..self.live.len()).rev() {
            self.one_sends(tables, now_s, witness, number, number % 2 == 1)?;
        }
        Ok(())
    }

    /// One of them sends a packet.
    pub fn chatter(&mut self, tables: &TableState, now_s: u32, witness: &Witness, roll: u64) -> Result<(), String> {
        let Ok(count @ 1..) = u64::try_from(self.live.len()) else { return Ok(()) };
        let number = usize::try_from(roll / 2 % count).unwrap_or_default();
        self.one_sends(tables, now_s, witness, number, roll.is_multiple_of(2))
    }

    fn one_sends(
        &mut self,
        tables: &TableState,
        now_s: u32,
        witness: &Witness,
        number: usize,
        from_own: bool,
    ) -> Result<(), String> {
        let live = self.live[number].clone();
        let Some((ifindex, endpoint)) = behind(tables, live.own, live.endpoint) else { return Ok(()) };
        // While its endpoint waits, nothing is found out.
        if tables.is_held(ifindex) {
            return Ok(());
        }
        let is_known = endpoint == live.endpoint && live.is_remembered(&self.flows);
        // Of a connection that is remembered the opener is judged, whoever sends; of another, the sender.
        let judged = live.judged(if is_known { live.outbound } else { from_own });
        self.send(tables, now_s, witness, &live, (ifindex, from_own, Part::GoesOn), &judged)?;
        if !is_known {
            self.live.remove(number);
        }
        Ok(())
    }

    fn send(
        &mut self,
        tables: &TableState,
        now_s: u32,
        witness: &Witness,
        live: &Live,
        (ifindex, from_own, part): (u32, bool, Part),
        judged: &Probe,
    ) -> Result<bool, String> {
        let packet = live.packet(from_own, part);
        let direction = if from_own { Direction::Egress } else { Direction::Ingress };
        let arrival = hooks::arrival(tables, live.peer);
        self.packets += 1;
        let verdict = hooks::judge_with(tables, &mut self.flows, now_s, (ifindex, direction, arrival), &packet);
        if tables.is_held(ifindex) {
            return if verdict.allow { Err(format!("{live:?} passes while its endpoint waits")) } else { Ok(false) };
        }
        let found = witness.allows(judged, verdict.allow);
        found.map_err(|error| format!("{part:?}, from own {from_own}, {:?}, of {live:?}: {error}", verdict.reason))?;
        Ok(verdict.allow)
    }

    /// The flow tables forget all but what was cut.
    pub fn evict(&mut self) {
        self.flows.v4.flows.clear();
        self.flows.v6.flows.clear();
    }

    /// Removes flows that are over; the kernel's own conntrack times, as the agent's sweep has them.
    pub fn sweep(&mut self, tables: &TableState, now_s: u32) -> usize {
        let lives = |endpoint: u32| tables.endpoints.values().any(|known| known.endpoint.id == endpoint);
        let timeout_s = |protocol: u32| if protocol == 17 { 180 } else { 5 * 24 * 60 * 60 };
        let stays = |endpoint: u32, protocol: u32, seen_s: u32| {
            lives(endpoint) && now_s.saturating_sub(seen_s) <= timeout_s(protocol)
        };
        let count = |flows: &Flows| flows.v4.flows.len() + flows.v6.flows.len();
        let before = count(&self.flows);
        self.flows.v4.flows.retain(|key, flow| stays(key.endpoint, key.protocol, flow.seen_s));
        self.flows.v6.flows.retain(|key, flow| stays(key.endpoint, key.protocol, flow.seen_s));
        self.flows.v4.cuts.retain(|key, cut| stays(key.endpoint, key.protocol, cut.seen_s));
        self.flows.v6.cuts.retain(|key, cut| stays(key.endpoint, key.protocol, cut.seen_s));
        before - count(&self.flows)
    }

    /// A flow that should have been swept.
    pub fn leftover(&self, tables: &TableState) -> Option<u32> {
        let lives = |endpoint: &u32| tables.endpoints.values().any(|known| known.endpoint.id == *endpoint);
        let v4 = self.flows.v4.flows.keys().map(|key| key.endpoint);
        v4.chain(self.flows.v6.flows.keys().map(|key| key.endpoint)).find(|endpoint| !lives(endpoint))
    }
}

/// The interface and the endpoint that have an address: this endpoint, if it still has it, or another one.
fn behind(tables: &TableState, address: IpAddr, endpoint: u32) -> Option<(u32, u32)> {
    let having = tables.endpoints.iter().filter(|(_, known)| hooks::own_addresses(known).contains(&address));
    let having: Vec<(u32, u32)> = having.map(|(ifindex, known)| (*ifindex, known.endpoint.id)).collect();
    having.iter().find(|(_, id)| *id == endpoint).or(having.first()).copied()
}
