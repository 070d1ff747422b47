//! The rows: every sentence of docs/semantics.md §6–§8 that a packet can show.

use policy_common::reason::Reason;

use super::Policies::{Calls, CallsOnly, Closed, Open, Served, ServedOnly};
use super::Step::{Commit, Forget, OtherCommit, Replace};
use super::Who::{Client, Db, Everyone, Host, LinkLocal, Nobody, Web, World};
use super::flags::{ACK, FIN, RST, SYN, SYN_ACK};
use super::{BRIDGE, DB, Frame, Hook, Ip, MORE, Policies, Row, Sight, Step, UPLINK, WEB, Who, arp};

/// All rows, IPv4 and IPv6.
pub fn rows() -> Vec<Row> {
    let mut table = Table::default();
    for ip in [Ip::V4, Ip::V6] {
        table.ip = Some(ip);
        policies(&mut table, ip);
        connections(&mut table, ip);
        openers(&mut table, ip);
        commits(&mut table, ip);
        sources(&mut table, ip);
        echoes_and_errors(&mut table, ip);
        malformed(&mut table, ip);
    }
    table.ip = Some(Ip::V4);
    only_v4(&mut table);
    table.ip = Some(Ip::V6);
    only_v6(&mut table);
    table.rows
}

#[derive(Default)]
struct Table {
    ip: Option<Ip>,
    rows: Vec<Row>,
}

impl Table {
    fn row(&mut self, claim: &'static str, policies: Policies, steps: impl IntoIterator<Item = Step>) {
        let ip = self.ip.expect("a family is set");
        self.rows.push(Row { claim, ip, policies, steps: steps.into_iter().collect() });
    }
}

/// A verdict as rows write it.
type Word = (bool, Reason);

const fn pass(reason: Reason) -> Word {
    (true, reason)
}

const fn drop(reason: Reason) -> Word {
    (false, reason)
}

/// The endpoint sends a packet.
fn sends(frame: Vec<u8>, (allow, reason): Word) -> Step {
    Step::Packet(Sight { hook: Hook::FromPod, frame, arrival: WEB, has_socket: true, allow, reason })
}

/// A packet reaches the endpoint by an interface.
fn arrives(frame: Vec<u8>, arrival: u32, (allow, reason): Word) -> Step {
    Step::Packet(Sight { hook: Hook::ToPod, frame, arrival, has_socket: true, allow, reason })
}

/// A packet from elsewhere reaches the endpoint.
fn gets(frame: Vec<u8>, word: Word) -> Step {
    arrives(frame, UPLINK, word)
}

fn from_client(ip: Ip) -> Frame {
    Frame::new(ip, Client, Web)
}

fn to_client(ip: Ip) -> Frame {
    Frame::new(ip, Web, Client)
}

