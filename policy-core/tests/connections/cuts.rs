//! What a policy cut stays cut, and what counts as cut (docs/semantics.md §11).

use policy_common::decide::{Context, from_pod, to_pod};
use policy_common::reason::Reason::{Established, NoRule, Node, NotIsolated, Rule};
use policy_core::modelled::Modelled;
use policy_core::testing::packets::Policies::{Calls, CallsOnly, Closed, Open, Served, ServedOnly};
use policy_core::testing::packets::Step::{Commit, Forget, OtherCommit};
use policy_core::testing::packets::Who::{Host, Web};
use policy_core::testing::packets::flags::{ACK, SYN, SYN_ACK};
use policy_core::testing::packets::words::{arrives, drop, from_client, gets, pass, sends, to_client};
use policy_core::testing::packets::{Frame, Stage, UPLINK, WEB, chunk};

use crate::{V4, play};

/// §11: "what was cut never comes back as somebody's reply, though a rule without ports would let its other end open one".
/// As the row of that name, with two commits in a row in which only the pod sends.
#[test]
fn a_cut_connection_does_not_come_back_after_two_commits() {
    play(
        Open,
        [
            gets(from_client(V4).tcp(4000, 81, SYN), pass(NotIsolated)),
            Commit(CallsOnly),
            gets(from_client(V4).tcp(4000, 81, ACK), drop(NoRule)),
            Forget,
            sends(to_client(V4).tcp(81, 4000, ACK), pass(Rule)),
            gets(from_client(V4).tcp(4000, 81, ACK), drop(NoRule)),
            OtherCommit,
            sends(to_client(V4).tcp(81, 4000, ACK), pass(Rule)),
            OtherCommit,
            sends(to_client(V4).tcp(81, 4000, ACK), pass(Rule)),
            gets(from_client(V4).tcp(4000, 81, ACK), drop(NoRule)),
        ],
    );
}

/// The same, after an eviction between the two commits.
#[test]
fn a_cut_connection_does_not_come_back_after_a_commit_and_an_eviction() {
    for (hit, reply) in [
        (from_client(V4).tcp(4000, 81, ACK), to_client(V4).tcp(81, 4000, ACK)),
        (from_client(V4).udp(4000, 81), to_client(V4).udp(81, 4000)),
        (from_client(V4).sctp_chunk(4000, 81, chunk::DATA), to_client(V4).sctp_chunk(81, 4000, chunk::DATA)),
    ] {
        play(
            Open,
            [
                gets(from_client(V4).tcp(4000, 81, SYN), pass(NotIsolated)),
                gets(from_client(V4).udp(4000, 81), pass(NotIsolated)),
                gets(from_client(V4).sctp(4000, 81), pass(NotIsolated)),
                Commit(CallsOnly),
                gets(hit.clone(), drop(NoRule)),
                Forget,
                sends(reply.clone(), pass(Rule)),
                gets(hit.clone(), drop(NoRule)),
                OtherCommit,
                sends(reply.clone(), pass(Rule)),
                Forget,
                sends(reply.clone(), pass(Rule)),
                gets(hit, drop(NoRule)),
            ],
        );
    }
}

/// §11: "nothing but what opens a connection, or a policy that allows it again": a policy allows it again.
#[test]
fn a_cut_and_forgotten_connection_goes_on_when_it_is_allowed_again() {
    play(
        Open,
        [
            gets(from_client(V4).tcp(4000, 80, SYN), pass(NotIsolated)),
            Commit(CallsOnly),
            gets(from_client(V4).tcp(4000, 80, ACK), drop(NoRule)),
            Forget,
            Commit(ServedOnly),
            gets(from_client(V4).tcp(4000, 80, ACK), pass(Rule)),
            sends(to_client(V4).tcp(80, 4000, ACK), pass(Established)),
        ],
    );
}

/// Though its flow is still there.
#[test]
fn nothing_is_noted_any_more_of_a_cut_connection_that_is_allowed_again() {
    let flows = play(
        Open,
        [
            gets(from_client(V4).tcp(4000, 80, SYN), pass(NotIsolated)),
            Commit(CallsOnly),
            gets(from_client(V4).tcp(4000, 80, ACK), drop(NoRule)),
            Commit(ServedOnly),
            gets(from_client(V4).tcp(4000, 80, ACK), pass(Rule)),
            sends(to_client(V4).tcp(80, 4000, ACK), pass(Established)),
        ],
    );
    assert!(flows.v4.cuts.is_empty());
}

