//! What a flow's few bytes hold: how far its connection is, and the tag by which it knows its key again.

use std::collections::BTreeSet;

use policy_common::family::{V4, V6};
use policy_common::flow::{Opener, tag};
use policy_common::parse::Phase;
use policy_common::table::{FlowKey, FlowState};
use policy_common::tables::Direction;

fn open() -> FlowState {
    FlowState::judged(1, 1, Opener::Own, Direction::FromPod, false)
}

#[test]
fn a_connection_that_finishes_goes_on_finishing_and_one_that_was_only_reset_may_go_on() {
    let after = |phases: &[Phase]| phases.iter().fold(open(), |state, phase| state.after(*phase));
    let ends = |phases: &[Phase]| (after(phases).is_closing(), after(phases).is_reset());
    assert_eq!(ends(&[Phase::Continues]), (false, false));
    assert_eq!(ends(&[Phase::Finishes]), (true, false));
    assert_eq!(ends(&[Phase::Finishes, Phase::Continues]), (true, false), "the other end may send for long");
    assert_eq!(ends(&[Phase::Finishes, Phase::Resets, Phase::Continues]), (true, false));
    assert_eq!(ends(&[Phase::Resets]), (true, true));
    assert_eq!(ends(&[Phase::Resets, Phase::Continues]), (false, false), "anybody can send an RST");
    assert_eq!(ends(&[Phase::Resets, Phase::Finishes, Phase::Continues]), (true, false));
}

type Key = FlowKey<[u8; 4]>;
type Keys = fn(u32) -> Key;

fn key(endpoint: u32, peer: u32, own_port: u16, peer_port: u16, protocol: u32) -> Key {
    FlowKey { endpoint, peer: peer.to_be_bytes(), own_port, peer_port, protocol }
}

/// Where a tag would be the same for keys that differ, an element of the table that changed hands while it was read could
/// pass for the one that was asked for.
#[test]
fn keys_that_differ_in_any_field_seldom_have_one_tag() {
    // Few of 65,536 values are taken twice: a good mixture has 63 % of them, by chance.
    const KEYS: u32 = 1 << 16;
    const GOOD: usize = KEYS as usize * 60 / 100;
    let scattered = |number: u32| number.wrapping_mul(0x0100_0193) ^ number >> 7;
    let fields: [(&str, Keys); 4] = [
        ("endpoint", |n| key(n, 0x0a01_0001, 80, 40_000, 6)),
        ("peer", |n| key(7, 0x0a01_0000 + n, 80, 40_000, 6)),
        ("own port", |n| key(7, 0x0a01_0001, n as u16, 40_000, 6)),
        ("peer's port", |n| key(7, 0x0a01_0001, 80, n as u16, 6)),
    ];
    for (field, key) in fields {
        let tags: BTreeSet<u16> = (0..KEYS).map(|number| tag::<V4>(&key(number))).collect();
        assert!(tags.len() >= GOOD, "{field}: {} tags", tags.len());
    }
    let protocols: BTreeSet<u16> = (0..256).map(|n| tag::<V4>(&key(7, 0x0a01_0001, 80, 40_000, n))).collect();
    assert!(protocols.len() > 250, "{} tags of protocols", protocols.len());
    let all = |n| key(scattered(n), scattered(n + 1), scattered(n + 2) as u16, scattered(n + 3) as u16, n % 256);
    let tags: BTreeSet<u16> = (0..KEYS).map(|number| tag::<V4>(&all(number))).collect();
    assert!(tags.len() >= GOOD, "{} tags", tags.len());
    let v6 = |n: u32| FlowKey {
        endpoint: 7,
        peer: (0xfd00_0002_u128 << 96 | u128::from(n)).to_be_bytes(),
        own_port: 80,
        peer_port: 40_000,
        protocol: 6,
    };
    let tags: BTreeSet<u16> = (0..KEYS).map(|number| tag::<V6>(&v6(number))).collect();
    assert!(tags.len() >= GOOD, "{} tags of IPv6", tags.len());
}