fn policies(table: &mut Table, ip: Ip) {
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

fn connections(table: &mut Table, ip: Ip) {
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
            sends(to_client(ip).sctp(90, 4000), pass(Established)),
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

fn openers(table: &mut Table, ip: Ip) {
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
            gets(from_client(ip).tcp(4000, 80, SYN_ACK), pass(Established)),
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

fn commits(table: &mut Table, ip: Ip) {
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

fn sources(table: &mut Table, ip: Ip) {
    use Reason::{MartianSource, NoRule, Node, NotIsolated, Rule, SelfTraffic, SpoofedSource};
    table.row(
        "a packet under another's address does not leave",
        Open,
        [
            sends(Frame::new(ip, Db, Client).tcp(4000, 80, SYN), drop(SpoofedSource)),
            sends(Frame::new(ip, World, Client).udp(4000, 53), drop(SpoofedSource)),
            sends(Frame::new(ip, Host, Client).ping(1), drop(SpoofedSource)),
            sends(Frame::new(ip, Nobody, Client).udp(68, 67), drop(SpoofedSource)),
            sends(Frame::new(ip, LinkLocal, Client).udp(4000, 53), drop(SpoofedSource)),
        ],
    );
    table.row(
        "a spoofed packet does not profit from a connection of the endpoint",
        Open,
        [
            sends(to_client(ip).tcp(4000, 80, SYN), pass(NotIsolated)),
            sends(Frame::new(ip, Db, Client).tcp(4000, 80, ACK), drop(SpoofedSource)),
        ],
    );
    table.row(
        "a packet of a local pod comes out of its own interface or its bridge",
        Open,
        [
            arrives(Frame::new(ip, Db, Web).tcp(4000, 80, SYN), DB, pass(NotIsolated)),
            arrives(Frame::new(ip, Db, Web).tcp(4001, 80, SYN), BRIDGE, pass(NotIsolated)),
            arrives(Frame::new(ip, Db, Web).tcp(4002, 80, SYN), UPLINK, drop(MartianSource)),
            arrives(Frame::new(ip, Db, Web).udp(4002, 53), WEB, drop(MartianSource)),
            arrives(Frame::new(ip, Db, Web).ping(3), UPLINK, drop(MartianSource)),
            arrives(Frame::new(ip, Db, Web).carrying(47, &[0; 8]), UPLINK, drop(MartianSource)),
        ],
    );
    table.row(
        "a martian does not profit from a connection",
        Open,
        [
            arrives(Frame::new(ip, Db, Web).tcp(4000, 80, SYN), DB, pass(NotIsolated)),
            arrives(Frame::new(ip, Db, Web).tcp(4000, 80, ACK), UPLINK, drop(MartianSource)),
            arrives(Frame::new(ip, Db, Web).tcp(4000, 80, ACK), DB, pass(Reason::Established)),
        ],
    );
    table.row(
        "the endpoint's own address from outside is a martian",
        Open,
        [gets(Frame::new(ip, Web, Web).tcp(4000, 80, SYN), drop(MartianSource))],
    );
    table.row(
        "a pod may talk to itself whatever the policies",
        Closed,
        [
            sends(Frame::new(ip, Web, Web).tcp(4000, 80, SYN), pass(SelfTraffic)),
            arrives(Frame::new(ip, Web, Web).tcp(4000, 80, SYN), WEB, pass(SelfTraffic)),
            sends(Frame::new(ip, Web, Web).ping(1), pass(SelfTraffic)),
        ],
    );
    table.row(
        "the node's own connections pass whatever the policies, and so do their replies",
        Closed,
        [
            arrives(Frame::new(ip, Host, Web).tcp(4000, 80, SYN), 0, pass(Node)),
            sends(Frame::new(ip, Web, Host).tcp(80, 4000, SYN_ACK), pass(Reason::Established)),
            OtherCommit,
            sends(Frame::new(ip, Web, Host).tcp(80, 4000, ACK), pass(Node)),
            arrives(Frame::new(ip, Host, Web).ping(1), 0, pass(Node)),
            sends(Frame::new(ip, Web, Host).pong(1), pass(Reason::Established)),
            arrives(Frame::new(ip, Host, Web).udp(4000, 53), 0, pass(Node)),
        ],
    );
    table.row(
        "the node's address from elsewhere is not the node",
        Closed,
        [
            gets(Frame::new(ip, Host, Web).tcp(4000, 80, SYN), drop(NoRule)),
            arrives(Frame::new(ip, Host, Web).tcp(4001, 80, SYN), 0, pass(Node)),
            gets(Frame::new(ip, Host, Web).tcp(4001, 80, ACK), drop(NoRule)),
        ],
    );
    table.row(
        "another address by a socket of the node is not the node",
        Closed,
        [arrives(Frame::new(ip, World, Web).tcp(4000, 80, SYN), 0, drop(NoRule))],
    );
    table.row(
        "a pod's egress to its node is judged",
        Calls,
        [
            sends(Frame::new(ip, Web, Host).tcp(4000, 443, SYN), drop(NoRule)),
            sends(to_client(ip).tcp(4000, 443, SYN), pass(Rule)),
        ],
    );
    table.row(
        "an answer of the node to nothing opens nothing",
        Calls,
        [
            arrives(Frame::new(ip, Host, Web).tcp(443, 4000, ACK), 0, pass(Node)),
            sends(Frame::new(ip, Web, Host).tcp(4000, 443, ACK), drop(NoRule)),
        ],
    );
    let without_socket = Step::Packet(Sight {
        hook: Hook::ToPod,
        frame: Frame::new(ip, Host, Web).tcp(4000, 80, SYN),
        arrival: 0,
        has_socket: false,
        allow: false,
        reason: NoRule,
    });
    table.row("masqueraded traffic without a socket is not the node's own", Closed, [without_socket]);
}

fn echoes_and_errors(table: &mut Table, ip: Ip) {
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
        [
            gets(request.clone(), pass(Rule)),
            sends(to_client(ip).unreachable(&request), pass(Related)),
            sends(Frame::new(ip, Web, World).unreachable(&request), drop(NoRule)),
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

fn malformed(table: &mut Table, ip: Ip) {
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

fn only_v4(table: &mut Table) {
    use Reason::{Neighbour, NoRule, NotIsolated, Rule, SpoofedSource, Unparsable};
    table.row(
        "ARP passes whatever the policies",
        Closed,
        [sends(arp(Web, Client), pass(Neighbour)), gets(arp(Client, Web), pass(Neighbour))],
    );
    table.row("an ARP probe claims nothing", Closed, [sends(arp(Nobody, Web), pass(Neighbour))]);
    table.row(
        "ARP that claims a foreign address does not leave",
        Open,
        [sends(arp(Db, Client), drop(SpoofedSource)), sends(arp(Host, Client), drop(SpoofedSource))],
    );
    let hardware = |sender: Who, kind: u8| {
        let mut frame = arp(sender, Client);
        frame[15] = kind;
        frame
    };
    table.row(
        "ARP of hardware type 6 is ARP, as Linux has it",
        Open,
        [sends(hardware(Web, 6), pass(Neighbour)), sends(hardware(Db, 6), drop(SpoofedSource))],
    );
    table.row(
        "whose ARP about anything but IPv4 on Ethernet is cannot be said",
        Open,
        [sends(hardware(Web, 7), drop(SpoofedSource)), gets(hardware(Client, 7), pass(NotIsolated))],
    );
    let frame = |kind: u16| {
        let mut frame = vec![2; 64];
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        frame
    };
    table.row(
        "frames that are no IP are dropped where isolated",
        Closed,
        [gets(frame(0x88cc), drop(Unparsable)), sends(frame(0x88cc), drop(Unparsable))],
    );
    table.row("and pass where nothing isolates", Open, [gets(frame(0x88cc), pass(NotIsolated))]);
    table.row(
        "a second VLAN tag could hide a source",
        Open,
        [sends(frame(0x8100), drop(SpoofedSource)), gets(frame(0x8100), pass(NotIsolated))],
    );
    let v4 = || from_client(Ip::V4);
    table.row(
        "harmless options are stepped over",
        Served,
        [
            gets(v4().options(&[1, 1, 1, 0]).tcp(4000, 80, SYN), pass(Rule)),
            gets(v4().options(&[148, 4, 0, 0]).tcp(4000, 81, SYN), drop(NoRule)),
        ],
    );
    table.row(
        "a source route hides the destination",
        Served,
        [
            gets(v4().options(&[131, 3, 4, 0]).tcp(4000, 80, SYN), drop(Unparsable)),
            gets(v4().options(&[1, 137, 3, 4]).tcp(4000, 80, SYN), drop(Unparsable)),
        ],
    );
    table.row(
        "options that do not end are dropped where isolated",
        Served,
        [
            gets(v4().options(&[148, 9, 0, 0]).tcp(4000, 80, SYN), drop(Unparsable)),
            gets(v4().options(&[148, 0, 0, 0]).tcp(4000, 80, SYN), drop(Unparsable)),
        ],
    );
    let mut header = v4().tcp(4000, 80, SYN);
    header[14] = 0x44;
    table.row(
        "a header shorter than a header does not leave an addressee in doubt",
        Served,
        [gets(header, drop(Unparsable))],
    );
    let mut total = v4().tcp(4000, 80, SYN);
    total[16..18].copy_from_slice(&19u16.to_be_bytes());
    table.row("a total length below the header is dropped where isolated", Served, [gets(total, drop(Unparsable))]);
    let mut padded = v4().tcp(4000, 80, SYN);
    padded.extend_from_slice(&[0; 6]);
    table.row("Ethernet padding is no part of the packet", Served, [gets(padded, pass(Rule))]);
    table.row(
        "other ICMP is a connection by address pair",
        ServedOnly,
        [
            gets(v4().icmp(13, &[0; 16]), pass(Rule)),
            sends(to_client(Ip::V4).icmp(14, &[0; 16]), pass(Reason::Established)),
        ],
    );
    table.row(
        "broadcasts are judged like any destination",
        Calls,
        [sends(Frame::new(Ip::V4, Web, Everyone).udp(68, 67), drop(NoRule))],
    );
}

fn only_v6(table: &mut Table) {
    use Reason::{MartianSource, Neighbour, NoRule, Rule, SpoofedSource, Unparsable};
    const SOLICITATION: u8 = 135;
    const ADVERTISEMENT: u8 = 136;
    let link = |from: Who, to: Who| Frame::new(Ip::V6, from, to).hop_limit(255);
    table.row(
        "neighbour discovery passes whatever the policies",
        Closed,
        [
            sends(link(Web, Everyone).neighbour(SOLICITATION, Client), pass(Neighbour)),
            sends(link(LinkLocal, Everyone).neighbour(SOLICITATION, Client), pass(Neighbour)),
            sends(link(Web, Client).neighbour(ADVERTISEMENT, Web), pass(Neighbour)),
            gets(link(Client, Everyone).neighbour(SOLICITATION, Web), pass(Neighbour)),
            gets(link(Client, Web).neighbour(ADVERTISEMENT, Client), pass(Neighbour)),
        ],
    );
    table.row(
        "duplicate address detection speaks for its own address only",
        Closed,
        [
            sends(link(Nobody, Everyone).neighbour(SOLICITATION, Web), pass(Neighbour)),
            sends(link(Nobody, Everyone).neighbour(SOLICITATION, LinkLocal), pass(Neighbour)),
            sends(link(Nobody, Everyone).neighbour(SOLICITATION, Db), drop(SpoofedSource)),
        ],
    );
    table.row(
        "an advertisement for a foreign address does not leave",
        Open,
        [
            sends(link(Web, Everyone).neighbour(ADVERTISEMENT, Db), drop(SpoofedSource)),
            sends(link(Web, Everyone).neighbour(ADVERTISEMENT, Host), drop(SpoofedSource)),
        ],
    );
    table.row(
        "neighbour discovery under a foreign address does not leave",
        Open,
        [
            sends(link(Db, Everyone).neighbour(SOLICITATION, Client), drop(SpoofedSource)),
            sends(link(Host, Everyone).neighbour(ADVERTISEMENT, Web), drop(SpoofedSource)),
        ],
    );
    table.row(
        "neighbour discovery that was forwarded is ICMP like any other",
        Closed,
        [
            gets(link(Client, Web).hop_limit(254).neighbour(SOLICITATION, Web), drop(NoRule)),
            sends(link(Web, Client).hop_limit(64).neighbour(ADVERTISEMENT, Web), drop(NoRule)),
        ],
    );
    table.row(
        "router solicitations and listener reports pass",
        Closed,
        [
            sends(link(LinkLocal, Everyone).icmp(133, &[0; 4]), pass(Neighbour)),
            gets(link(LinkLocal, Everyone).icmp(134, &[0; 12]), pass(Neighbour)),
            sends(link(LinkLocal, Everyone).hop_limit(1).icmp(143, &[0; 4]), pass(Neighbour)),
            sends(link(Nobody, Everyone).hop_limit(1).icmp(131, &[0; 20]), pass(Neighbour)),
            sends(link(Db, Everyone).hop_limit(1).icmp(143, &[0; 4]), drop(SpoofedSource)),
        ],
    );
    let v6 = || from_client(Ip::V6);
    let options = [0u8; 8];
    table.row(
        "extension headers are stepped over",
        Served,
        [
            gets(v6().header(0, &options).tcp(1, 80, SYN), pass(Rule)),
            gets(v6().header(60, &options).tcp(2, 80, SYN), pass(Rule)),
            gets(v6().header(0, &options).header(60, &options).header(43, &options).tcp(3, 80, SYN), pass(Rule)),
            gets(v6().header(51, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).tcp(4, 80, SYN), pass(Rule)),
            gets(v6().header(60, &options).tcp(5, 81, SYN), drop(NoRule)),
        ],
    );
    table.row(
        "a routing header with segments left hides the destination",
        Served,
        [gets(v6().header(43, &[0, 0, 0, 1, 0, 0, 0, 0]).tcp(1, 80, SYN), drop(Unparsable))],
    );
    table.row(
        "hop-by-hop options stand first",
        Served,
        [gets(v6().header(60, &options).header(0, &options).tcp(1, 80, SYN), drop(Unparsable))],
    );
    table.row(
        "a header that does not end inside the packet is dropped where isolated",
        Served,
        [gets(v6().header(60, &[0, 200, 0, 0, 0, 0, 0, 0]).tcp(1, 80, SYN), drop(Unparsable))],
    );
    let many = (0..9).fold(v6(), |frame, _| frame.header(60, &options));
    table.row(
        "more headers than anybody needs are dropped where isolated",
        Served,
        [gets(many.tcp(1, 80, SYN), drop(Unparsable))],
    );
    table.row(
        "extension headers do not hide a false source",
        Open,
        [
            sends(Frame::new(Ip::V6, Db, Client).header(60, &options).tcp(1, 80, SYN), drop(SpoofedSource)),
            arrives(Frame::new(Ip::V6, Db, Web).header(60, &options).tcp(1, 80, SYN), UPLINK, drop(MartianSource)),
        ],
    );
    table.row(
        "an encapsulated payload is another protocol",
        Served,
        [gets(v6().carrying(50, &[0; 16]), drop(NoRule)), gets(v6().carrying(59, &[]), drop(NoRule))],
    );
}
