//! The tables as the decision function reads them, without a kernel.

use std::cell::RefCell;
use std::net::IpAddr;

use hashbrown::HashMap;
use policy_common::family::{Family, FlowKeyOf, V4, V6};
use policy_common::reason::Reason;
use policy_common::table::{
    Endpoint, Flow, FlowState, Local, PORT_KEY_FIXED_BITS, PortEntry, PortKey, PortPlace, RuleEntry, RuleKey, Tagged,
};
use policy_common::tables::{Direction, FamilyTables, Tables};

use crate::plan::TableState;

/// Tables with the flows of their own that the decision function makes.
#[derive(Debug)]
pub struct Modelled<'a> {
    /// What the agent has written.
    pub state: &'a TableState,
    /// `flows_v4`.
    pub flows_v4: RefCell<HashMap<FlowKeyOf<V4>, Flow>>,
    /// `flows_v6`.
    pub flows_v6: RefCell<HashMap<FlowKeyOf<V6>, Flow>>,
    /// Seconds since boot.
    pub now_s: u32,
}

/// The flows of both families.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// `flows_v4`.
    pub v4: HashMap<FlowKeyOf<V4>, Flow>,
    /// `flows_v6`.
    pub v6: HashMap<FlowKeyOf<V6>, Flow>,
}

impl<'a> Modelled<'a> {
    /// Tables under which no packet has passed yet.
    pub fn new(state: &'a TableState) -> Self {
        Self::with_flows(state, Flows::default())
    }

    /// Tables beside which these flows are known from before.
    pub fn with_flows(state: &'a TableState, flows: Flows) -> Self {
        let Flows { v4, v6 } = flows;
        Self { state, flows_v4: RefCell::new(v4), flows_v6: RefCell::new(v6), now_s: 0 }
    }

    /// The flows, to be kept beside other tables.
    pub fn into_flows(self) -> Flows {
        let Self { state: _, flows_v4, flows_v6, now_s: _ } = self;
        Flows { v4: flows_v4.into_inner(), v6: flows_v6.into_inner() }
    }
}

impl Tables for Modelled<'_> {
    type Endpoint = Endpoint;

    fn commit(&self) -> u64 {
        self.state.commit
    }

    fn endpoint(&self, ifindex: u32) -> Option<Endpoint> {
        self.state.endpoints.get(&ifindex).copied()
    }

    fn rule(&self, key: &RuleKey) -> Option<RuleEntry> {
        self.state.rules.get(key).copied()
    }

    fn port(&self, key: &PortKey) -> Option<PortEntry> {
        let table = self.state.ports.get(&key.place.table)?;
        let port = u16::from_be_bytes(key.place.port);
        (0..=16u32).rev().find_map(|bits| {
            let kept = port & u16::MAX.checked_shl(16 - bits).unwrap_or_default();
            let place = PortPlace { port: kept.to_be_bytes(), ..key.place };
            table.get(&PortKey { prefix_len: PORT_KEY_FIXED_BITS + bits, place }).copied()
        })
    }

    fn now_s(&self) -> u32 {
        self.now_s
    }

    fn count(&self, _element: u32, _direction: Direction, _reason: Reason, _bytes: u32) {}
}

/// A family whose modelled tables are found in [`Modelled`].
trait ModelledFamily: Family {
    fn address(address: &Self::Addr) -> IpAddr;
    fn flows<'a>(tables: &'a Modelled<'_>) -> &'a RefCell<HashMap<FlowKeyOf<Self>, Flow>>;
}

impl ModelledFamily for V4 {
    fn address(address: &[u8; 4]) -> IpAddr {
        IpAddr::from(*address)
    }

    fn flows<'a>(tables: &'a Modelled<'_>) -> &'a RefCell<HashMap<FlowKeyOf<Self>, Flow>> {
        &tables.flows_v4
    }
}

impl ModelledFamily for V6 {
    fn address(address: &[u8; 16]) -> IpAddr {
        IpAddr::from(*address)
    }

    fn flows<'a>(tables: &'a Modelled<'_>) -> &'a RefCell<HashMap<FlowKeyOf<Self>, Flow>> {
        &tables.flows_v6
    }
}

impl<F: ModelledFamily> FamilyTables<F> for Modelled<'_> {
    fn local(&self, address: &F::Addr) -> Option<Local> {
        self.state.local.get(&F::address(address)).copied()
    }

    fn ident(&self, address: &F::Addr, slot: usize) -> Option<Tagged> {
        Some(self.state.idents.get(&F::address(address))?.slots[slot])
    }

    fn net(&self, address: &F::Addr, slot: usize) -> Option<u32> {
        Some(self.state.covering(F::address(address), None)?.1.slots[slot])
    }

    fn flow(&self, key: &FlowKeyOf<F>) -> Option<Flow> {
        F::flows(self).borrow().get(key).copied()
    }

    fn insert_flow(&self, key: &FlowKeyOf<F>, flow: &Flow) {
        F::flows(self).borrow_mut().entry(*key).or_insert(*flow);
    }

    fn replace_flow(&self, key: &FlowKeyOf<F>, flow: &Flow) {
        F::flows(self).borrow_mut().insert(*key, *flow);
    }

    fn store_flow_state(&self, key: &FlowKeyOf<F>, state: FlowState) {
        if let Some(flow) = F::flows(self).borrow_mut().get_mut(key) {
            flow.state = state;
        }
    }

    fn store_flow_seen(&self, key: &FlowKeyOf<F>, seen_s: u32, arrival_ifindex: u32) {
        if let Some(flow) = F::flows(self).borrow_mut().get_mut(key) {
            (flow.seen_s, flow.arrival_ifindex) = (seen_s, arrival_ifindex);
        }
    }
}
