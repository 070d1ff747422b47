//! Packets that change nothing of what is known: whose they are is looked at all the same (docs/semantics.md §7, §8).

use policy_common::decide::{Context, to_pod};
use policy_common::reason::Reason::{Established, NoRule, Node, NotIsolated};
use policy_core::modelled::Modelled;
use policy_core::testing::packets::Policies::{Closed, Open};
use policy_core::testing::packets::Who::{Host, Web};
use policy_core::testing::packets::flags::{ACK, SYN, SYN_ACK};
use policy_core::testing::packets::words::{Word, arrives, drop, from_client, pass, sends};
use policy_core::testing::packets::{Frame, Hook, Sight, Stage, Step, UPLINK, WEB};

use crate::{V4, play};

fn from_host(flags: u8) -> Vec<u8> {
    Frame::new(V4, Host, Web).tcp(4000, 80, flags)
}

/// A packet comes from the node itself, but from none of its sockets.
fn forwarded(frame: Vec<u8>, (allow, reason): Word) -> Step {
    Step::Packet(Sight { hook: Hook::ToPod, frame, arrival: 0, has_socket: false, allow, reason })
}

#[test]
fn only_sockets_of_the_node_go_on_with_what_it_opened() {
    play(
        Closed,
        [
            arrives(from_host(SYN), 0, pass(Node)),
            sends(Frame::new(V4, Web, Host).tcp(80, 4000, SYN_ACK), pass(Established)),
            arrives(from_host(ACK), 0, pass(Established)),
            forwarded(from_host(ACK), drop(NoRule)),
            arrives(from_host(ACK), 0, pass(Established)),
        ],
    );
}

/// Unless it opens a connection of its own.
#[test]
fn a_packet_in_mid_stream_takes_nothing_from_the_node() {
    play(
        Open,
        [
            arrives(from_host(SYN), 0, pass(Node)),
            forwarded(from_host(ACK), pass(NotIsolated)),
            arrives(from_host(ACK), 0, pass(Established)),
            forwarded(from_host(SYN), pass(NotIsolated)),
            arrives(from_host(ACK), 0, pass(Node)),
        ],
    );
}

#[test]
fn a_socket_of_the_node_does_not_go_on_with_what_another_opened_under_its_address() {
    let flows = play(
        Open,
        [
            forwarded(from_host(SYN), pass(NotIsolated)),
            forwarded(from_host(ACK), pass(Established)),
            arrives(from_host(ACK), 0, pass(Node)),
        ],
    );
    assert!(flows.v4.flows.values().all(|flow| flow.state.is_node()), "it is the node's now");
}

/// A reply of the node makes it no connection of the node's, which policies could not cut.
#[test]
fn what_the_endpoint_opened_to_the_node_stays_the_endpoints() {
    let to_host = |flags| Frame::new(V4, Web, Host).tcp(80, 4000, flags);
    play(
        Open,
        [
            sends(to_host(SYN), pass(NotIsolated)),
            arrives(from_host(SYN_ACK), 0, pass(Established)),
            sends(to_host(ACK), pass(Established)),
            Step::Commit(Closed),
            sends(to_host(ACK), drop(NoRule)),
        ],
    );
}

/// As a transparent proxy of the node does.
#[test]
fn a_socket_of_the_node_under_the_address_of_another_goes_on_with_its_connection() {
    play(
        Open,
        [
            arrives(from_client(V4).tcp(4000, 80, SYN), 0, pass(NotIsolated)),
            arrives(from_client(V4).tcp(4000, 80, ACK), 0, pass(Established)),
        ],
    );
}

#[test]
fn a_connection_was_last_seen_when_its_last_packet_came() {
    let stage = Stage::new(Open);
    let context = Context { ifindex: WEB, ingress_ifindex: UPLINK, has_socket: false };
    let mut modelled = Modelled::new(stage.node().tables());
    for (now_s, flags) in [(1, SYN), (2, ACK), (2, ACK), (5, ACK)] {
        modelled.now_s = now_s;
        assert!(to_pod(&from_client(V4).tcp(4000, 80, flags)[..], &context, &modelled).allow);
        let flows = modelled.flows.borrow();
        assert_eq!(flows.v4.flows.values().map(|flow| flow.seen_s).collect::<Vec<_>>(), [now_s]);
    }
}
