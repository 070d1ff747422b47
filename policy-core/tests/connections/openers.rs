//! Who opened a connection, and whose it is (docs/semantics.md §8, §11).

use policy_common::reason::Reason::{Established, NoRule, Node, NotIsolated, Rule};
use policy_core::testing::packets::Frame;
use policy_core::testing::packets::Policies::{CallsOnly, Closed, Open, ServedOnly};
use policy_core::testing::packets::Step::{Commit, OtherCommit};
use policy_core::testing::packets::Who::{Host, Web};
use policy_core::testing::packets::flags::{ACK, FIN, RST, SYN, SYN_ACK};
use policy_core::testing::packets::words::{Word, arrives, drop, from_client, gets, pass, sends, to_client};

use crate::{V4, play};

/// Anybody can make up an RST; a connection that goes on after it is remembered as long as any.
#[test]
fn a_reset_that_nobody_heeds_does_not_make_a_connection_forgotten_soon() {
    let (syn, ack) = (from_client(V4).tcp(4000, 80, SYN), from_client(V4).tcp(4000, 80, ACK));
    let (reset, fin) = (from_client(V4).tcp(4000, 80, RST), from_client(V4).tcp(4000, 80, FIN));
    let ends_soon = |packets: &[&Vec<u8>]| {
        let flows = play(Open, packets.iter().map(|packet| gets((*packet).clone(), pass_known(packet == &&syn))));
        flows.v4.flows.values().any(|flow| flow.state.is_closing())
    };
    assert!(!ends_soon(&[&syn, &ack]));
    assert!(ends_soon(&[&syn, &ack, &reset]));
    assert!(!ends_soon(&[&syn, &ack, &reset, &ack]));
    assert!(ends_soon(&[&syn, &ack, &fin, &ack]), "who has sent a FIN goes on only to acknowledge");
    assert!(ends_soon(&[&syn, &ack, &reset, &fin, &ack]));
    assert!(ends_soon(&[&syn, &ack, &fin, &reset, &ack]));
}

fn pass_known(opens: bool) -> Word {
    pass(if opens { NotIsolated } else { Established })
}

/// §8: "judged again, as the connection's initiator would be". A remote server sends one SYN (nobody answers it with
/// SYN ACK): the pod's connection counts as the server's, and the pod's data outlives the closing of its egress.
#[test]
fn an_unanswered_syn_of_the_peer_does_not_make_a_live_connection_outlive_its_policy() {
    play(
        Open,
        [
            sends(to_client(V4).tcp(4000, 443, SYN), pass(NotIsolated)),
            gets(from_client(V4).tcp(443, 4000, SYN_ACK), pass(Established)),
            sends(to_client(V4).tcp(4000, 443, ACK), pass(Established)),
            gets(from_client(V4).tcp(443, 4000, SYN), pass(NotIsolated)),
            // A challenge ACK (RFC 5961): nothing was opened.
            sends(to_client(V4).tcp(4000, 443, ACK), pass(Established)),
            Commit(ServedOnly),
            sends(to_client(V4).tcp(4000, 443, ACK), drop(NoRule)),
        ],
    );
}

/// The other way round: one SYN, which anybody can send under the server's address, and the next change of the policy
/// of the *other* direction cuts a connection that is allowed.
#[test]
fn an_unanswered_syn_of_the_peer_does_not_cut_a_live_connection() {
    play(
        Open,
        [
            sends(to_client(V4).tcp(4000, 443, SYN), pass(NotIsolated)),
            gets(from_client(V4).tcp(443, 4000, SYN_ACK), pass(Established)),
            gets(from_client(V4).tcp(443, 4000, SYN), pass(NotIsolated)),
            sends(to_client(V4).tcp(4000, 443, ACK), pass(Established)),
            Commit(CallsOnly),
            sends(to_client(V4).tcp(4000, 443, ACK), pass(Rule)),
            gets(from_client(V4).tcp(443, 4000, ACK), pass(Established)),
        ],
    );
}

/// §11: "A SYN with ACK and an INIT ACK accept: their sender never counts as the opener."
#[test]
fn whoever_accepted_does_not_count_as_the_opener_after_a_commit() {
    play(
        CallsOnly,
        [
            sends(to_client(V4).tcp(81, 4000, SYN_ACK), pass(Rule)),
            OtherCommit,
            sends(to_client(V4).tcp(81, 4000, ACK), pass(Rule)),
            gets(from_client(V4).tcp(4000, 81, ACK), drop(NoRule)),
        ],
    );
}

#[test]
fn who_accepts_what_nobody_asked_for_gives_nothing_away() {
    play(
        Open,
        [
            gets(from_client(V4).tcp(4000, 80, SYN), pass(NotIsolated)),
            sends(to_client(V4).tcp(80, 4000, SYN_ACK), pass(Established)),
            gets(from_client(V4).tcp(4000, 80, SYN_ACK), pass(Established)),
            Commit(CallsOnly),
            gets(from_client(V4).tcp(4000, 80, ACK), drop(NoRule)),
            sends(to_client(V4).tcp(80, 4000, ACK), drop(NoRule)),
        ],
    );
}

/// A SYN that is sent again still asks, and who accepts again still has accepted.
#[test]
fn what_is_said_twice_is_not_taken_back() {
    play(
        Open,
        [
            gets(from_client(V4).tcp(4000, 443, SYN), pass(NotIsolated)),
            sends(to_client(V4).tcp(443, 4000, SYN), pass(NotIsolated)),
            sends(to_client(V4).tcp(443, 4000, SYN), pass(NotIsolated)),
            gets(from_client(V4).tcp(4000, 443, SYN_ACK), pass(NotIsolated)),
            Commit(CallsOnly),
            sends(to_client(V4).tcp(443, 4000, ACK), pass(Rule)),
            gets(from_client(V4).tcp(4000, 443, ACK), pass(Established)),
        ],
    );
    play(
        CallsOnly,
        [
            sends(to_client(V4).tcp(81, 4000, SYN_ACK), pass(Rule)),
            OtherCommit,
            sends(to_client(V4).tcp(81, 4000, SYN_ACK), pass(Rule)),
            OtherCommit,
            sends(to_client(V4).tcp(81, 4000, ACK), pass(Rule)),
            gets(from_client(V4).tcp(4000, 81, ACK), drop(NoRule)),
        ],
    );
}

/// A commit changes what is allowed, and nothing else that is known of a connection.
#[test]
fn a_connection_stays_the_nodes_over_commits() {
    let probe = |flags| Frame::new(V4, Host, Web).tcp(45000, 81, flags);
    play(
        Closed,
        [
            arrives(probe(SYN), 0, pass(Node)),
            OtherCommit,
            arrives(probe(ACK), 0, pass(Node)),
            OtherCommit,
            sends(Frame::new(V4, Web, Host).tcp(81, 45000, ACK), pass(Node)),
            arrives(probe(ACK), 0, pass(Established)),
        ],
    );
}
