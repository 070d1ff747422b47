//! ICMP, and what cannot be read (§6, §7).

use policy_common::reason::Reason;

use super::Table;
use crate::testing::packets::Policies::{Closed, Open, Served, ServedOnly};
use crate::testing::packets::Step::{Commit, OtherCommit};
use crate::testing::packets::Who::{Client, Db, Host, Web, World};
use crate::testing::packets::flags::{SYN, SYN_ACK};
use crate::testing::packets::words::{arrives, drop, from_client, gets, pass, sends, to_client};
use crate::testing::packets::{Frame, Ip, MORE, UPLINK};

pub(super) fn echoes_and_errors(table: &mut Table, ip: Ip) {
    use Reason::{Established, NoRule, Related, Rule};
    table.row(
        "an echo is answered",
        ServedOnly,
        [
            gets(from_client(ip).ping(7), pass(Rule)),
            sends(to_client(ip).pong(7), pass(Established)),
            sends(to_client(ip).pong(8), drop(NoRule)),
        ],
    );
    table.row(
        "an echo request in the other direction is its own connection",
        ServedOnly,
        [
            gets(from_client(ip).ping(7), pass(Rule)),
            sends(to_client(ip).ping(7), drop(NoRule)),
            sends(to_client(ip).pong(7), pass(Established)),
        ],
    );
    table.row(
        "two ends may ping each other with one identifier",
        Open,
        [
            gets(from_client(ip).ping(7), pass(Reason::NotIsolated)),
            sends(to_client(ip).ping(7), pass(Reason::NotIsolated)),
            sends(to_client(ip).pong(7), pass(Established)),
            gets(from_client(ip).pong(7), pass(Established)),
        ],
    );
    table.row(
        "an answer that nobody asked for is judged by itself",
        ServedOnly,
        [sends(to_client(ip).pong(9), drop(NoRule)), gets(Frame::new(ip, World, Web).pong(9), drop(NoRule))],
    );
    let request = from_client(ip).tcp(4000, 80, SYN);
    table.row(
        "an error about an allowed connection passes, to the one that it is about",
        ServedOnly,
        [gets(request.clone(), pass(Rule)), sends(to_client(ip).unreachable(&request), pass(Related))],
    );
    table.row(
        "an error about what somebody sent goes to nobody else",
        Closed,
        [
            arrives(Frame::new(ip, Host, Web).tcp(4000, 80, SYN), 0, pass(Reason::Node)),
            sends(Frame::new(ip, Web, World).unreachable(&Frame::new(ip, Host, Web).tcp(4000, 80, SYN)), drop(NoRule)),
            sends(Frame::new(ip, Web, Host).unreachable(&Frame::new(ip, Host, Web).tcp(4000, 80, SYN)), pass(Related)),
        ],
    );
    let reply = to_client(ip).tcp(80, 4000, SYN_ACK);
    table.row(
        "an error about a packet that the endpoint sent passes, from any router",
        ServedOnly,
        [
            gets(request.clone(), pass(Rule)),
            sends(reply.clone(), pass(Established)),
            gets(Frame::new(ip, World, Web).unreachable(&reply), pass(Related)),
            OtherCommit,
            gets(Frame::new(ip, World, Web).unreachable(&reply), pass(Related)),
            Commit(Closed),
            gets(Frame::new(ip, World, Web).unreachable(&reply), drop(NoRule)),
        ],
    );
    table.row(
        "an error about nothing known is ICMP like any other",
        Served,
        [
            gets(from_client(ip).unreachable(&reply), drop(NoRule)),
            sends(to_client(ip).unreachable(&request), pass(Reason::NotIsolated)),
        ],
    );
    let foreign = Frame::new(ip, Db, Client).tcp(80, 4000, SYN_ACK);
    table.row(
        "an error about another's packet is ICMP like any other",
        Served,
        [gets(request.clone(), pass(Rule)), gets(from_client(ip).unreachable(&foreign), drop(NoRule))],
    );
    let error = from_client(ip).unreachable(&reply);
    table.row(
        "an error about an error is ICMP like any other",
        Served,
        [gets(request.clone(), pass(Rule)), gets(from_client(ip).unreachable(&error), drop(NoRule))],
    );
}

