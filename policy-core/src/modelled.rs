//! The tables as the decision function reads them, without a kernel.

use std::cell::RefCell;
use std::net::IpAddr;

use hashbrown::HashMap;
use policy_common::decide::{Case, Question, Verdict};
use policy_common::family::{Family, FlowKeyOf, V4, V6};
use policy_common::parse::Network;
use policy_common::reason::Reason;
use policy_common::table::{
    Arrival, Cut, Endpoint, Flow, FlowKey, FlowState, Local, PORT_KEY_FIXED_BITS, PortEntry, PortKey, PortPlace,
    RuleEntry, RuleKey, Tagged,
};
use policy_common::tables::{Direction, FamilyTables, Steps, Tables};

use crate::plan::TableState;

/// Tables with the flows of their own that the decision function makes.
#[derive(Debug)]
pub struct Modelled<'a> {
    /// What the agent has written.
    pub state: &'a TableState,
    /// What is remembered of connections, and changes with each packet.
    pub flows: RefCell<Flows>,
    /// The clock.
    pub now_s: u32,
}

/// What is remembered of connections.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// Of IPv4.
    pub v4: Connections<[u8; 4]>,
    /// Of IPv6.
    pub v6: Connections<[u8; 16]>,
}

/// What is remembered of the connections of one family.
#[derive(Clone, Debug)]
pub struct Connections<A> {
    /// `flows_…`.
    pub flows: HashMap<FlowKey<A>, Flow>,
    /// `cuts_…`.
    pub cuts: HashMap<FlowKey<A>, Cut>,
}

impl<A> Default for Connections<A> {
    fn default() -> Self {
        Self { flows: HashMap::default(), cuts: HashMap::default() }
    }
}

impl<'a> Modelled<'a> {
    /// Tables under which no packet has passed yet.
    pub fn new(state: &'a TableState) -> Self {
        Self::with_flows(state, Flows::default())
    }

    /// Tables beside which these flows are known from before.
    pub fn with_flows(state: &'a TableState, flows: Flows) -> Self {
        Self { state, flows: RefCell::new(flows), now_s: 0 }
    }

    /// The flows, to be kept beside other tables.
    pub fn into_flows(self) -> Flows {
        self.flows.into_inner()
    }

    /// Forgets all flows, as a table does that others fill; what was cut stays.
    pub fn forget_flows(&self) {
        let mut flows = self.flows.borrow_mut();
        flows.v4.flows.clear();
        flows.v6.flows.clear();
    }
}

impl Tables for Modelled<'_> {
    type Endpoint = Endpoint;

    fn commit(&self) -> u64 {
        self.state.commit
    }

    fn endpoint(&self, ifindex: &u32) -> Option<Endpoint> {
        self.state.endpoints.get(ifindex).copied()
    }

    fn policy(&self, ifindex: &u32, slot: usize, direction: Direction) -> Option<Tagged> {
        Some(self.state.endpoints.get(ifindex)?.policy[slot & 1].of(direction))
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

    fn may_be_local(&self, _tag: u32) -> bool {
        true
    }

    fn now_s(&self) -> u32 {
        self.now_s
    }

    fn writes(&self) -> u32 {
        0
    }

    fn count(&self, _element: u32, _direction: Direction, _reason: Reason, _bytes: u32) {}
}

/// A family whose modelled tables are found in [`Modelled`].
trait ModelledFamily: Family {
    fn address(address: &Self::Addr) -> IpAddr;
    fn connections(flows: &mut Flows) -> &mut Connections<Self::Addr>;
}

impl ModelledFamily for V4 {
    fn address(address: &[u8; 4]) -> IpAddr {
        IpAddr::from(*address)
    }

    fn connections(flows: &mut Flows) -> &mut Connections<[u8; 4]> {
        &mut flows.v4
    }
}

impl ModelledFamily for V6 {
    fn address(address: &[u8; 16]) -> IpAddr {
        IpAddr::from(*address)
    }

    fn connections(flows: &mut Flows) -> &mut Connections<[u8; 16]> {
        &mut flows.v6
    }
}

impl Modelled<'_> {
    fn with<F: ModelledFamily, R>(&self, work: impl FnOnce(&mut Connections<F::Addr>) -> R) -> R {
        work(F::connections(&mut self.flows.borrow_mut()))
    }
}

impl<F: ModelledFamily + Network> Steps<F> for Modelled<'_> {
    fn unsettled(&self, case: Case<'_, F::Addr>) -> Verdict {
        case.judge::<F, _>(self)
    }

    fn answer(&self, key: &FlowKeyOf<F>, question: Question) -> Verdict {
        question.answer::<F, _>(key, self)
    }
}

impl<F: ModelledFamily> FamilyTables<F> for Modelled<'_> {
    fn local(&self, address: &F::Addr) -> Option<Local> {
        self.state.local.get(&F::address(address)).copied()
    }

    fn ident(&self, address: &F::Addr, slot: usize) -> Option<Tagged> {
        let id = self.state.idents.get(&F::address(address))?[slot];
        Some(Tagged { tag: F::tag(address), id })
    }

    fn net(&self, address: &F::Addr, slot: usize) -> Option<u32> {
        Some(self.state.covering(F::address(address), None)?.1.slots[slot])
    }

    fn flow(&self, key: &FlowKeyOf<F>) -> Option<Flow> {
        self.with::<F, _>(|known| known.flows.get(key).copied())
    }

    fn insert_flow(&self, key: &FlowKeyOf<F>, flow: &Flow) {
        self.with::<F, _>(|known| {
            known.flows.entry(*key).or_insert(*flow);
        });
    }

    fn replace_flow(&self, key: &FlowKeyOf<F>, flow: &Flow) {
        self.with::<F, _>(|known| known.flows.insert(*key, *flow));
    }

    fn store_flow_state(&self, key: &FlowKeyOf<F>, known: FlowState, state: FlowState) {
        self.with::<F, _>(|connections| {
            if let Some(flow) = connections.flows.get_mut(key).filter(|flow| flow.state == known) {
                flow.state = state;
            }
        });
    }

    fn store_flow_seen(&self, key: &FlowKeyOf<F>, seen_s: u32, arrival: Arrival) {
        self.with::<F, _>(|known| {
            if let Some(flow) = known.flows.get_mut(key) {
                (flow.seen_s, flow.arrival) = (seen_s, arrival);
            }
        });
    }

    fn cut(&self, key: &FlowKeyOf<F>) -> Option<Cut> {
        self.with::<F, _>(|known| known.cuts.get(key).copied())
    }

    fn note_cut(&self, key: &FlowKeyOf<F>, cut: &Cut) {
        self.with::<F, _>(|known| known.cuts.insert(*key, *cut));
    }

    fn renew_cut(&self, key: &FlowKeyOf<F>, seen_s: u32) -> bool {
        self.with::<F, _>(|known| known.cuts.get_mut(key).map(|cut| cut.seen_s = seen_s).is_some())
    }

    fn forget_cut(&self, key: &FlowKeyOf<F>) {
        self.with::<F, _>(|known| known.cuts.remove(key));
    }
}
