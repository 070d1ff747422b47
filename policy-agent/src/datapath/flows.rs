//! Sweeping connections that nobody has used for long.

use std::collections::BTreeSet;
use std::fmt::Debug;

use aya::Pod;
use policy_common::family::{FlowKeyOf, V4, V6};
use policy_common::table::{Cut, Flow, FlowKey, flow_flag};

use super::error::DatapathError;
use super::pins::Pins;
use super::sys::Cursor;
use super::tables::{Table, Tables};

const ICMP: u32 = 1;
const TCP: u32 = 6;
const UDP: u32 = 17;
const ICMPV6: u32 = 58;
const SCTP: u32 = 132;

/// The tables of connections, which the programs write.
#[derive(Debug)]
pub(super) struct Flows {
    v4: Table<FlowKeyOf<V4>, Flow>,
    v6: Table<FlowKeyOf<V6>, Flow>,
    cuts_v4: Table<FlowKeyOf<V4>, Cut>,
    cuts_v6: Table<FlowKeyOf<V6>, Cut>,
    place: Place,
    cuts: SweptCuts,
}

/// What the sweep has found of cut connections since it came to their tables.
#[derive(Debug, Default)]
struct SweptCuts {
    /// How many had ever been noted by then; zero where that is not known.
    ever: u32,
    swept: Swept,
}

/// How far the sweep has come.
#[derive(Debug)]
enum Place {
    V4(Cursor<FlowKeyOf<V4>>),
    V6(Cursor<FlowKeyOf<V6>>),
    CutsV4(Cursor<FlowKeyOf<V4>>),
    CutsV6(Cursor<FlowKeyOf<V6>>),
}

impl Place {
    fn beginning() -> Self {
        Self::V4(Cursor::default())
    }
}

/// How many batches are swept at once: others wait meanwhile.
const SLICE: usize = 4;

/// How many connections are looked at once more, and then removed, at once: in between a packet may come of one, and its
/// reply would be nobody's. Reading and removing a whole batch takes a thousand times as long.
const AT_ONCE: usize = 1;

/// What a slice of a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many connections stay.
    pub kept: usize,
    /// How many were removed.
    pub removed: usize,
    /// Whether that was the last slice: the next one begins a new sweep.
    pub is_over: bool,
}

/// For how many seconds a connection is remembered without a packet: as long as the kernel's own connection tracking
/// does (nf_conntrack_proto_*.c), so that no connection that passes a NAT ends here first.
fn timeout_s(protocol: u32, flags: u16) -> u32 {
    match protocol {
        TCP if flags & flow_flag::CLOSING != 0 => 120,
        TCP => 5 * 24 * 60 * 60,
        UDP => 180,
        ICMP | ICMPV6 => 60,
        SCTP => 210,
        _ => 600,
    }
}

/// An element that grows old.
trait Remembered: Pod {
    /// When a packet was last seen.
    fn seen_s(&self) -> u32;
    /// The bits of [`flow_flag`].
    fn flags(&self) -> u16;
}

impl Remembered for Flow {
    fn seen_s(&self) -> u32 {
        self.seen_s
    }

    fn flags(&self) -> u16 {
        self.state.flags
    }
}

impl Remembered for Cut {
    fn seen_s(&self) -> u32 {
        self.seen_s
    }

    fn flags(&self) -> u16 {
        0
    }
}

/// Whether a connection can be forgotten.
fn is_over<A>(key: &FlowKey<A>, known: &impl Remembered, now_s: u32, endpoints: &BTreeSet<u32>) -> bool {
    // A packet may have come since the clock was read.
    let idle_s = now_s.saturating_sub(known.seen_s());
    !endpoints.contains(&key.endpoint) || idle_s > timeout_s(key.protocol, known.flags())
}

impl Flows {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        Ok(Self {
            v4: Table::open(pins, "flows_v4")?,
            v6: Table::open(pins, "flows_v6")?,
            cuts_v4: Table::open(pins, "cuts_v4")?,
            cuts_v6: Table::open(pins, "cuts_v6")?,
            place: Place::beginning(),
            cuts: SweptCuts::default(),
        })
    }

    /// Removes connections that are over, and those of endpoints that are gone, of the next few batches. A connection of
    /// which a packet comes at that very moment is judged again, as after an eviction.
    pub(super) fn sweep(&mut self, tables: &Tables) -> Result<Swept, DatapathError> {
        let sweep = Sweep { endpoints: tables.endpoint_ids()?, now_s: tables.control().tick_s() };
        let mut swept = Swept::default();
        // Where a batch fails nothing is known of it, so that the sweep finds nothing out about cuts.
        let mut cuts = std::mem::take(&mut self.cuts);
        for _ in 0..SLICE {
            match &mut self.place {
                Place::V4(cursor) => {
                    if sweep.batch(&self.v4, cursor, &mut swept)? {
                        self.place = Place::V6(Cursor::default());
                    }
                }
                Place::V6(cursor) => {
                    if sweep.batch(&self.v6, cursor, &mut swept)? {
                        self.place = Place::CutsV4(Cursor::default());
                        cuts = SweptCuts { ever: tables.control().cuts(), swept: Swept::default() };
                    }
                }
                Place::CutsV4(cursor) => {
                    if sweep.batch(&self.cuts_v4, cursor, &mut cuts.swept)? {
                        self.place = Place::CutsV6(Cursor::default());
                    }
                }
                Place::CutsV6(cursor) => {
                    if sweep.batch(&self.cuts_v6, cursor, &mut cuts.swept)? {
                        self.place = Place::beginning();
                        if cuts.swept.kept == 0 {
                            tables.control().forget_cuts(cuts.ever);
                        }
                        swept.is_over = true;
                        break;
                    }
                }
            }
        }
        self.cuts = cuts;
        Ok(swept)
    }
}