#[test]
fn a_cut_and_forgotten_udp_exchange_goes_on_when_it_is_allowed_again() {
    play(
        Open,
        [
            gets(from_client(V4).udp(4000, 53), pass(NotIsolated)),
            Commit(CallsOnly),
            gets(from_client(V4).udp(4000, 53), drop(NoRule)),
            Forget,
            Commit(ServedOnly),
            gets(from_client(V4).udp(4000, 53), pass(Rule)),
            sends(to_client(V4).udp(53, 4000), pass(Established)),
        ],
    );
}

/// §11: "nothing but what opens a connection": a SYN opens it, but the note of the cut stays for days.
#[test]
fn a_connection_opened_on_the_ports_of_a_cut_one_outlives_its_flow() {
    let flows = play(
        Open,
        [
            gets(from_client(V4).tcp(4000, 80, SYN), pass(NotIsolated)),
            Commit(CallsOnly),
            gets(from_client(V4).tcp(4000, 80, ACK), drop(NoRule)),
            Forget,
            Commit(ServedOnly),
            gets(from_client(V4).tcp(4000, 80, SYN), pass(Rule)),
            sends(to_client(V4).tcp(80, 4000, SYN_ACK), pass(Established)),
            Forget,
            gets(from_client(V4).tcp(4000, 80, ACK), pass(Rule)),
            sends(to_client(V4).tcp(80, 4000, ACK), pass(Established)),
        ],
    );
    assert!(flows.v4.cuts.is_empty());
}

/// The same, where it is the other end that opens one, and the cut one's flow had been forgotten before.
#[test]
fn a_syn_of_the_other_end_ends_what_is_remembered_of_a_cut_connection() {
    let flows = play(
        Open,
        [
            gets(from_client(V4).tcp(4000, 443, SYN), pass(NotIsolated)),
            Commit(CallsOnly),
            gets(from_client(V4).tcp(4000, 443, ACK), drop(NoRule)),
            Forget,
            sends(to_client(V4).tcp(443, 4000, SYN), pass(Rule)),
            gets(from_client(V4).tcp(4000, 443, SYN_ACK), pass(Established)),
            Forget,
            sends(to_client(V4).tcp(443, 4000, ACK), pass(Rule)),
            gets(from_client(V4).tcp(4000, 443, ACK), pass(Established)),
        ],
    );
    assert!(flows.v4.cuts.is_empty());
}

/// ARCHITECTURE.md: "noted in tables of its own (`cuts_…`), into which nothing else comes"; table.rs: "so a flood does not
/// reach them". No policy changes here.
#[test]
fn what_was_only_denied_is_not_noted_as_cut() {
    let flows = play(
        Served,
        (0..100).flat_map(|port| {
            [
                sends(to_client(V4).tcp(5000 + port, 443, ACK), pass(NotIsolated)),
                gets(from_client(V4).tcp(443, 5000 + port, ACK), drop(NoRule)),
            ]
        }),
    );
    assert_eq!(flows.v4.cuts.len(), 0, "a pod and a friend outside push out what was cut for others");
}

/// §11: "If a *rule* allows that, the sender counts as the opener from then on." No change of policy cut anything.
#[test]
fn what_was_only_denied_can_be_allowed_later() {
    play(
        Served,
        [
            sends(to_client(V4).tcp(4000, 443, ACK), pass(NotIsolated)),
            gets(from_client(V4).tcp(443, 4000, ACK), drop(NoRule)),
            Commit(CallsOnly),
            sends(to_client(V4).tcp(4000, 443, ACK), pass(Rule)),
            gets(from_client(V4).tcp(443, 4000, ACK), pass(Established)),
        ],
    );
}

