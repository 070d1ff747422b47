//! The small print of parsing: what is longer, shorter or otherwise than packets mostly are.

use policy_common::decide::{Context, from_pod, to_pod};
use policy_common::reason::Reason;
use policy_common::reason::Reason::{Neighbour, NoRule, Node, NotIsolated, Rule, Unparsable};
use policy_core::modelled::Modelled;
use policy_core::testing::packets::Policies::{Closed, Open, Served};
use policy_core::testing::packets::Who::{Client, Db, Everyone, Host, Web, World};
use policy_core::testing::packets::flags::SYN;
use policy_core::testing::packets::words::from_client;
use policy_core::testing::packets::{DB, Frame, Hook, Ip, MORE, Policies, Stage, UPLINK, WEB, chunk};

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// What a hook says of a packet at an endpoint.
fn judge(policies: Policies, hook: Hook, (ifindex, arrival): (u32, u32), frame: &[u8]) -> Reason {
    let stage = Stage::new(policies);
    let tables = Modelled::new(stage.node().tables());
    let context = Context { ifindex, ingress_ifindex: arrival, has_socket: true };
    let verdict = match hook {
        Hook::FromPod => from_pod(frame, &context, &tables),
        Hook::ToPod => to_pod(frame, &context, &tables),
    };
    verdict.reason
}

fn got(policies: Policies, frame: &[u8]) -> Reason {
    judge(policies, Hook::ToPod, (WEB, UPLINK), frame)
}

fn sent(policies: Policies, ifindex: u32, frame: &[u8]) -> Reason {
    judge(policies, Hook::FromPod, (ifindex, ifindex), frame)
}

#[test]
fn only_what_is_longer_than_its_length_field_can_say_may_say_nothing() {
    for (ip, field, header) in [(Ip::V4, 16..18, 20), (Ip::V6, 18..20, 0)] {
        let with_bytes = |behind: usize| {
            let mut frame = from_client(ip).tcp(4000, 80, SYN);
            frame[field.clone()].fill(0);
            frame.resize(if header == 0 { 54 } else { 14 } + behind, 0);
            got(Served, &frame)
        };
        assert_eq!([60, 65535, 65536].map(with_bytes), [Unparsable, Unparsable, Rule], "{ip:?}");
    }
}

#[test]
fn only_a_datagram_that_is_longer_than_its_length_field_can_say_may_say_nothing() {
    for (ip, field, udp) in [(Ip::V4, 16..18, 34), (Ip::V6, 18..20, 54)] {
        let mut frame = from_client(ip).udp(4000, 53);
        frame[udp + 4..udp + 6].fill(0);
        assert_eq!(got(Served, &frame), Unparsable, "{ip:?}");
        frame[field].fill(0);
        let mut of_length = |length: usize| {
            frame.resize(udp + length, 0);
            got(Served, &frame)
        };
        assert_eq!([65536, 65535].map(&mut of_length), [Rule, Unparsable], "{ip:?}");
    }
}

