//! Real packets through the programs: what is allowed passes, what is not does not, whatever the agent does meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use policy_common::reason::Reason;
use policy_core::testing::{ClusterSetBuilder, abc, namespace, pod, pods, policy, rule};

use crate::node::EnforcingNode;

const WEB: (&str, &[&str]) = ("web", &["10.1.0.1", "fd00:1::1"]);
const DB: (&str, &[&str]) = ("db", &["10.1.0.2", "fd00:1::2"]);
const LOG: (&str, &[&str]) = ("log", &["10.1.0.3", "fd00:1::3"]);

/// Three pods; only `web` may talk to `db`, and only to its port 5432.
fn shop() -> ClusterSetBuilder {
    let member =
        |name: &str, [v4, v6]: [&str; 2]| pod(&format!("a/shop/{name}")).labels(&format!("app={name}")).ip(v4).ip(v6);
    abc()
        .with(namespace("a/shop"))
        .with(member("web", ["10.1.0.1", "fd00:1::1"]))
        .with(member("db", ["10.1.0.2", "fd00:1::2"]))
        .with(member("log", ["10.1.0.3", "fd00:1::3"]))
        .with(policy("a/shop/db").select("app=db").ingress([rule().peer(pods("app=web")).ports("UDP/5432")]))
}

fn shop_node() -> EnforcingNode {
    EnforcingNode::new(&shop(), &[WEB, DB, LOG])
}

#[test]
fn packets_pass_as_the_policies_say_in_both_families() {
    let mut shop = shop_node();
    for address in ["10.1.0.2", "fd00:1::2"] {
        assert!(shop.reaches("log", "db", address, 5432), "nothing is enforced yet, to {address}");
    }
    shop.enforce();
    for address in ["10.1.0.2", "fd00:1::2"] {
        assert!(shop.reaches("web", "db", address, 5432), "the rule allows it, to {address}");
        assert!(!shop.reaches("web", "db", address, 5433), "another port, to {address}");
        assert!(!shop.reaches("log", "db", address, 5432), "another pod, to {address}");
        assert!(shop.reaches("", "db", address, 5433), "the node itself, to {address}");
    }
    for address in ["10.1.0.3", "fd00:1::3"] {
        assert!(shop.reaches("db", "log", address, 514), "nobody isolates it, to {address}");
    }
}

#[test]
fn replies_of_an_allowed_connection_pass_until_a_commit_forbids_it() {
    let mut shop = shop_node();
    shop.enforce();
    let pair = shop.pair("web", "db", "10.1.0.2", 5432);
    let sender = pair.send().expect("allowed");
    assert!(pair.reply(sender));
    shop.take(policy("a/shop/db").select("app=db").no_ingress());
    assert!(!pair.reply(sender), "the next packet is judged anew, as web would be");
    assert!(pair.send().is_none());
    shop.take(policy("a/shop/db").select("app=db").ingress([rule()]));
    assert!(pair.send().is_some(), "allowed again");
}

#[test]
fn a_pod_that_lies_about_its_address_is_not_heard() {
    let mut shop = shop_node();
    shop.enforce();
    shop.pods["log"].ip("address add 10.1.0.1/32 dev eth0");
    shop.pods["log"].ip("route replace default via 169.254.1.1 src 10.1.0.1");
    assert!(!shop.reaches("log", "db", "10.1.0.2", 5432), "it says it were web");
    assert!(shop.reaches("web", "db", "10.1.0.2", 5432), "web itself is");
}

#[test]
fn counters_tell_why_packets_passed_or_not() {
    let mut shop = shop_node();
    shop.enforce();
    shop.reaches("web", "db", "10.1.0.2", 5432);
    shop.reaches("log", "db", "10.1.0.2", 5432);
    shop.reaches("log", "db", "10.1.0.2", 5432);
    let element = shop.node.endpoints().iter().find(|(key, _)| &*key.name == "db").expect("db").1.counters;
    let counters = shop.datapath().counters(element).expect("readable");
    let seen = |reason: Reason| counters.to_pod[reason as usize].packets;
    assert_eq!((seen(Reason::Rule), seen(Reason::NoRule), seen(Reason::SpoofedSource)), (1, 2, 0));
    assert!(counters.to_pod[Reason::NoRule as usize].bytes >= 2 * 28, "bytes are counted too");
}

#[test]
fn flows_are_swept_when_their_endpoint_is_gone() {
    let mut shop = shop_node();
    shop.enforce();
    assert!(shop.reaches("web", "db", "10.1.0.2", 5432));
    assert!(shop.reaches("web", "db", "fd00:1::2", 5432));
    // Each connection is remembered at both ends.
    let swept = shop.datapath().sweep_flows().expect("swept");
    assert!(swept.kept >= 4 && swept.removed == 0 && swept.is_over, "{swept:?}");
    let db = pod("a/shop/db").deleted();
    shop.take(db);
    let swept = shop.datapath().sweep_flows().expect("swept");
    assert!(swept.kept >= 2 && swept.removed >= 2, "{swept:?}");
    assert_eq!(shop.datapath().sweep_flows().expect("swept").removed, 0);
}

#[test]
fn flows_of_an_endpoint_that_is_gone_are_gone_before_its_number_can_be_used_again() {
    let mut shop = shop_node();
    shop.enforce();
    assert!(shop.reaches("web", "db", "10.1.0.2", 5432));
    shop.take(pod("a/shop/db").deleted());
    shop.reopen();
    assert_eq!(shop.datapath().sweep_flows().expect("swept").removed, 0, "nothing of it is left to sweep");
}

#[test]
fn flows_grow_old_by_the_clock_that_the_agent_keeps() {
    let mut shop = shop_node();
    shop.enforce();
    assert!(shop.reaches("web", "db", "10.1.0.2", 5432));
    shop.datapath().tick(180);
    assert_eq!(shop.datapath().sweep_flows().expect("swept").removed, 0, "UDP is remembered for so long");
    shop.datapath().tick(1);
    assert!(shop.datapath().sweep_flows().expect("swept").removed >= 2);
}

#[test]
fn reopening_under_traffic_exchanges_the_programs_and_loses_no_packet() {
    let mut shop = shop_node();
    shop.enforce();
    let (allowed, forbidden) = (shop.pair("web", "db", "10.1.0.2", 5432), shop.pair("log", "db", "fd00:1::2", 5433));
    let before = shop.programs("db");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) {
                assert!(allowed.send().is_some(), "datagram {sent} is lost");
                sent += 1;
            }
            sent
        });
        let intruder = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert!(forbidden.send().is_none(), "a forbidden datagram passed");
            }
        });
        for _ in 0..5 {
            let state = shop.reopen();
            assert_eq!(&state, shop.node.tables());
            shop.attach();
            thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(sender.join().expect("no packet is lost") > 10);
        intruder.join().expect("nothing forbidden passes");
    });
    let after = shop.programs("db");
    assert_eq!(after.each_ref().map(Vec::len), [1, 1], "one program at each hook");
    assert!(after != before, "and it is the new one");
}
