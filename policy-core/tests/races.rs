//! What another CPU does between two steps of a decision changes no verdict for the worse (docs/semantics.md §8).

use std::cell::{Cell, RefCell};

use policy_common::decide::{Case, Context, Question, Verdict, from_pod, to_pod};
use policy_common::family::{Family, FlowKeyOf, V4, V6};
use policy_common::reason::Reason;
use policy_common::table::{
    Arrival, Cut, Endpoint, Flow, FlowState, Local, PortEntry, PortKey, RuleEntry, RuleKey, Tagged,
};
use policy_common::tables::{Direction, FamilyTables, Steps, Tables};
use policy_core::modelled::{Flows, Modelled};
use policy_core::plan::TableState;
use policy_core::testing::packets::Policies::{CallsOnly, Open};
use policy_core::testing::packets::Step::{Commit, OtherCommit};
use policy_core::testing::packets::Who::{Client, Web};
use policy_core::testing::packets::flags::{ACK, FIN, SYN, SYN_ACK};
use policy_core::testing::packets::{DB, Frame, Hook, Ip, Stage, UPLINK, WEB};

/// Where in a decision the other CPU is faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// A flow is written to.
    FlowWrite,
    /// The policy is looked up.
    Policy,
}

/// What the other CPU does meanwhile, once.
type Meanwhile<'a> = Box<dyn FnOnce(&Modelled<'_>) + 'a>;

/// Tables of which another CPU makes use between two steps.
struct Racing<'a> {
    tables: Modelled<'a>,
    before: Before,
    meanwhile: RefCell<Option<Meanwhile<'a>>>,
    /// How many look-ups of the policy still find nothing.
    missed: Cell<usize>,
}

impl Racing<'_> {
    fn reach(&self, place: Before) {
        if place == self.before
            && let Some(meanwhile) = self.meanwhile.take()
        {
            meanwhile(&self.tables);
        }
    }
}

impl Tables for Racing<'_> {
    type Endpoint = Endpoint;

    fn commit(&self) -> u64 {
        self.tables.commit()
    }

    fn endpoint(&self, ifindex: &u32) -> Option<Endpoint> {
        self.tables.endpoint(ifindex)
    }

    fn policy(&self, ifindex: &u32, slot: usize, direction: Direction) -> Option<Tagged> {
        self.reach(Before::Policy);
        if let Some(left) = self.missed.get().checked_sub(1) {
            self.missed.set(left);
            return None;
        }
        self.tables.policy(ifindex, slot, direction)
    }

    fn rule(&self, key: &RuleKey) -> Option<RuleEntry> {
        self.tables.rule(key)
    }

    fn port(&self, key: &PortKey) -> Option<PortEntry> {
        self.tables.port(key)
    }

    fn may_be_local(&self, _tag: u32) -> bool {
        true
    }

    fn now_s(&self) -> u32 {
        self.tables.now_s()
    }

    fn writes(&self) -> u32 {
        self.tables.writes()
    }

    fn count(&self, _element: u32, _direction: Direction, _reason: Reason, _bytes: u32) {}
}

