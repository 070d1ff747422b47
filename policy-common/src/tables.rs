//! What the decision reads and writes tables through: BPF maps in the kernel, ordinary maps on the host.
//!
//! Only flows, cuts and counters are written, all through `&self`: a host implementation keeps those behind a `Cell` or a
//! `RefCell` and everything else as it likes. Values are copies. Whoever implements this over memory that others
//! write meanwhile reads each [`Tagged`] and [`FlowState`] with one 8-byte load; the decision compares the tags.

use crate::{
    decide::{Case, Question, Verdict},
    family::{Family, FlowKeyOf, V4, V6},
    parse::Network,
    reason::Reason,
    table::{
        Arrival, Cut, Endpoint, EndpointPolicy, Flow, FlowState, Local, PortEntry, PortKey, RuleEntry, RuleKey, Tagged,
    },
};

/// Which way a packet goes: the hook that sees it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// It leaves the endpoint.
    FromPod,
    /// It reaches the endpoint.
    ToPod,
}

impl Direction {
    /// The other way.
    #[inline(always)]
    pub const fn reversed(self) -> Self {
        match self {
            Self::FromPod => Self::ToPod,
            Self::ToPod => Self::FromPod,
        }
    }
}

/// An element of `endpoints` but for its policies, read field by field: on the host simply an [`Endpoint`].
pub trait EndpointRow: Copy {
    /// [`Endpoint::endpoint`].
    fn endpoint(&self) -> Tagged;
    /// [`Endpoint::counters`].
    fn counters(&self) -> u32;
    /// [`Endpoint::v4`].
    fn v4(&self) -> [u8; 4];
    /// [`Endpoint::v6`].
    fn v6(&self) -> [u8; 16];
}

impl EndpointRow for Endpoint {
    fn endpoint(&self) -> Tagged {
        self.endpoint
    }

    fn counters(&self) -> u32 {
        self.counters
    }

    fn v4(&self) -> [u8; 4] {
        self.v4
    }

    fn v6(&self) -> [u8; 16] {
        self.v6
    }
}

impl EndpointPolicy {
    /// The policy for connections that start with a packet of `direction`.
    pub fn of(&self, direction: Direction) -> Tagged {
        match direction {
            Direction::FromPod => self.egress,
            Direction::ToPod => self.ingress,
        }
    }
}

/// The tables that do not depend on the address family, and the clock.
pub trait Tables {
    /// How an element of `endpoints` is read.
    type Endpoint: EndpointRow;

    /// [`crate::table::Control::commit`].
    fn commit(&self) -> u64;
    /// The element of `endpoints` of an interface, or of `nearby`.
    fn endpoint(&self, ifindex: &u32) -> Option<Self::Endpoint>;
    /// One word of [`Endpoint::policy`] of the element of `endpoints` of an interface, or of `nearby`: the policy for
    /// connections that start with a packet of `direction`.
    fn policy(&self, ifindex: &u32, slot: usize, direction: Direction) -> Option<Tagged>;
    /// The element of `rules`.
    fn rule(&self, key: &RuleKey) -> Option<RuleEntry>;
    /// The longest match of `ports`.
    fn port(&self, key: &PortKey) -> Option<PortEntry>;
    /// Whether `local_…` may have an element with this tag: without its bit in `local_bits` it has none.
    fn may_be_local(&self, tag: u32) -> bool;
    /// [`crate::table::Control::tick_s`].
    fn now_s(&self) -> u32;
    /// [`crate::table::Control::writes`].
    fn writes(&self) -> u32;
    /// Counts a packet of `bytes` in an element of `counters`.
    fn count(&self, element: u32, direction: Direction, reason: Reason, bytes: u32);
}

/// Looks for an element, and once more where it may have been missed, or another's been found, because the agent was
/// writing meanwhile: whoever walks a chain of a hash while an element of it is replaced may leave the chain with it
/// (`lookup_nulls_elem_raw` in kernel/bpf/hashtab.c). It does not happen again and again.
#[inline(always)]
pub fn find<T: Tables, V>(tables: &T, look: impl Fn() -> Option<V>, is_it: impl Fn(&V) -> bool) -> Option<V> {
    let writes = tables.writes();
    let found = look();
    let is_sure = match &found {
        Some(found) => is_it(found),
        None => writes & 1 == 0 && tables.writes() == writes,
    };
    if is_sure { found } else { look() }
}

/// The tables of an address family.
pub trait FamilyTables<F: Family> {
    /// The element of `local_…`.
    fn local(&self, address: &F::Addr) -> Option<Local>;
    /// One slot of the element of `ident_…`.
    fn ident(&self, address: &F::Addr, slot: usize) -> Option<Tagged>;
    /// One slot of the longest match of `nets_…`.
    fn net(&self, address: &F::Addr, slot: usize) -> Option<u32>;
    /// The element of `flows_…`.
    fn flow(&self, key: &FlowKeyOf<F>) -> Option<Flow>;
    /// Makes an element of `flows_…` unless there is one already.
    fn insert_flow(&self, key: &FlowKeyOf<F>, flow: &Flow);
    /// Makes an element of `flows_…`, in place of one that may be there.
    fn replace_flow(&self, key: &FlowKeyOf<F>, flow: &Flow);
    /// Writes the state of an element of `flows_…`, if it still is the known one: another CPU's judgement stays.
    fn store_flow_state(&self, key: &FlowKeyOf<F>, known: FlowState, state: FlowState);
    /// Writes [`Flow::seen_s`] and [`Flow::arrival`] of an element of `flows_…`, if it is still there.
    fn store_flow_seen(&self, key: &FlowKeyOf<F>, seen_s: u32, arrival: Arrival);
    /// The element of `cuts_…`.
    fn cut(&self, key: &FlowKeyOf<F>) -> Option<Cut>;
    /// Makes an element of `cuts_…`.
    fn note_cut(&self, key: &FlowKeyOf<F>, cut: &Cut);
    /// Writes [`crate::table::Cut::seen_s`] of an element of `cuts_…`; returns whether there is one. As long as somebody goes
    /// on trying what was cut, it is not forgotten.
    fn renew_cut(&self, key: &FlowKeyOf<F>, seen_s: u32) -> bool;
    /// Removes an element of `cuts_…`, if there is one.
    fn forget_cut(&self, key: &FlowKeyOf<F>);
}

/// The steps of the decision to which many paths lead. The kernel's verifier follows every path of a program, but looks only
/// once at a function that is known by its name alone: there each of these is one.
pub trait Steps<F: Network>: FamilyTables<F> {
    /// [`Case::judge`].
    fn unsettled(&self, case: Case<'_, F::Addr>) -> Verdict;
    /// [`Question::answer`].
    fn answer(&self, key: &FlowKeyOf<F>, question: Question) -> Verdict;
}

/// All tables.
pub trait AllTables: Tables + Steps<V4> + Steps<V6> {}

impl<T: Tables + Steps<V4> + Steps<V6>> AllTables for T {}