/// §11: "what was cut never comes back as somebody's reply": by a packet of the node in the middle of the exchange.
#[test]
fn a_cut_udp_exchange_with_the_node_does_not_come_back() {
    let out = || Frame::new(V4, Web, Host).udp(5000, 53);
    play(
        Open,
        [
            sends(out(), pass(NotIsolated)),
            Commit(Closed),
            sends(out(), drop(NoRule)),
            Forget,
            arrives(Frame::new(V4, Host, Web).udp(53, 5000), 0, pass(Node)),
            sends(out(), drop(NoRule)),
        ],
    );
}

/// §11: "what was cut never comes back as somebody's reply", whichever end's packet comes first after the change.
#[test]
fn what_was_cut_while_nobody_counts_as_its_opener_does_not_come_back() {
    for first in [vec![], vec![sends(to_client(V4).tcp(81, 4000, ACK), pass(NotIsolated))]] {
        let before = [gets(from_client(V4).tcp(4000, 81, ACK), pass(NotIsolated)), Commit(Served)];
        let after = [
            gets(from_client(V4).tcp(4000, 81, ACK), drop(NoRule)),
            Commit(CallsOnly),
            sends(to_client(V4).tcp(81, 4000, ACK), pass(Rule)),
            gets(from_client(V4).tcp(4000, 81, ACK), drop(NoRule)),
        ];
        play(Open, before.into_iter().chain(first).chain(after));
    }
}

/// §11: "a policy that allows it again to the end that had opened it", though meanwhile the other end's packets were cut too.
#[test]
fn who_had_opened_what_was_cut_twice_is_known() {
    play(
        Open,
        [
            gets(from_client(V4).tcp(4000, 80, SYN), pass(NotIsolated)),
            Commit(CallsOnly),
            gets(from_client(V4).tcp(4000, 80, ACK), drop(NoRule)),
            Forget,
            sends(to_client(V4).tcp(80, 4000, ACK), pass(Rule)),
            Commit(Closed),
            sends(to_client(V4).tcp(80, 4000, ACK), drop(NoRule)),
            Commit(ServedOnly),
            gets(from_client(V4).tcp(4000, 80, ACK), pass(Rule)),
            sends(to_client(V4).tcp(80, 4000, ACK), pass(Established)),
        ],
    );
}

/// A SYN of either end ends what is remembered of a cut connection, though packets in mid-stream came in between.
#[test]
fn a_syn_after_packets_in_mid_stream_ends_what_is_remembered_of_a_cut_connection() {
    let flows = play(
        Open,
        [
            gets(from_client(V4).tcp(4000, 443, SYN), pass(NotIsolated)),
            Commit(CallsOnly),
            gets(from_client(V4).tcp(4000, 443, ACK), drop(NoRule)),
            Forget,
            sends(to_client(V4).tcp(443, 4000, ACK), pass(Rule)),
            sends(to_client(V4).tcp(443, 4000, SYN), pass(Rule)),
            gets(from_client(V4).tcp(4000, 443, SYN_ACK), pass(Established)),
            Forget,
            sends(to_client(V4).tcp(443, 4000, ACK), pass(Rule)),
            gets(from_client(V4).tcp(4000, 443, ACK), pass(Established)),
        ],
    );
    assert!(flows.v4.cuts.is_empty());
}

/// The same, where the other end had asked before the cut, and is accepted after it.
#[test]
fn a_syn_that_is_accepted_after_the_cut_ends_what_is_remembered_of_it() {
    let flows = play(
        Open,
        [
            gets(from_client(V4).tcp(4000, 443, SYN), pass(NotIsolated)),
            sends(to_client(V4).tcp(443, 4000, SYN), pass(NotIsolated)),
            Commit(CallsOnly),
            gets(from_client(V4).tcp(4000, 443, ACK), drop(NoRule)),
            gets(from_client(V4).tcp(4000, 443, SYN_ACK), pass(Rule)),
            Forget,
            sends(to_client(V4).tcp(443, 4000, ACK), pass(Rule)),
            gets(from_client(V4).tcp(4000, 443, ACK), pass(Established)),
        ],
    );
    assert!(flows.v4.cuts.is_empty());
}

