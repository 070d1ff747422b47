//! What programs look at instead of the tables says what these do, whatever is written, fails, or is left behind.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::maps::{Array, Map, MapData};
use policy_common::table::{Endpoint, LOCAL_BITS_WORDS, Local, NEARBY_SLOTS, Tagged, local_bit, nearby_slot};
use policy_core::plan::{Plan, Step, TableState, Write, address_tag, local_bits};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::bpffs::{Bpffs, SMALL};

/// How many slots of `nearby` all interfaces share.
const SLOTS: u32 = 3;
/// How many interfaces share each.
const SHARING: u32 = 3;
/// How many of these fit into the tables: fewer than there are.
const ROOM: u32 = 6;
/// The first interface that has a slot of its own.
const FIRST_OTHER: u32 = 10;

fn open<T: aya::Pod>(bpffs: &Bpffs, name: &str) -> Array<MapData, T> {
    let pinned = MapData::from_pin(bpffs.pin(name)).expect("pinned");
    Map::from_map_data(pinned).expect("a map").try_into().expect("an array")
}

/// As many of the first elements of an array.
fn array<T: aya::Pod>(bpffs: &Bpffs, name: &str, count: u32) -> Vec<T> {
    open(bpffs, name).iter().take(count as usize).map(|element| element.expect("readable")).collect()
}

/// Leaves behind what an agent could that is killed anywhere in a write: policies nearby of which some are older than those
/// in `endpoints`, and bits of addresses that have not come or have gone.
fn leave_behind(bpffs: &Bpffs) {
    let mut nearby: Array<MapData, Endpoint> = open(bpffs, "nearby");
    for slot in 1..=SLOTS {
        let mut element = nearby.get(&slot, 0).expect("readable");
        element.policy[0].ingress.id ^= 1;
        nearby.set(slot, element, 0).expect("writable");
    }
    let mut bits: Array<MapData, u64> = open(bpffs, "local_bits");
    (0..LOCAL_BITS_WORDS).for_each(|element| bits.set(element, u64::MAX, 0).expect("writable"));
}

/// The endpoint of each slot of `nearby`; each is just as `endpoints` has it.
fn nearby(bpffs: &Bpffs, state: &TableState) -> Vec<Tagged> {
    // No interface here has a slot beyond these.
    let slots: Vec<Endpoint> = array(bpffs, "nearby", FIRST_OTHER + SMALL.endpoints);
    for (slot, nearby) in (0..).zip(&slots).filter(|(_, nearby)| nearby.endpoint != Tagged::default()) {
        let endpoint = state.endpoints.get(&nearby.endpoint.tag).expect("an endpoint");
        assert_eq!((slot, nearby), (nearby_slot(nearby.endpoint.tag), endpoint));
    }
    slots.into_iter().map(|nearby| nearby.endpoint).collect()
}

/// What `local_bits` says; and what it should say, had nothing ever failed.
fn bits(bpffs: &Bpffs, state: &TableState) -> [Vec<u64>; 2] {
    [array(bpffs, "local_bits", LOCAL_BITS_WORDS), local_bits(state.local.iter().map(|(address, _)| address)).to_vec()]
}

/// Addresses of both families of which several share a bit.
fn addresses() -> Vec<IpAddr> {
    let v4 = |number: u32| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + number));
    let v6 = |number: u32| IpAddr::from(Ipv6Addr::from(0xfd00 << 112 | u128::from(number)));
    let bit = |address: &IpAddr| local_bit(address_tag(*address));
    let mut found = Vec::new();
    for first in [v4(1), v4(2), v6(1)] {
        found.push(first);
        let alike = |address: &IpAddr| bit(address) == bit(&first) && *address != first;
        found.extend((0..1 << 20).map(v4).filter(alike).take(2));
        found.extend((0..1 << 20).map(v6).filter(alike).take(2));
    }
    found
}

