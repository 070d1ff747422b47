//! Connections live under the policy in force, and under nobody's memory but the flow table's (docs/semantics.md §8).

use std::net::IpAddr;

use policy_common::decide::{Context, Verdict, from_pod, to_pod};
use policy_common::reason::Reason;
use policy_common::table::{EndpointPolicy, Tagged};
use policy_core::compile::Subjects;
use policy_core::index::PodEntry;
use policy_core::judge::opening_packet;
use policy_core::model::{Connection, Event, Protocol, Transport};
use policy_core::modelled::{Flows, Modelled};
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Limits, TableState};
use policy_core::testing::{abc, namespace, pod, pods, policy, rule};

const WEB: u32 = 1;
const CLIENT: u32 = 2;
const UPLINK: u32 = 99;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A node with the endpoint `a/shop/web` (10.1.0.1) behind [`WEB`], and a client (10.1.0.2) on another node.
fn node() -> Node {
    let set = abc()
        .with(namespace("a/shop"))
        .with(pod("a/shop/web").labels("app=web").ip("10.1.0.1").node("n1"))
        .with(pod("a/shop/client").labels("app=client").ip("10.1.0.2").node("n2"));
    let mut node = Node::new(set.config(), Subjects::OnNode("n1".into()), TableState::default(), Limits::default());
    apply(&mut node, &set.events());
    node
}

fn apply(node: &mut Node, events: &[Event]) {
    node.apply(events);
    let keys: Vec<_> = node.detached().map(PodEntry::key).collect();
    for key in keys {
        node.attach(&key, Attachment { ifindex: WEB, bridge: None });
    }
    node.settle().expect("there are no limits");
}

fn ingress_from_client() -> Event {
    policy("a/shop/web-in").select("app=web").ingress([rule().peer(pods("app=client")).ports("TCP/80")]).into()
}

fn nothing_out() -> Event {
    policy("a/shop/web-out").select("app=web").no_egress().into()
}

fn nothing_in() -> Event {
    policy("a/shop/web-in").select("app=web").no_ingress().into()
}

/// A TCP segment between the client's port 54321 and the web's port 80, in either direction.
fn segment(from_client: bool, flags: u8) -> Vec<u8> {
    let (client, web): (IpAddr, IpAddr) = ("10.1.0.2".parse().expect("ip"), "10.1.0.1".parse().expect("ip"));
    let (source, destination) = if from_client { (client, web) } else { (web, client) };
    let connection = Connection { source, destination, transport: Transport::Port(Protocol::Tcp, 80) };
    let mut packet = opening_packet(&connection).expect("a packet");
    if !from_client {
        packet[34..38].rotate_left(2);
    }
    packet[47] = flags;
    packet
}

/// What the web's hooks say, with flows that outlive the tables that are in force.
struct Hooks<'a> {
    tables: Modelled<'a>,
}

impl<'a> Hooks<'a> {
    fn new(node: &'a Node) -> Self {
        Self { tables: Modelled::new(node.tables()) }
    }

    fn forget(&self) {
        self.tables.forget_flows();
    }

    fn client_sends(&self, flags: u8) -> Verdict {
        let context = Context { ifindex: WEB, ingress_ifindex: UPLINK, has_socket: false };
        to_pod(segment(true, flags).as_slice(), &context, &self.tables)
    }

    fn web_sends(&self, flags: u8) -> Verdict {
        let context = Context { ifindex: WEB, ingress_ifindex: WEB, has_socket: false };
        from_pod(segment(false, flags).as_slice(), &context, &self.tables)
    }
}

#[test]
fn replies_of_an_allowed_connection_pass_an_isolated_egress() {
    let mut node = node();
    apply(&mut node, &[ingress_from_client(), nothing_out()]);
    let hooks = Hooks::new(&node);
    assert_eq!(hooks.client_sends(SYN).reason, Reason::Rule);
    assert_eq!(hooks.web_sends(SYN | ACK), Verdict::allow(Reason::Established));
    assert_eq!(hooks.client_sends(ACK), Verdict::allow(Reason::Established));
}

#[test]
fn reply_is_dropped_when_the_table_forgot_the_opener() {
    let mut node = node();
    apply(&mut node, &[ingress_from_client(), nothing_out()]);
    let hooks = Hooks::new(&node);
    assert!(hooks.client_sends(SYN).allow);
    hooks.forget();
    assert_eq!(hooks.web_sends(ACK), Verdict::deny(Reason::NoRule));
    assert_eq!(hooks.client_sends(ACK).reason, Reason::Rule, "the opener's next packet is judged anew");
    assert!(hooks.web_sends(ACK).allow, "and then replies pass again");
}

#[test]
fn a_connection_that_is_no_longer_allowed_stops_within_a_packet_in_both_directions() {
    let mut node = node();
    let before = Hooks::new(&node);
    assert!(before.client_sends(SYN).allow);
    let flows = before.tables.into_flows();
    apply(&mut node, &[nothing_in()]);
    let hooks = Hooks { tables: Modelled::with_flows(node.tables(), flows) };
    assert_eq!(hooks.web_sends(ACK), Verdict::deny(Reason::NoRule), "the web's egress is open, but it did not open");
    assert_eq!(hooks.client_sends(ACK), Verdict::deny(Reason::NoRule));
    assert_eq!(hooks.web_sends(SYN).reason, Reason::NotIsolated, "a pure SYN is a new connection");
}

#[test]
fn what_was_cut_does_not_come_back_as_a_reply_of_the_responder() {
    let mut node = node();
    apply(&mut node, &[nothing_in()]);
    let hooks = Hooks::new(&node);
    assert_eq!(hooks.web_sends(ACK).reason, Reason::NotIsolated, "the table has forgotten the connection");
    assert_eq!(hooks.client_sends(ACK), Verdict::deny(Reason::NoRule), "and the client is still not admitted");
}