impl<F: Family> FamilyTables<F> for Racing<'_>
where
    for<'a> Modelled<'a>: FamilyTables<F>,
{
    fn local(&self, address: &F::Addr) -> Option<Local> {
        FamilyTables::<F>::local(&self.tables, address)
    }

    fn ident(&self, address: &F::Addr, slot: usize) -> Option<Tagged> {
        FamilyTables::<F>::ident(&self.tables, address, slot)
    }

    fn net(&self, address: &F::Addr, slot: usize) -> Option<u32> {
        FamilyTables::<F>::net(&self.tables, address, slot)
    }

    fn flow(&self, key: &FlowKeyOf<F>) -> Option<Flow> {
        FamilyTables::<F>::flow(&self.tables, key)
    }

    fn insert_flow(&self, key: &FlowKeyOf<F>, flow: &Flow) {
        self.reach(Before::FlowWrite);
        FamilyTables::<F>::insert_flow(&self.tables, key, flow);
    }

    fn replace_flow(&self, key: &FlowKeyOf<F>, flow: &Flow) {
        self.reach(Before::FlowWrite);
        FamilyTables::<F>::replace_flow(&self.tables, key, flow);
    }

    fn store_flow_state(&self, key: &FlowKeyOf<F>, known: FlowState, state: FlowState) {
        self.reach(Before::FlowWrite);
        FamilyTables::<F>::store_flow_state(&self.tables, key, known, state);
    }

    fn store_flow_seen(&self, key: &FlowKeyOf<F>, seen_s: u32, arrival: Arrival) {
        self.reach(Before::FlowWrite);
        FamilyTables::<F>::store_flow_seen(&self.tables, key, seen_s, arrival);
    }

    fn cut(&self, key: &FlowKeyOf<F>) -> Option<Cut> {
        FamilyTables::<F>::cut(&self.tables, key)
    }

    fn note_cut(&self, key: &FlowKeyOf<F>, cut: &Cut) {
        FamilyTables::<F>::note_cut(&self.tables, key, cut);
    }

    fn renew_cut(&self, key: &FlowKeyOf<F>, seen_s: u32) -> bool {
        FamilyTables::<F>::renew_cut(&self.tables, key, seen_s)
    }

    fn forget_cut(&self, key: &FlowKeyOf<F>) {
        FamilyTables::<F>::forget_cut(&self.tables, key);
    }
}

macro_rules! steps {
    ($($family:ty),*) => {
        $(
            impl Steps<$family> for Racing<'_> {
                fn unsettled(&self, case: Case<'_, <$family as Family>::Addr>) -> Verdict {
                    case.judge::<$family, _>(self)
                }

                fn answer(&self, key: &FlowKeyOf<$family>, question: Question) -> Verdict {
                    question.answer::<$family, _>(key, self)
                }
            }
        )*
    };
}

steps!(V4, V6);

/// A packet, its way, and by which interface it came.
type Packet = (Hook, Vec<u8>, u32);

fn judge<T: policy_common::tables::AllTables>(tables: &T, (hook, frame, arrival): &Packet) -> (bool, Reason) {
    let context = Context { ifindex: WEB, ingress_ifindex: *arrival, has_socket: false };
    let verdict = match hook {
        Hook::FromPod => from_pod(frame.as_slice(), &context, tables),
        Hook::ToPod => to_pod(frame.as_slice(), &context, tables),
    };
    (verdict.allow, verdict.reason)
}

fn sent(frame: Vec<u8>) -> Packet {
    (Hook::FromPod, frame, WEB)
}

fn got(frame: Vec<u8>) -> Packet {
    (Hook::ToPod, frame, UPLINK)
}

/// One packet after another.
fn play(tables: &TableState, flows: Flows, packets: &[Packet]) -> Flows {
    let modelled = Modelled::with_flows(tables, flows);
    for packet in packets {
        assert!(judge(&modelled, packet).0, "{packet:?}");
    }
    modelled.into_flows()
}

/// A packet during whose decision others are judged under tables of their own.
fn race(tables: &TableState, flows: Flows, packet: &Packet, before: Before, others: (&TableState, &[Packet])) -> Flows {
    let (their_tables, packets) = others;
    let meanwhile: Meanwhile<'_> = Box::new(move |shared: &Modelled<'_>| {
        let flows = shared.flows.take();
        shared.flows.replace(play(their_tables, flows, packets));
    });
    let racing = Racing {
        tables: Modelled::with_flows(tables, flows),
        before,
        meanwhile: RefCell::new(Some(meanwhile)),
        missed: Cell::new(0),
    };
    judge(&racing, packet);
    assert!(racing.meanwhile.borrow().is_none(), "nothing happened meanwhile");
    racing.tables.into_flows()
}

fn after(stage: &mut Stage, step: &policy_core::testing::packets::Step) -> TableState {
    stage.act(step);
    stage.node().tables().clone()
}

fn from_client() -> Frame {
    Frame::new(Ip::V4, Client, Web)
}

