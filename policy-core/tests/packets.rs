//! The packet tables on the host, and the addresses of which they show only a few.

use std::net::Ipv6Addr;

use policy_common::decide::{Context, from_pod, to_pod};
use policy_common::family::V6;
use policy_common::parse::Network;
use policy_core::modelled::{Flows, Modelled};
use policy_core::testing::packets::{Hook, Row, Stage, Step, WEB, rows};

/// Plays a row; returns what is wrong, empty: nothing.
fn play(row: &Row) -> String {
    let mut stage = Stage::new(row.policies);
    let mut flows = Flows::default();
    for (number, step) in row.steps.iter().enumerate() {
        stage.act(step);
        let tables = Modelled::with_flows(stage.node().tables(), flows);
        let mut wrong = String::new();
        if let Step::Packet(sight) = step {
            let context = Context { ifindex: WEB, ingress_ifindex: sight.arrival, has_socket: sight.has_socket };
            let verdict = match sight.hook {
                Hook::FromPod => from_pod(sight.frame.as_slice(), &context, &tables),
                Hook::ToPod => to_pod(sight.frame.as_slice(), &context, &tables),
            };
            if (verdict.allow, verdict.reason) != (sight.allow, sight.reason) {
                wrong = format!("\n{:?}: {}\n  step {number}: {verdict:?}\n  expected {sight:?}", row.ip, row.claim);
            }
        }
        if matches!(step, Step::Forget) {
            tables.forget_flows();
        }
        flows = tables.into_flows();
        if !wrong.is_empty() {
            return wrong;
        }
    }
    String::new()
}

#[test]
fn every_row_of_the_packet_tables_holds_on_the_host() {
    let rows = rows();
    let packets = rows.iter().flat_map(|row| &row.steps).filter(|step| matches!(step, Step::Packet(_))).count();
    assert!(rows.len() >= 120 && packets >= 300, "{} rows with {packets} packets", rows.len());
    let wrong: String = rows.iter().map(play).collect();
    assert!(wrong.is_empty(), "{wrong}");
}

/// RFC 4291 §2.5.6 and §2.7.
#[test]
fn only_addresses_of_the_link_are_taken_for_them() {
    let is = |what: fn(&[u8; 16]) -> bool, text: &str| what(&text.parse::<Ipv6Addr>().expect("an address").octets());
    let of_link = ["fe80::1", "febf:ffff::1"].map(|text| is(V6::is_link_local, text));
    let others = ["fec0::1", "fe40::1", "fd80::1", "2a80::1", "::fe80"].map(|text| is(V6::is_link_local, text));
    assert_eq!((of_link, others), ([true; 2], [false; 5]));
    let of_link = ["ff01::1", "ff02::1", "ff12::1"].map(|text| is(V6::is_link_multicast, text));
    let others = ["ff05::1", "ff0e::1", "ff00::1", "fe02::1"].map(|text| is(V6::is_link_multicast, text));
    assert_eq!((of_link, others), ([true; 3], [false; 4]));
    let groups = ["ff02::1", "ff0e::1", "fe80::1", "fd00:ff::1"].map(|text| is(V6::is_multicast, text));
    assert_eq!(groups, [true, true, false, false]);
}