#[test]
fn a_commit_makes_live_connections_be_judged_again_and_go_on() {
    let mut node = node();
    let hooks = Hooks::new(&node);
    assert_eq!(hooks.client_sends(SYN).reason, Reason::NotIsolated);
    let flows = hooks.tables.into_flows();
    apply(&mut node, &[ingress_from_client(), nothing_out()]);
    let hooks = Hooks { tables: Modelled::with_flows(node.tables(), flows) };
    assert_eq!(hooks.web_sends(ACK).reason, Reason::Rule, "judged as the client would be");
    assert_eq!(hooks.web_sends(ACK), Verdict::allow(Reason::Established));
}

#[test]
fn a_new_pod_with_an_old_address_inherits_no_connection() {
    let mut node = node();
    apply(&mut node, &[ingress_from_client(), nothing_out()]);
    let hooks = Hooks::new(&node);
    assert!(hooks.client_sends(SYN).allow);
    let flows = hooks.tables.into_flows();
    let old = pod("a/shop/web").labels("app=web").ip("10.1.0.1").node("n1");
    let new = pod("a/shop/web-2").labels("app=web").ip("10.1.0.1").node("n1");
    apply(&mut node, &[old.deleted(), new.into()]);
    let hooks = Hooks { tables: Modelled::with_flows(node.tables(), flows) };
    assert_eq!(hooks.web_sends(ACK), Verdict::deny(Reason::NoRule));
}

/// The client moves to this node while its connection lives.
fn client_moves_here(node: &mut Node) -> Flows {
    let hooks = Hooks::new(node);
    assert!(hooks.client_sends(SYN).allow);
    let flows = hooks.tables.into_flows();
    let old = pod("a/shop/client").labels("app=client").ip("10.1.0.2").node("n2");
    let new = pod("a/shop/client-2").labels("app=client").ip("10.1.0.2").node("n1");
    node.apply(&[old.deleted(), new.clone().into()]);
    node.attach(&new.build().key, Attachment { ifindex: CLIENT, bridge: None });
    node.settle().expect("there are no limits");
    flows
}

#[test]
fn a_martian_does_not_profit_from_a_flow_of_before_its_address_was_local() {
    for flags in [ACK, SYN] {
        let mut node = node();
        let flows = client_moves_here(&mut node);
        let hooks = Hooks { tables: Modelled::with_flows(node.tables(), flows) };
        assert_eq!(hooks.client_sends(flags), Verdict::deny(Reason::MartianSource), "it still comes from elsewhere");
    }
}

#[test]
fn an_answer_to_a_martian_does_not_vouch_for_it() {
    for flags in [ACK, SYN] {
        let mut node = node();
        let flows = client_moves_here(&mut node);
        let hooks = Hooks { tables: Modelled::with_flows(node.tables(), flows) };
        assert!(hooks.web_sends(flags).allow, "judged again, or anew, under the new commit");
        assert_eq!(hooks.client_sends(ACK), Verdict::deny(Reason::MartianSource));
    }
}

#[test]
fn a_flow_of_the_nodes_ends_with_the_nodes_address() {
    let mut node = node();
    node.set_host_addresses(["10.1.0.2".parse().expect("ip")].into());
    apply(&mut node, &[nothing_in(), nothing_out()]);
    let hooks = Hooks::new(&node);
    let by_node = Context { ifindex: WEB, ingress_ifindex: 0, has_socket: true };
    assert_eq!(to_pod(segment(true, SYN).as_slice(), &by_node, &hooks.tables), Verdict::allow(Reason::Node));
    assert!(hooks.web_sends(SYN | ACK).allow);
    let flows = hooks.tables.into_flows();
    // The address fails over to another node.
    node.set_host_addresses([].into());
    node.settle().expect("there are no limits");
    let hooks = Hooks { tables: Modelled::with_flows(node.tables(), flows) };
    assert_eq!(hooks.web_sends(ACK), Verdict::deny(Reason::NoRule));
}

#[test]
fn a_connection_on_the_ports_of_one_that_has_ended_is_not_about_to_end() {
    let mut node = node();
    apply(&mut node, &[ingress_from_client(), nothing_out()]);
    let hooks = Hooks::new(&node);
    for flags in [SYN, ACK | FIN, SYN] {
        assert!(hooks.client_sends(flags).allow);
    }
    assert!(hooks.web_sends(SYN | ACK).allow);
    assert!(hooks.tables.into_flows().v4.flows.values().all(|flow| !flow.state.is_closing()));
}

#[test]
fn a_packet_with_a_foreign_source_does_not_leave() {
    let node = node();
    let hooks = Hooks::new(&node);
    let context = Context { ifindex: WEB, ingress_ifindex: WEB, has_socket: false };
    let lie = from_pod(segment(true, SYN).as_slice(), &context, &hooks.tables);
    assert_eq!(lie, Verdict::deny(Reason::SpoofedSource));
}

#[test]
fn a_word_of_another_endpoint_is_not_believed() {
    let mut node = node();
    apply(&mut node, &[nothing_in()]);
    let mut state = node.tables().clone();
    let endpoint = state.endpoints.get_mut(&WEB).expect("the web is an endpoint");
    let foreign = Tagged { tag: endpoint.endpoint.id + 1, id: 0 };
    endpoint.policy = [EndpointPolicy { egress: foreign, ingress: foreign }; 2];
    let context = Context { ifindex: WEB, ingress_ifindex: UPLINK, has_socket: false };
    let verdict = to_pod(segment(true, SYN).as_slice(), &context, &Modelled::new(&state));
    assert_eq!(verdict, Verdict::deny(Reason::TableRace));
}