fn to_client() -> Frame {
    Frame::new(Ip::V4, Web, Client)
}

/// The client's packet is still being judged under the commit before, when the address has become another's.
#[test]
fn a_late_packet_of_an_earlier_commit_vouches_for_no_interface() {
    let mut stage = Stage::new(Open);
    let before = stage.node().tables().clone();
    // The packet comes by another way than those before, so there is something to write down.
    let (opening, late) = (got(from_client().tcp(4000, 80, SYN)), (Hook::ToPod, from_client().tcp(4000, 80, ACK), DB));
    let flows = play(&before, Flows::default(), &[opening]);
    // The client's address is an endpoint's of this node, behind another interface than the late packet came by.
    let mut now = after(&mut stage, &OtherCommit);
    let client = "10.2.0.1".parse().expect("an address");
    let tag = policy_core::plan::address_tag(client);
    now.local.set(client, Some(Local { tag, ifindex: 5000, bridge: 0, reserved: 0 }));
    let honest = (Hook::ToPod, from_client().tcp(4000, 80, ACK), 5000);
    let flows = race(&before, flows, &late, Before::FlowWrite, (&now, &[honest]));
    let modelled = Modelled::with_flows(&now, flows);
    assert_eq!(judge(&modelled, &late), (false, Reason::MartianSource));
}

/// One CPU sees the end of a connection; before it has written that down, another gives the ports to the other end's.
#[test]
fn the_end_of_a_connection_does_not_undo_who_opened_the_next() {
    let mut stage = Stage::new(Open);
    let tables = stage.node().tables().clone();
    let flows = play(
        &tables,
        Flows::default(),
        &[
            got(from_client().tcp(4000, 443, SYN)),
            sent(to_client().tcp(443, 4000, SYN_ACK)),
            sent(to_client().tcp(443, 4000, SYN)),
        ],
    );
    let fin = sent(to_client().tcp(443, 4000, FIN));
    let flows = race(&tables, flows, &fin, Before::FlowWrite, (&tables, &[got(from_client().tcp(4000, 443, SYN_ACK))]));
    // From now on only what the pod opens is allowed.
    let calls = after(&mut stage, &Commit(CallsOnly));
    let modelled = Modelled::with_flows(&calls, flows);
    assert_eq!(judge(&modelled, &sent(to_client().tcp(443, 4000, ACK))), (true, Reason::Rule));
    assert_eq!(judge(&modelled, &got(from_client().tcp(4000, 443, ACK))), (true, Reason::Established));
}

/// Two CPUs judge the same connection anew: neither's judgement is lost on the other's account.
#[test]
fn two_judgements_at_once_leave_one_that_allows() {
    let mut stage = Stage::new(Open);
    let tables = stage.node().tables().clone();
    let flows = play(&tables, Flows::default(), &[sent(to_client().tcp(443, 4000, SYN))]);
    let now = after(&mut stage, &Commit(CallsOnly));
    let out = sent(to_client().tcp(443, 4000, ACK));
    let flows = race(&now, flows, &out, Before::Policy, (&now, &[got(from_client().tcp(4000, 443, ACK))]));
    let modelled = Modelled::with_flows(&now, flows);
    assert_eq!(judge(&modelled, &got(from_client().tcp(4000, 443, ACK))), (true, Reason::Established));
}

/// An element is missed at most once while it is replaced; an endpoint that is gone has no policies, not open ones.
#[test]
fn nothing_passes_for_an_endpoint_whose_policies_are_gone() {
    let stage = Stage::new(Open);
    let judged = |missed| {
        let (tables, missed) = (Modelled::new(stage.node().tables()), Cell::new(missed));
        let racing = Racing { tables, before: Before::Policy, meanwhile: RefCell::new(None), missed };
        judge(&racing, &got(from_client().tcp(4000, 80, SYN)))
    };
    assert_eq!(judged(1), (true, Reason::NotIsolated));
    assert_eq!(judged(2), (false, Reason::TableRace));
}