#[test]
fn a_datagram_may_be_longer_than_its_first_fragment() {
    // UDP from port 4000 to 53, of 100 bytes.
    let datagram = [0x0f, 0xa0, 0, 53, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for ip in [Ip::V4, Ip::V6] {
        assert_eq!(got(Served, &from_client(ip).fragment(MORE).carrying(17, &datagram)), Rule);
        assert_eq!(got(Served, &from_client(ip).carrying(17, &datagram)), Unparsable);
    }
    let whole = from_client(Ip::V6).header(44, &[0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!(got(Served, &whole.carrying(17, &datagram)), Unparsable, "a fragment that is all there is");
}

#[test]
fn an_extension_header_is_as_long_as_it_says() {
    let mut long = [0; 24];
    long[1] = 2;
    assert_eq!(got(Served, &from_client(Ip::V6).header(60, &long).tcp(4000, 80, SYN)), Rule);
    assert_eq!(got(Served, &from_client(Ip::V6).header(60, &long).tcp(4000, 81, SYN)), NoRule);
}

#[test]
fn as_many_options_are_read_as_a_header_has_room_for() {
    assert_eq!(got(Served, &from_client(Ip::V4).options(&[1; 40]).tcp(4000, 80, SYN)), Rule);
}

#[test]
fn the_shortest_sctp_packet_has_one_empty_chunk() {
    let mut cookie_ack = [0; 16];
    cookie_ack[..4].copy_from_slice(&[0x0f, 0xa0, 0, 90]);
    (cookie_ack[12], cookie_ack[15]) = (11, 4);
    let got = |payload: &[u8]| got(Served, &from_client(Ip::V4).carrying(132, payload));
    assert_eq!((got(&cookie_ack), got(&cookie_ack[..15])), (Rule, Unparsable));
}

#[test]
fn an_association_ends_by_an_abort_or_a_shutdown() {
    let stage = Stage::new(Open);
    let context = Context { ifindex: WEB, ingress_ifindex: UPLINK, has_socket: true };
    let closes = |chunk: &u8| {
        let tables = Modelled::new(stage.node().tables());
        for chunk in [chunk::INIT, *chunk] {
            assert!(to_pod(&from_client(Ip::V4).sctp_chunk(4000, 90, chunk)[..], &context, &tables).allow);
        }
        tables.into_flows().v4.flows.values().all(|flow| flow.state.is_closing())
    };
    // ABORT, SHUTDOWN, SHUTDOWN ACK, SHUTDOWN COMPLETE.
    assert_eq!((0..=15).filter(closes).collect::<Vec<_>>(), [6, 7, 8, 14]);
}

/// A solicitation mostly says its sender's hardware address too.
#[test]
fn neighbour_discovery_may_have_options() {
    let mut rest = vec![0; 4];
    rest.extend_from_slice(&"fd00:2::1".parse::<std::net::Ipv6Addr>().expect("an address").octets());
    rest.extend_from_slice(&[1, 1, 2, 0, 0, 0, 0, 1]);
    let frame = Frame::new(Ip::V6, Web, Everyone).hop_limit(255).icmp(SOLICITATION, &rest);
    assert_eq!(sent(Closed, WEB, &frame), Neighbour);
}

#[test]
fn listener_reports_go_to_groups_beyond_the_link_too() {
    let mut frame = Frame::new(Ip::V6, Web, Everyone).hop_limit(1).icmp(131, &[0; 20]);
    frame[38..40].copy_from_slice(&[0xff, 0x05]);
    assert_eq!(sent(Closed, WEB, &frame), Neighbour);
    frame[38..40].copy_from_slice(&[0x20, 0x01]);
    assert_eq!(sent(Closed, WEB, &frame), NoRule);
}

#[test]
fn behind_a_bridge_an_answer_goes_to_any_address_if_it_says_no_more_than_it_must() {
    let answer = |length: usize| {
        let mut rest = vec![0; 4];
        rest.extend_from_slice(&"fd00:1::2".parse::<std::net::Ipv6Addr>().expect("an address").octets());
        rest.resize(length - 4, 0);
        Frame::new(Ip::V6, Db, Client).hop_limit(255).icmp(ADVERTISEMENT, &rest)
    };
    assert_eq!([24, 32, 33].map(|length| sent(Open, DB, &answer(length))), [Neighbour, Neighbour, NotIsolated]);
}

#[test]
fn icmp_of_any_kind_passes_from_the_node() {
    let timestamp = |from| Frame::new(Ip::V4, from, Web).icmp(13, &[0; 16]);
    assert_eq!(judge(Closed, Hook::ToPod, (WEB, 0), &timestamp(Host)), Node);
    assert_eq!(got(Closed, &timestamp(Client)), NoRule);
    let about_nothing = |from| Frame::new(Ip::V4, from, Web).unreachable(&Frame::new(Ip::V4, Web, World).udp(4000, 53));
    assert_eq!(judge(Closed, Hook::ToPod, (WEB, 0), &about_nothing(Host)), Node);
    assert_eq!(got(Closed, &about_nothing(Client)), NoRule);
}
