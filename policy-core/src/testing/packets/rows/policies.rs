//! What policies and their changes say (docs/semantics.md §3, §8).

use policy_common::reason::Reason;

use super::Table;
use crate::testing::packets::Policies::{Calls, CallsOnly, Closed, Open, Served, ServedOnly};
use crate::testing::packets::Step::{Commit, OtherCommit};
use crate::testing::packets::Who::{Client, Db, Web, World};
use crate::testing::packets::flags::{ACK, SYN};
use crate::testing::packets::words::{arrives, drop, from_client, gets, pass, sends, to_client};
use crate::testing::packets::{DB, Frame, Ip, Who};

pub(super) fn answers(table: &mut Table, ip: Ip) {
    use Reason::{NoRule, NotIsolated, Rule};
    let asks = |from: Who| Frame::new(ip, from, Web);
    table.row(
        "without policies everything passes",
        Open,
        [
            gets(asks(World).tcp(4000, 22, SYN), pass(NotIsolated)),
            gets(asks(Client).udp(4000, 53), pass(NotIsolated)),
            sends(Frame::new(ip, Web, World).tcp(4000, 443, SYN), pass(NotIsolated)),
            sends(Frame::new(ip, Web, World).carrying(47, &[0; 8]), pass(NotIsolated)),
        ],
    );
    table.row("a rule admits its peer on its port", Served, [gets(asks(Client).tcp(4000, 80, SYN), pass(Rule))]);
    table.row(
        "a rule does not admit its peer on another port",
        Served,
        [
            gets(asks(Client).tcp(4000, 81, SYN), drop(NoRule)),
            gets(asks(Client).tcp(4000, 79, SYN), drop(NoRule)),
            gets(asks(Client).tcp(80, 8080, SYN), drop(NoRule)),
        ],
    );
    table.row(
        "a rule does not admit another peer on its port",
        Served,
        [gets(asks(World).tcp(4000, 80, SYN), drop(NoRule)), arrives(asks(Db).tcp(4000, 80, SYN), DB, drop(NoRule))],
    );
    table.row(
        "TCP/80 admits neither UDP/80 nor SCTP/80",
        Served,
        [gets(asks(Client).udp(4000, 80), drop(NoRule)), gets(asks(Client).sctp(4000, 80), drop(NoRule))],
    );
    table.row(
        "UDP and SCTP rules admit their ports",
        Served,
        [
            gets(asks(Client).udp(4000, 53), pass(Rule)),
            gets(asks(Client).sctp(4000, 90), pass(Rule)),
            gets(asks(Client).sctp(4000, 91), drop(NoRule)),
        ],
    );
    table.row(
        "a rule with ports admits neither ICMP nor other protocols",
        Served,
        [gets(asks(Client).ping(1), drop(NoRule)), gets(asks(Client).carrying(47, &[0; 8]), drop(NoRule))],
    );
    table.row(
        "a rule without ports admits ICMP and other protocols",
        ServedOnly,
        [
            gets(asks(Client).ping(1), pass(Rule)),
            gets(asks(Client).carrying(47, &[0; 8]), pass(Rule)),
            gets(asks(World).ping(1), drop(NoRule)),
            gets(asks(World).carrying(47, &[0; 8]), drop(NoRule)),
        ],
    );
    table.row(
        "egress is judged by the destination and its port",
        Calls,
        [
            sends(to_client(ip).tcp(4000, 443, SYN), pass(Rule)),
            sends(to_client(ip).tcp(443, 80, SYN), drop(NoRule)),
            sends(Frame::new(ip, Web, World).tcp(4000, 443, SYN), drop(NoRule)),
            sends(to_client(ip).udp(4000, 53), pass(Rule)),
        ],
    );
    table.row(
        "isolation of one direction does not isolate the other",
        Served,
        [sends(Frame::new(ip, Web, World).tcp(4000, 443, SYN), pass(NotIsolated))],
    );
    table.row(
        "isolation of one direction does not isolate the other",
        Calls,
        [gets(asks(World).tcp(4000, 22, SYN), pass(NotIsolated))],
    );
    table.row(
        "nothing passes a closed endpoint",
        Closed,
        [
            gets(asks(Client).tcp(4000, 80, SYN), drop(NoRule)),
            sends(to_client(ip).tcp(4000, 80, SYN), drop(NoRule)),
            gets(asks(Client).ping(1), drop(NoRule)),
            sends(to_client(ip).ping(1), drop(NoRule)),
        ],
    );
}

pub(super) fn commits(table: &mut Table, ip: Ip) {
    use Reason::{Established, NoRule, NotIsolated, Rule};
    table.row(
        "a live connection is judged again after every commit, once",
        Served,
        [
            gets(from_client(ip).tcp(4000, 80, SYN), pass(Rule)),
            gets(from_client(ip).tcp(4000, 80, ACK), pass(Established)),
            OtherCommit,
            gets(from_client(ip).tcp(4000, 80, ACK), pass(Rule)),
            gets(from_client(ip).tcp(4000, 80, ACK), pass(Established)),
        ],
    );
    table.row(
        "a reply after a commit is judged as the opener would be",
        ServedOnly,
        [
            gets(from_client(ip).tcp(4000, 80, SYN), pass(Rule)),
            OtherCommit,
            sends(to_client(ip).tcp(80, 4000, ACK), pass(Rule)),
            sends(to_client(ip).tcp(80, 4000, ACK), pass(Established)),
        ],
    );
    table.row(
        "a later policy that allows a connection does not cut it",
        Open,
        [
            gets(from_client(ip).tcp(4000, 80, SYN), pass(NotIsolated)),
            Commit(ServedOnly),
            sends(to_client(ip).tcp(80, 4000, ACK), pass(Rule)),
            gets(from_client(ip).tcp(4000, 80, ACK), pass(Established)),
        ],
    );
    table.row(
        "a connection that is no longer allowed stops in both directions",
        Open,
        [
            gets(from_client(ip).tcp(4000, 81, SYN), pass(NotIsolated)),
            Commit(Served),
            sends(to_client(ip).tcp(81, 4000, ACK), drop(NoRule)),
            gets(from_client(ip).tcp(4000, 81, ACK), drop(NoRule)),
            Commit(Open),
            gets(from_client(ip).tcp(4000, 81, ACK), pass(NotIsolated)),
            sends(to_client(ip).tcp(81, 4000, ACK), pass(Established)),
        ],
    );
    table.row(
        "a connection that the endpoint opened stops when its egress is closed",
        CallsOnly,
        [
            sends(to_client(ip).tcp(4000, 443, SYN), pass(Rule)),
            Commit(ServedOnly),
            gets(from_client(ip).tcp(443, 4000, ACK), drop(NoRule)),
            sends(to_client(ip).tcp(4000, 443, ACK), drop(NoRule)),
        ],
    );
    table.row(
        "either slot is read whole",
        Open,
        [
            gets(from_client(ip).tcp(1, 81, SYN), pass(NotIsolated)),
            Commit(Closed),
            gets(from_client(ip).tcp(2, 81, SYN), drop(NoRule)),
            Commit(Served),
            gets(from_client(ip).tcp(3, 80, SYN), pass(Rule)),
            Commit(Closed),
            gets(from_client(ip).tcp(4, 80, SYN), drop(NoRule)),
            Commit(Open),
            gets(from_client(ip).tcp(5, 81, SYN), pass(NotIsolated)),
        ],
    );
}