pub(super) fn malformed(table: &mut Table, ip: Ip) {
    use Reason::{Fragment, NotIsolated, Rule, Unparsable};
    let header = match ip {
        Ip::V4 => 34,
        Ip::V6 => 54,
    };
    let cut = |frame: &[u8], length: usize| frame[..length].to_vec();
    let tcp = from_client(ip).tcp(4000, 80, SYN);
    table.row(
        "a packet that ends before its length says is dropped where isolated",
        Served,
        [
            gets(cut(&tcp, header + 19), drop(Unparsable)),
            gets(cut(&tcp, header + 4), drop(Unparsable)),
            gets(cut(&tcp, header), drop(Unparsable)),
        ],
    );
    table.row("and passes where nothing isolates", Open, [gets(cut(&tcp, header + 4), pass(NotIsolated))]);
    let with = |place: usize, value: u8| {
        let mut frame = tcp.clone();
        frame[place] = value;
        frame
    };
    table.row(
        "a TCP header of a wrong length is dropped where isolated",
        Served,
        [
            gets(with(header + 12, 4 << 4), drop(Unparsable)),
            gets(with(header + 12, 6 << 4), drop(Unparsable)),
            gets(with(header + 12, 5 << 4), pass(Rule)),
        ],
    );
    table.row(
        "transport headers that are cut short are dropped where isolated",
        Served,
        [
            gets(from_client(ip).carrying(6, &[0; 8]), drop(Unparsable)),
            gets(from_client(ip).carrying(17, &[0; 7]), drop(Unparsable)),
            gets(from_client(ip).carrying(132, &[0; 11]), drop(Unparsable)),
            gets(from_client(ip).icmp(8, &[0; 3]), drop(Unparsable)),
        ],
    );
    let mut long = from_client(ip).udp(4000, 53);
    long[header + 5] = 17;
    let mut short = from_client(ip).udp(4000, 53);
    short[header + 5] = 7;
    table.row(
        "a UDP length that cannot be is dropped where isolated",
        Served,
        [gets(long, drop(Unparsable)), gets(short, drop(Unparsable))],
    );
    table.row(
        "a fragment that is not the first is dropped where isolated",
        Served,
        [
            gets(from_client(ip).fragment(3).carrying(6, &[0; 32]), drop(Fragment)),
            gets(from_client(ip).fragment(3 | MORE).carrying(17, &[0; 32]), drop(Fragment)),
            sends(to_client(ip).fragment(3).carrying(6, &[0; 32]), pass(NotIsolated)),
        ],
    );
    table.row(
        "a fragment of a spoofed source is dropped wherever",
        Open,
        [
            sends(Frame::new(ip, Db, Client).fragment(3).carrying(6, &[0; 32]), drop(Reason::SpoofedSource)),
            arrives(Frame::new(ip, Db, Web).fragment(3).carrying(6, &[0; 32]), UPLINK, drop(Reason::MartianSource)),
        ],
    );
    table.row(
        "a first fragment is judged by its ports",
        Served,
        [
            gets(from_client(ip).fragment(MORE).tcp(4000, 80, SYN), pass(Rule)),
            gets(from_client(ip).fragment(MORE).tcp(4000, 81, SYN), drop(Reason::NoRule)),
            gets(from_client(ip).fragment(MORE).carrying(6, &[0; 8]), drop(Unparsable)),
        ],
    );
    let mut version = tcp.clone();
    version[14] = 0x55;
    table.row(
        "a packet whose addresses cannot be read does not leave",
        Open,
        [sends(version.clone(), drop(Reason::SpoofedSource)), gets(version.clone(), pass(NotIsolated))],
    );
    table.row("and does not reach an isolated endpoint", Served, [gets(version, drop(Unparsable))]);
}
