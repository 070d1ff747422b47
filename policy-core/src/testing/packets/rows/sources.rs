//! Who may speak as whom, and what belongs to a link (§6, §7, §11).

use policy_common::reason::Reason;

use super::Table;
use crate::testing::packets::Policies::{Calls, Closed, Open, Served, ServedOnly};
use crate::testing::packets::Step::{Commit, OtherCommit};
use crate::testing::packets::Who::{Client, Db, Everyone, Host, HostLinkLocal, LinkLocal, Nobody, Web, World};
use crate::testing::packets::flags::{ACK, SYN, SYN_ACK};
use crate::testing::packets::words::{arrives, drop, from_client, gets, pass, sends, to_client};
use crate::testing::packets::{BRIDGE, DB, Frame, Hook, Ip, Sight, Step, UPLINK, WEB, Who, arp};

pub(super) fn both(table: &mut Table, ip: Ip) {
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
    table.row(
        "the node speaks for itself, whoever spoke first",
        Served,
        [
            sends(Frame::new(ip, Web, Host).tcp(4000, 6443, ACK), pass(NotIsolated)),
            arrives(Frame::new(ip, Host, Web).tcp(6443, 4000, ACK), 0, pass(Node)),
        ],
    );
    for (request, reply) in [
        (Frame::new(ip, Host, Web).tcp(45000, 81, SYN), Frame::new(ip, Web, Host).tcp(81, 45000, SYN_ACK)),
        (Frame::new(ip, Host, Web).udp(45000, 81), Frame::new(ip, Web, Host).udp(81, 45000)),
        (Frame::new(ip, Host, Web).ping(7), Frame::new(ip, Web, Host).pong(7)),
    ] {
        table.row(
            "a probe passes with the ports of a masqueraded connection that a policy cut",
            Open,
            [
                gets(request.clone(), pass(NotIsolated)),
                Commit(Closed),
                gets(request.clone(), drop(NoRule)),
                arrives(request.clone(), 0, pass(Node)),
                sends(reply.clone(), pass(Reason::Established)),
                gets(request.clone(), drop(NoRule)),
                sends(reply, pass(Reason::Established)),
            ],
        );
    }
    table.row(
        "masqueraded traffic with the ports of a connection of the node's is its own",
        Open,
        [
            arrives(Frame::new(ip, Host, Web).udp(45000, 5000), 0, pass(Node)),
            gets(Frame::new(ip, Host, Web).udp(45000, 5000), pass(NotIsolated)),
            Commit(Closed),
            gets(Frame::new(ip, Host, Web).udp(45000, 5000), drop(NoRule)),
            sends(Frame::new(ip, Web, Host).udp(5000, 45000), drop(NoRule)),
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

pub(super) fn only_v4(table: &mut Table) {
    use Reason::{MartianSource, Neighbour, NoRule, NotIsolated, Rule, SpoofedSource, Unparsable};
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
    table.row(
        "ARP from elsewhere does not claim an address of this node's pods",
        Open,
        [
            gets(arp(Db, Web), drop(MartianSource)),
            arrives(arp(Db, Web), BRIDGE, pass(Neighbour)),
            arrives(arp(Host, Web), 0, pass(Neighbour)),
        ],
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

pub(super) fn only_v6(table: &mut Table) {
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
            sends(link(Web, Host).neighbour(ADVERTISEMENT, Web), pass(Neighbour)),
            sends(link(Web, Host).neighbour(SOLICITATION, Host), pass(Neighbour)),
            sends(link(LinkLocal, LinkLocal).neighbour(ADVERTISEMENT, LinkLocal), pass(Neighbour)),
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
        "neighbour discovery that a router would forward is ICMP like any other",
        Closed,
        [
            sends(link(Web, World).icmp(133, &[0; 4]), drop(NoRule)),
            sends(link(Web, World).neighbour(SOLICITATION, Host), drop(NoRule)),
            sends(link(Web, World).neighbour(ADVERTISEMENT, Web), drop(NoRule)),
            sends(link(Web, Client).neighbour(ADVERTISEMENT, Web), drop(NoRule)),
            sends(link(LinkLocal, World).icmp(133, &[0; 4]), drop(SpoofedSource)),
            sends(link(Web, World).hop_limit(1).icmp(131, &[0; 20]), drop(NoRule)),
        ],
    );
    table.row("no pod is a router", Open, [sends(link(LinkLocal, Everyone).icmp(134, &[0; 12]), drop(SpoofedSource))]);
    table.row(
        "the node's link-local address is not an endpoint's",
        Open,
        [
            sends(link(HostLinkLocal, Everyone).neighbour(SOLICITATION, Client), drop(SpoofedSource)),
            sends(link(Web, Everyone).neighbour(ADVERTISEMENT, HostLinkLocal), drop(SpoofedSource)),
        ],
    );
    table.row(
        "discovery from elsewhere does not claim an address of this node's pods",
        Open,
        [
            gets(link(Db, Everyone).neighbour(ADVERTISEMENT, Db), drop(MartianSource)),
            gets(link(Client, Everyone).neighbour(ADVERTISEMENT, Db), drop(MartianSource)),
            arrives(link(Db, Everyone).neighbour(ADVERTISEMENT, Db), DB, pass(Neighbour)),
        ],
    );
    table.row(
        "neighbour discovery that was forwarded is ICMP like any other",
        Closed,
        [
            gets(link(Client, Web).hop_limit(254).neighbour(SOLICITATION, Web), drop(NoRule)),
            gets(link(Client, Web).hop_limit(2).icmp(131, &[0; 20]), drop(NoRule)),
            gets(link(Client, Web).hop_limit(2).icmp(143, &[0; 4]), drop(NoRule)),
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
