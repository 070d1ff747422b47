//! What belongs to a connection, and whose it is (§8, §11).

use policy_common::reason::Reason;

use super::Table;
use crate::testing::packets::Policies::{CallsOnly, Closed, Open, Served, ServedOnly};
use crate::testing::packets::Step::{Commit, Forget, OtherCommit, Replace};
use crate::testing::packets::Who::{Web, World};
use crate::testing::packets::flags::{ACK, FIN, RST, SYN, SYN_ACK};
use crate::testing::packets::words::{drop, from_client, gets, pass, sends, to_client};
use crate::testing::packets::{Frame, Ip, chunk};

pub(super) fn known(table: &mut Table, ip: Ip) {
    use Reason::{Established, NoRule, Rule};
    table.row(
        "replies of a TCP connection pass where the other direction is closed",
        ServedOnly,
        [
            gets(from_client(ip).tcp(4000, 80, SYN), pass(Rule)),
            sends(to_client(ip).tcp(80, 4000, SYN_ACK), pass(Established)),
            gets(from_client(ip).tcp(4000, 80, ACK), pass(Established)),
            sends(to_client(ip).tcp(80, 4000, FIN), pass(Established)),
            gets(from_client(ip).tcp(4000, 80, FIN), pass(Established)),
        ],
    );
    table.row(
        "replies of a TCP connection that the endpoint opened pass",
        CallsOnly,
        [
            sends(to_client(ip).tcp(4000, 443, SYN), pass(Rule)),
            gets(from_client(ip).tcp(443, 4000, SYN_ACK), pass(Established)),
            sends(to_client(ip).tcp(4000, 443, ACK), pass(Established)),
        ],
    );
    table.row(
        "replies of UDP and SCTP pass",
        ServedOnly,
        [
            gets(from_client(ip).udp(4000, 53), pass(Rule)),
            sends(to_client(ip).udp(53, 4000), pass(Established)),
            gets(from_client(ip).sctp(4000, 90), pass(Rule)),
            sends(to_client(ip).sctp_chunk(90, 4000, chunk::INIT_ACK), pass(Established)),
            sends(to_client(ip).sctp_chunk(90, 4000, chunk::DATA), pass(Established)),
        ],
    );
    table.row(
        "other protocols are connections by address pair",
        ServedOnly,
        [
            gets(from_client(ip).carrying(47, &[0; 8]), pass(Rule)),
            sends(to_client(ip).carrying(47, &[0; 8]), pass(Established)),
            sends(to_client(ip).carrying(50, &[0; 8]), drop(NoRule)),
        ],
    );
    table.row(
        "a reply on other ports is no reply",
        ServedOnly,
        [
            gets(from_client(ip).tcp(4000, 80, SYN), pass(Rule)),
            sends(to_client(ip).tcp(80, 4001, ACK), drop(NoRule)),
            sends(to_client(ip).tcp(81, 4000, ACK), drop(NoRule)),
            sends(to_client(ip).udp(80, 4000), drop(NoRule)),
            sends(Frame::new(ip, Web, World).tcp(80, 4000, ACK), drop(NoRule)),
        ],
    );
    table.row(
        "a denied packet leaves nothing behind",
        Closed,
        [
            gets(from_client(ip).tcp(4000, 80, SYN), drop(NoRule)),
            sends(to_client(ip).tcp(80, 4000, SYN_ACK), drop(NoRule)),
            gets(from_client(ip).tcp(4000, 80, ACK), drop(NoRule)),
        ],
    );
}