/// What a sweep goes by.
struct Sweep {
    endpoints: BTreeSet<u32>,
    now_s: u32,
}

impl Sweep {
    /// Sweeps a batch; returns whether it was the table's last one.
    fn batch<A, V: Remembered>(
        &self,
        table: &Table<FlowKey<A>, V>,
        cursor: &mut Cursor<FlowKey<A>>,
        swept: &mut Swept,
    ) -> Result<bool, DatapathError>
    where
        A: Copy + Debug,
        FlowKey<A>: Pod,
    {
        let Self { endpoints, now_s } = self;
        let mut over = Vec::new();
        let was_last = table.read_batch(cursor, |keys, flows| {
            let elements = keys.iter().zip(flows);
            over.extend(elements.filter(|(key, flow)| is_over(key, *flow, *now_s, endpoints)).map(|(key, _)| *key));
            swept.kept += keys.len() - over.len();
        })?;
        for keys in over.chunks(AT_ONCE) {
            self.remove(table, keys, swept)?;
        }
        Ok(was_last)
    }

    /// Removes connections that were over when their batch was read, and still are.
    fn remove<A, V: Remembered>(
        &self,
        table: &Table<FlowKey<A>, V>,
        keys: &[FlowKey<A>],
        swept: &mut Swept,
    ) -> Result<(), DatapathError>
    where
        A: Copy + Debug,
        FlowKey<A>: Pod,
    {
        let Self { endpoints, now_s } = self;
        let mut over = Vec::with_capacity(AT_ONCE);
        for key in keys {
            match table.get(key)? {
                Some(known) if is_over(key, &known, *now_s, endpoints) => over.push(*key),
                Some(_) => swept.kept += 1,
                None => {}
            }
        }
        swept.removed += over.len();
        // Others may have been faster: the table itself evicts.
        table.delete(&over).map_err(|(_, source)| DatapathError::Table {
            operation: "delete from".to_owned(),
            table: table.name(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use policy_common::table::{Arrival, FlowState};

    use super::*;

    fn is_over_after(protocol: u32, flags: u16, idle_s: u32) -> bool {
        let key = FlowKey { endpoint: 1, peer: [10, 0, 0, 1], own_port: 1, peer_port: 2, protocol };
        let flow =
            Flow { state: FlowState { flags, ..FlowState::default() }, seen_s: 1000, arrival: Arrival::UNCHECKED };
        is_over(&key, &flow, 1000 + idle_s, &BTreeSet::from([1]))
    }

    #[test]
    fn connections_are_forgotten_when_their_protocol_would() {
        let cases = [
            ("a TCP connection lives for days", TCP, 0, 5 * 24 * 60 * 60),
            ("one that is closing soon goes", TCP, flow_flag::CLOSING, 120),
            ("UDP", UDP, 0, 180),
            ("ICMP", ICMP, 0, 60),
            ("ICMPv6", ICMPV6, 0, 60),
            ("SCTP", SCTP, 0, 210),
            ("GRE", 47, 0, 600),
        ];
        for (what, protocol, flags, timeout_s) in cases {
            assert!(!is_over_after(protocol, flags, timeout_s), "{what} is kept");
            assert!(is_over_after(protocol, flags, timeout_s + 1), "{what} is over");
        }
    }

    #[test]
    fn a_flow_that_was_seen_after_the_clock_was_read_is_kept() {
        let key = FlowKey { endpoint: 1, peer: [0; 4], own_port: 0, peer_port: 0, protocol: ICMP };
        let flow = Flow { seen_s: 1001, ..Flow::default() };
        assert!(!is_over(&key, &flow, 1000, &BTreeSet::from([1])));
    }

    #[test]
    fn flows_of_an_endpoint_that_is_gone_are_over() {
        let key = FlowKey { endpoint: 2, peer: [0; 4], own_port: 0, peer_port: 0, protocol: TCP };
        assert!(is_over(&key, &Flow::default(), 0, &BTreeSet::from([1])));
    }
}