/// As long as somebody goes on trying what was cut, it is not forgotten (its flow may be), so that a sweep leaves it.
#[test]
fn what_was_cut_is_remembered_as_long_as_somebody_goes_on_trying() {
    let (hit, reply) = (from_client(V4).udp(4000, 81), to_client(V4).udp(81, 4000));
    let seen_s = |between: &[&Vec<u8>]| {
        let mut stage = Stage::new(Open);
        let context = Context { ifindex: WEB, ingress_ifindex: UPLINK, has_socket: false };
        let before = Modelled::new(stage.node().tables());
        assert!(to_pod(hit.as_slice(), &context, &before).allow);
        let flows = before.into_flows();
        stage.act(&Commit(CallsOnly));
        let mut tables = Modelled::with_flows(stage.node().tables(), flows);
        assert!(!to_pod(hit.as_slice(), &context, &tables).allow);
        tables.forget_flows();
        for packet in between {
            assert!(from_pod(packet.as_slice(), &context, &tables).allow);
        }
        tables.now_s = 100;
        assert!(!to_pod(hit.as_slice(), &context, &tables).allow);
        tables.into_flows().v4.cuts.values().map(|cut| cut.seen_s).collect::<Vec<_>>()
    };
    assert_eq!(seen_s(&[]), [100]);
    assert_eq!(seen_s(&[&reply]), [100], "the pod's own packets have made another flow");
}

#[test]
fn what_was_only_denied_is_not_noted_as_cut_after_a_commit_either() {
    let flows = play(
        Served,
        [
            sends(to_client(V4).tcp(5000, 443, ACK), pass(NotIsolated)),
            OtherCommit,
            sends(to_client(V4).tcp(5000, 443, ACK), pass(NotIsolated)),
            gets(from_client(V4).tcp(443, 5000, ACK), drop(NoRule)),
        ],
    );
    assert_eq!(flows.v4.cuts.len(), 0);
}

/// As often as a connection was allowed again: that it was is not forgotten.
#[test]
fn what_was_cut_after_several_commits_does_not_come_back() {
    play(
        Open,
        [
            gets(from_client(V4).tcp(4000, 81, ACK), pass(NotIsolated)),
            OtherCommit,
            gets(from_client(V4).tcp(4000, 81, ACK), pass(NotIsolated)),
            Commit(Served),
            sends(to_client(V4).tcp(81, 4000, ACK), pass(NotIsolated)),
            gets(from_client(V4).tcp(4000, 81, ACK), drop(NoRule)),
            Commit(CallsOnly),
            sends(to_client(V4).tcp(81, 4000, ACK), pass(Rule)),
            gets(from_client(V4).tcp(4000, 81, ACK), drop(NoRule)),
        ],
    );
    play(
        Open,
        [
            sends(to_client(V4).tcp(81, 4000, ACK), pass(NotIsolated)),
            OtherCommit,
            sends(to_client(V4).tcp(81, 4000, ACK), pass(NotIsolated)),
            Commit(Calls),
            gets(from_client(V4).tcp(4000, 81, ACK), pass(NotIsolated)),
            sends(to_client(V4).tcp(81, 4000, ACK), drop(NoRule)),
            Commit(ServedOnly),
            gets(from_client(V4).tcp(4000, 81, ACK), pass(Rule)),
            sends(to_client(V4).tcp(81, 4000, ACK), drop(NoRule)),
        ],
    );
}

/// tables.rs: "As long as somebody goes on trying what was cut, it is not forgotten."
#[test]
fn a_cut_connection_was_last_seen_when_it_was_last_tried() {
    let mut stage = Stage::new(Open);
    let context = Context { ifindex: WEB, ingress_ifindex: UPLINK, has_socket: false };
    let opening = Modelled::new(stage.node().tables());
    assert!(to_pod(&from_client(V4).tcp(4000, 80, SYN)[..], &context, &opening).allow);
    let flows = opening.into_flows();
    stage.act(&Commit(Closed));
    let mut modelled = Modelled::with_flows(stage.node().tables(), flows);
    for now_s in [1, 2, 2, 7] {
        modelled.now_s = now_s;
        assert!(!to_pod(&from_client(V4).tcp(4000, 80, ACK)[..], &context, &modelled).allow);
        let flows = modelled.flows.borrow();
        assert_eq!(flows.v4.cuts.values().map(|cut| cut.seen_s).collect::<Vec<_>>(), [now_s]);
    }
}
