//! Tables that are full: what does not fit is refused whole, and tried again.

use policy_core::compile::Subjects;
use policy_core::model::Scope;
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Limits, Table, TableFull, TableState};
use policy_core::testing::{ClusterSetBuilder, PodBuilder, abc, block, namespace, pod, pods, policy, rule};

fn web() -> PodBuilder {
    pod("a/shop/web").labels("app=web").ip("10.1.0.1").ip("fd00:1::1")
}

fn cart(number: u8) -> PodBuilder {
    pod(&format!("b/shop/cart-{number}")).labels("app=cart").ip(&format!("10.2.0.{number}"))
}

/// An endpoint of two families, with peers of both, two blocks and a port: something for every table.
fn set() -> ClusterSetBuilder {
    let admitted = rule().peer(pods("app=cart")).peer(block("192.0.2.0/24", "")).peer(block("2001:db8::/32", ""));
    let set = abc().scope(Scope::ClusterSet).with(namespace("a/shop")).with(namespace("b/shop")).with(web());
    set.with(cart(1).ip("fd00:2::1")).with(policy("a/shop/in").select("app=web").ingress([admitted.ports("TCP/80")]))
}

/// A node that has not made a plan yet.
fn node(limits: Limits) -> Node {
    let set = set();
    let mut node = Node::new(set.config(), Subjects::All, TableState::default(), limits);
    node.apply(&set.events());
    node.attach(&web().build().key, Attachment { ifindex: 7, bridge: None });
    node
}

#[test]
fn a_plan_is_refused_if_one_element_has_no_room_in_whichever_table() {
    let mut unlimited = node(Limits::default());
    unlimited.settle().expect("there are no limits");
    for table in Table::ALL {
        let need = unlimited.tables().len(table);
        assert!(need > 0, "{table} is empty");
        let mut refused = node(Limits { most: [(table, need - 1)].into() });
        assert_eq!(refused.settle(), Err(TableFull { table, need, limit: need - 1 }));
        let mut fitting = node(Limits { most: [(table, need)].into() });
        fitting.settle().unwrap_or_else(|full| panic!("{full}"));
        assert_eq!(fitting.tables(), unlimited.tables());
        fitting.abandon();
        fitting.settle().expect("what is there needs no more room");
    }
}

#[test]
fn who_reads_that_a_table_is_full_knows_which() {
    let names = "endpoints local_v4 local_v6 ident_v4 ident_v6 nets_v4 nets_v6 rules ports";
    assert_eq!(Table::ALL.map(|table| table.to_string()).join(" "), names);
}

#[test]
fn what_did_not_fit_is_made_up_for_as_soon_as_there_is_room() {
    let mut node = node(Limits { most: [(Table::IdentV4, 2)].into() });
    node.settle().expect("there is room for one");
    node.apply(&[cart(2).into(), cart(3).into()]);
    let before = node.tables().clone();
    node.settle().expect_err("and not for three");
    assert_eq!(node.tables(), &before, "the last policy stays in force");
    node.apply(&[cart(3).deleted()]);
    node.settle().expect("there is room for two");
    assert!(node.tables().idents.contains_key(&"10.2.0.2".parse().expect("an address")));
}