fn step() -> impl Strategy<Value = Step> {
    let ifindex = (1..=SLOTS, 0..SHARING).prop_map(|(slot, sharer)| slot + sharer * NEARBY_SLOTS);
    let tagged = move |(ifindex, life, policies): (u32, u32, [u32; 4])| {
        let id = ifindex * 10 + life;
        let mut element = Endpoint { endpoint: Tagged { tag: ifindex, id }, ..Endpoint::default() };
        let words = element.policy.iter_mut().flat_map(|policy| [&mut policy.egress, &mut policy.ingress]);
        words.zip(policies).for_each(|(word, policy)| *word = Tagged { tag: id, id: policy });
        // What of an endpoint never changes.
        element.v4 = id.to_be_bytes();
        element
    };
    let element = (ifindex.clone(), 0..2u32, any::<[u32; 4]>()).prop_map(tagged);
    let local = prop::sample::select(addresses());
    let place = |(address, ifindex)| {
        let local = Local { tag: address_tag(address), ifindex, bridge: 0, reserved: 0 };
        Step::Write(Write::Local(address, Some(local)))
    };
    prop_oneof![
        6 => element.prop_map(|element| Step::Write(Write::Endpoint(element.endpoint.tag, Some(element)))),
        3 => ifindex.prop_map(|ifindex| Step::Write(Write::Endpoint(ifindex, None))),
        4 => (local.clone(), 1..9u32).prop_map(place),
        4 => local.prop_map(|address| Step::Write(Write::Local(address, None))),
        1 => Just(Step::Grace),
    ]
}

/// Steps that fill the tables so that only `ROOM` elements more find any.
fn others() -> Plan {
    let endpoints = (FIRST_OTHER..FIRST_OTHER + SMALL.endpoints - ROOM).map(|ifindex| {
        let element = Endpoint { endpoint: Tagged { tag: ifindex, id: ifindex }, ..Endpoint::default() };
        Step::Write(Write::Endpoint(ifindex, Some(element)))
    });
    let local = (0..SMALL.local - ROOM).map(|number| {
        let address = IpAddr::from(Ipv4Addr::from(0xac10_0000 + number));
        let local = Local { tag: address_tag(address), ifindex: FIRST_OTHER, bridge: 0, reserved: 0 };
        Step::Write(Write::Local(address, Some(local)))
    });
    Plan { steps: endpoints.chain(local).collect() }
}

/// Which slots of `nearby` were left by somebody whom a program may still be looking at.
#[derive(Default)]
struct Left {
    owners: Vec<Tagged>,
    since_grace: BTreeSet<usize>,
}

impl Left {
    /// To be told after each plan.
    fn look(&mut self, owners: Vec<Tagged>, waited: bool) {
        if waited {
            self.since_grace.clear();
        }
        for (slot, (before, now)) in self.owners.iter().zip(&owners).enumerate() {
            let is_anothers = *now != Tagged::default() && now != before;
            assert!(!is_anothers || !self.since_grace.contains(&slot), "{now:?} is where a program may see another");
            assert!(!is_anothers || *before == Tagged::default() || waited, "{now:?} took the place of {before:?}");
            if *before != Tagged::default() && now != before {
                self.since_grace.insert(slot);
            }
        }
        self.owners = owners;
    }
}

#[test]
fn shortcuts_say_what_the_tables_do_after_every_plan_that_fails_or_is_cut_off() {
    let bpffs = Bpffs::new();
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut datapath, mut model) = bpffs.open();
    datapath.execute(&others(), |step| model.step(step)).expect("there is room");
    let (mut left, mut failed, mut moved_in) = (Left::default(), 0, 0);
    let plans = vec((vec(step(), 1..12), prop::bool::weighted(0.02)), 500).new_tree(&mut runner).expect("plans");
    for (steps, dies) in plans.current() {
        // Grace alone, so that what comes after it in a plan is told apart from what came before.
        for steps in steps.chunk_by(|one, other| (*one == Step::Grace) == (*other == Step::Grace)) {
            let plan = Plan { steps: steps.to_vec() };
            failed += usize::from(datapath.execute(&plan, |step| model.step(step)).is_err());
            let waited = plan.steps.contains(&Step::Grace);
            let owners = nearby(&bpffs, &model);
            moved_in += owners.iter().zip(&left.owners).filter(|(now, before)| now != before && waited).count();
            left.look(owners, waited);
            let [found, needed] = bits(&bpffs, &model);
            assert!(found.iter().zip(&needed).all(|(found, needed)| found & needed == *needed), "{model:?}");
        }
        assert_eq!(datapath.read().expect("readable"), model);
        if dies {
            drop(datapath);
            leave_behind(&bpffs);
            let state;
            (datapath, state) = bpffs.open();
            assert_eq!(state, model);
            left = Left { owners: nearby(&bpffs, &model), ..Left::default() };
            let [found, needed] = bits(&bpffs, &model);
            assert_eq!(found, needed);
        }
    }
    assert!(failed > 20 && moved_in > 20, "{failed} failed, {moved_in} came after a grace period");
}