pub(super) fn openers(table: &mut Table, ip: Ip) {
    use Reason::{Established, NoRule, NotIsolated, Rule};
    table.row(
        "a pure SYN in the reply direction is a new connection",
        ServedOnly,
        [
            gets(from_client(ip).tcp(4000, 80, SYN), pass(Rule)),
            sends(to_client(ip).tcp(80, 4000, SYN), drop(NoRule)),
            sends(to_client(ip).tcp(80, 4000, ACK), pass(Established)),
        ],
    );
    table.row(
        "a new connection in the reply direction takes over where it is allowed",
        Served,
        [
            gets(from_client(ip).tcp(4000, 80, SYN), pass(Rule)),
            sends(to_client(ip).tcp(80, 4000, SYN), pass(NotIsolated)),
            gets(from_client(ip).tcp(4000, 80, SYN_ACK), pass(NotIsolated)),
            gets(from_client(ip).tcp(4000, 80, ACK), pass(Established)),
        ],
    );
    table.row(
        "reply is dropped when the table forgot the opener",
        ServedOnly,
        [
            gets(from_client(ip).tcp(4000, 80, SYN), pass(Rule)),
            Forget,
            sends(to_client(ip).tcp(80, 4000, ACK), drop(NoRule)),
            sends(to_client(ip).tcp(80, 4000, SYN_ACK), drop(NoRule)),
            gets(from_client(ip).tcp(4000, 80, ACK), pass(Rule)),
            sends(to_client(ip).tcp(80, 4000, ACK), pass(Established)),
        ],
    );
    table.row(
        "a forgotten connection that was cut does not come back as a reply",
        Open,
        [
            gets(from_client(ip).tcp(4000, 81, SYN), pass(NotIsolated)),
            Commit(Served),
            gets(from_client(ip).tcp(4000, 81, ACK), drop(NoRule)),
            Forget,
            sends(to_client(ip).tcp(81, 4000, ACK), pass(NotIsolated)),
            gets(from_client(ip).tcp(4000, 81, ACK), drop(NoRule)),
        ],
    );
    table.row(
        "a cut connection does not come back where a rule would let its reply open one",
        Open,
        [
            gets(from_client(ip).tcp(4000, 81, SYN), pass(NotIsolated)),
            Commit(CallsOnly),
            gets(from_client(ip).tcp(4000, 81, ACK), drop(NoRule)),
            Forget,
            sends(to_client(ip).tcp(81, 4000, ACK), pass(Rule)),
            gets(from_client(ip).tcp(4000, 81, ACK), drop(NoRule)),
            OtherCommit,
            sends(to_client(ip).tcp(81, 4000, ACK), pass(Rule)),
            gets(from_client(ip).tcp(4000, 81, ACK), drop(NoRule)),
        ],
    );
    table.row(
        "neither do a cut UDP exchange and a cut association",
        Open,
        [
            gets(from_client(ip).udp(4000, 81), pass(NotIsolated)),
            gets(from_client(ip).sctp(4000, 81), pass(NotIsolated)),
            Commit(CallsOnly),
            gets(from_client(ip).udp(4000, 81), drop(NoRule)),
            gets(from_client(ip).sctp_chunk(4000, 81, chunk::DATA), drop(NoRule)),
            Forget,
            sends(to_client(ip).udp(81, 4000), pass(Rule)),
            gets(from_client(ip).udp(4000, 81), drop(NoRule)),
            sends(to_client(ip).sctp_chunk(81, 4000, chunk::DATA), pass(Rule)),
            gets(from_client(ip).sctp_chunk(4000, 81, chunk::DATA), drop(NoRule)),
        ],
    );
    table.row(
        "a cut connection that is allowed again is like any other",
        Open,
        [
            gets(from_client(ip).tcp(4000, 80, SYN), pass(NotIsolated)),
            Commit(CallsOnly),
            gets(from_client(ip).tcp(4000, 80, ACK), drop(NoRule)),
            Commit(Served),
            gets(from_client(ip).tcp(4000, 80, ACK), pass(Rule)),
            Commit(ServedOnly),
            Forget,
            gets(from_client(ip).tcp(4000, 80, ACK), pass(Rule)),
            sends(to_client(ip).tcp(80, 4000, ACK), pass(Established)),
        ],
    );
    table.row(
        "whoever accepts has not opened",
        CallsOnly,
        [
            sends(to_client(ip).tcp(81, 4000, SYN_ACK), pass(Rule)),
            gets(from_client(ip).tcp(4000, 81, ACK), drop(NoRule)),
            sends(to_client(ip).sctp_chunk(81, 4000, chunk::INIT_ACK), pass(Rule)),
            gets(from_client(ip).sctp_chunk(4000, 81, chunk::DATA), drop(NoRule)),
        ],
    );
    table.row(
        "a SYN with FIN, and an INIT, in the reply direction are new connections",
        CallsOnly,
        [
            sends(to_client(ip).tcp(4000, 443, SYN), pass(Rule)),
            gets(from_client(ip).tcp(443, 4000, SYN | FIN & !ACK), drop(NoRule)),
            sends(to_client(ip).sctp(4000, 90), pass(Rule)),
            gets(from_client(ip).sctp(90, 4000), drop(NoRule)),
            gets(from_client(ip).sctp_chunk(90, 4000, chunk::DATA), pass(Established)),
        ],
    );
    table.row(
        "an ABORT of an unknown association opens nothing",
        Open,
        [
            sends(to_client(ip).sctp_chunk(80, 4000, chunk::ABORT), pass(NotIsolated)),
            Commit(ServedOnly),
            sends(to_client(ip).sctp_chunk(80, 4000, chunk::DATA), drop(NoRule)),
        ],
    );
    table.row(
        "a RST of an unknown connection opens nothing",
        Open,
        [
            sends(to_client(ip).tcp(80, 4000, RST), pass(NotIsolated)),
            Commit(ServedOnly),
            sends(to_client(ip).tcp(80, 4000, RST), drop(NoRule)),
            sends(to_client(ip).tcp(80, 4000, ACK), drop(NoRule)),
        ],
    );
    table.row(
        "a UDP reply that the table forgot is a new connection",
        ServedOnly,
        [gets(from_client(ip).udp(4000, 53), pass(Rule)), Forget, sends(to_client(ip).udp(53, 4000), drop(NoRule))],
    );
    table.row(
        "a new pod with the address inherits no connection",
        ServedOnly,
        [
            gets(from_client(ip).tcp(4000, 80, SYN), pass(Rule)),
            Replace,
            sends(to_client(ip).tcp(80, 4000, ACK), drop(NoRule)),
        ],
    );
}
