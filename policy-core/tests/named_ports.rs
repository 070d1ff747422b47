//! Port names of peers: whose numbers are known, and for how long.

use std::net::IpAddr;

use policy_core::compile::Subjects;
use policy_core::judge::Origin;
use policy_core::model::{Direction, Event, Scope};
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Limits, TableState};
use policy_core::testing::{ClusterSetBuilder, PodBuilder, abc, block, connection, namespace, pod, pods, policy, rule};

/// A node with the endpoint `web`, and pods that name a port `http`: a shop, a bank, and a mint of which no rule speaks.
fn node() -> Node {
    let set = abc().scope(Scope::ClusterSet).with(namespace("a/shop")).with(namespace("b/shop"));
    let web = pod("a/shop/web").labels("app=web").ip("10.1.0.1").node("n");
    let others = [("shop", 1), ("bank", 2), ("mint", 3)].map(|(app, number)| peer(app, number));
    let set = others.into_iter().fold(set.with(web.clone()), ClusterSetBuilder::with);
    let mut node = Node::new(set.config(), Subjects::OnNode("n".into()), TableState::default(), Limits::default());
    node.apply(&set.events());
    node.attach(&web.build().key, Attachment { ifindex: 7, bridge: None });
    node
}

fn peer(app: &str, number: u8) -> PodBuilder {
    pod(&format!("b/shop/{app}")).labels(&format!("app={app}")).ip(&format!("10.2.0.{number}")).port("http", 8080)
}

/// A policy under which `web` may send to a port name of some peers.
fn sends(name: &str, peer: policy_core::model::Peer) -> Event {
    policy(&format!("a/shop/{name}")).select("app=web").egress([rule().peer(peer).ports("TCP/http")]).into()
}

/// A policy under which `web` may send to a port name of everybody.
fn sends_to_all(name: &str) -> Event {
    policy(&format!("a/shop/{name}")).select("app=web").egress([rule().ports("TCP/http")]).into()
}

fn gone(event: &Event) -> Event {
    match event {
        Event::PolicyApplied(policy) => Event::PolicyDeleted(policy.key.clone()),
        _ => unreachable!("a policy"),
    }
}

/// The addresses that have an entry, by their last number.
fn known(node: &Node) -> Vec<String> {
    let mut known: Vec<IpAddr> = node.compiler().addresses().map(|(address, _)| address).collect();
    known.sort();
    known.iter().map(ToString::to_string).collect()
}

/// Which of the ports 80 and 8080 of the shop `web` may send to.
fn open_ports(node: &mut Node) -> Vec<u16> {
    node.settle().expect("there are no limits");
    let opens = |port: &u16| {
        let probe = connection("10.1.0.1", "10.2.0.1", &format!("TCP/{port}"));
        node.tables().judge(7, Direction::Egress, &probe, Origin::Network).is_some_and(|verdict| verdict.allow)
    };
    [80, 8080].into_iter().filter(opens).collect()
}

#[test]
fn a_port_name_means_the_number_that_the_peer_has_behind_it() {
    let mut node = node();
    node.apply([&sends("shops", pods("app=shop"))]);
    assert_eq!(open_ports(&mut node), [8080]);
    node.apply([&pod("b/shop/shop").labels("app=shop").ip("10.2.0.1").port("http", 80).into()]);
    assert_eq!(open_ports(&mut node), [80]);
}

#[test]
fn a_port_name_keeps_its_meaning_for_as_long_as_some_policy_uses_it() {
    let mut node = node();
    let again = sends("again", pods("app=shop"));
    node.apply([&sends("shops", pods("app=shop")), &again]);
    assert_eq!(open_ports(&mut node), [8080]);
    node.apply([&gone(&again)]);
    assert_eq!(open_ports(&mut node), [8080]);
}

#[test]
fn a_policy_knows_the_peers_behind_a_port_name_that_another_has_used_before() {
    let mut node = node();
    node.apply([&sends_to_all("one")]);
    assert_eq!(open_ports(&mut node), [8080]);
    node.apply([&sends_to_all("another")]);
    assert_eq!(open_ports(&mut node), [8080]);
}

#[test]
fn a_port_name_gives_an_entry_only_to_peers_of_the_rules_that_use_it() {
    let mut node = node();
    node.apply([&sends("shops", pods("app=shop"))]);
    assert_eq!(known(&node), ["10.2.0.1"]);
    let banks = sends("banks", pods("app=bank"));
    node.apply([&banks]);
    assert_eq!(known(&node), ["10.2.0.1", "10.2.0.2"]);
    node.apply([&gone(&banks)]);
    assert_eq!(known(&node), ["10.2.0.1"]);
    node.apply([&peer("mint", 3).labels("app=shop").into()]);
    assert_eq!(known(&node), ["10.2.0.1", "10.2.0.3"]);
}

#[test]
fn a_block_with_a_port_name_asks_it_of_everybody() {
    let mut node = node();
    let blocks = sends("blocks", block("10.2.0.0/31", ""));
    node.apply([&blocks]);
    assert_eq!(known(&node), ["10.2.0.1", "10.2.0.2", "10.2.0.3"]);
    node.apply([&sends("shops", pods("app=shop")), &gone(&blocks)]);
    assert_eq!(known(&node), ["10.2.0.1"]);
    assert_eq!(node.compiler().facets().len(), 2, "the peer, and the number that it has behind the name");
    node.apply([&gone(&sends("shops", pods("app=shop")))]);
    assert!(known(&node).is_empty() && node.compiler().facets().is_empty());
}
