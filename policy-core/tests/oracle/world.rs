//! What events mean, and whom an address means.

use policy_core::model::{ClusterId, Event};
use policy_core::testing::{abc, cluster_set, namespace, node, pod, policy};
use policy_core::world::World;

use super::*;

fn pods_of(world: &World) -> Vec<String> {
    world.pods.keys().map(ToString::to_string).collect()
}

#[test]
fn nothing_is_heard_before_the_cluster_set_is_configured() {
    let events = [pod("a/shop/web").into(), namespace("a/shop").into(), policy("a/shop/p").into(), node("a/n1", "")];
    assert_eq!(World::from_events(&events), World::default());
}

#[test]
fn nothing_is_heard_of_a_cluster_that_is_no_member() {
    let set = abc()
        .with(pod("x/shop/web"))
        .with(namespace("x/shop"))
        .with(policy("x/shop/p"))
        .with(node("x/n1", "192.168.0.1"));
    assert_eq!(set.world(), abc().world());
}

#[test]
fn a_cluster_that_leaves_takes_all_its_objects_along() {
    let set = abc()
        .with(pod("b/shop/web"))
        .with(namespace("b/shop"))
        .with(policy("b/shop/p"))
        .with(node("b/n1", "192.168.0.1"))
        .with(cluster_set("a").member("a", ""));
    assert_eq!(set.world(), cluster_set("a").member("a", "").world());
}

#[test]
fn a_cluster_that_comes_back_starts_with_nothing() {
    let set = abc().with(pod("b/shop/web")).with(cluster_set("a").member("a", "")).with(abc());
    assert_eq!(set.world(), abc().world());
}

#[test]
fn the_last_content_of_an_object_counts() {
    let set = abc().with(pod("a/shop/web").labels("app=old")).with(pod("a/shop/web").labels("app=new").uid("2"));
    let expected = abc().with(pod("a/shop/web").labels("app=new").uid("2"));
    assert_eq!(set.world(), expected.world());
}

#[test]
fn the_deletion_of_an_earlier_pod_of_that_name_is_not_meant_for_this_one() {
    let set = abc().with(pod("a/shop/web").uid("2")).with(pod("a/shop/web").uid("1").deleted());
    assert_eq!(pods_of(&set.world()), ["a/shop/web"]);
    let set = set.with(pod("a/shop/web").uid("2").deleted());
    assert_eq!(set.world(), abc().world());
}

#[test]
fn a_deleted_namespace_leaves_its_pods() {
    let set = abc().with(namespace("a/shop")).with(pod("a/shop/web")).with(namespace("a/shop").deleted());
    assert_eq!(set.world(), abc().with(pod("a/shop/web")).world());
}

#[test]
fn deletions_of_what_is_not_there_and_the_end_of_a_listing_change_nothing() {
    let set = abc()
        .with(Event::Synced("a".parse().expect("an id")))
        .with(policy("a/shop/p").deleted())
        .with(namespace("a/shop").deleted())
        .with(pod("a/shop/web").deleted());
    assert_eq!(set.world(), abc().world());
}

#[test]
fn an_address_means_its_owner_in_the_eyes_of_who_asks() {
    let set = abc()
        .member("a", "10.0.0.0/8")
        .member("b", "10.0.0.0/8")
        .with(pod("a/shop/x").ip("10.7.0.7"))
        .with(pod("b/shop/y").ip("10.7.0.7"));
    let world = set.world();
    let owner = |local: &str| {
        let local: ClusterId = local.parse().expect("an id");
        Oracle::new(&world).owner(&local, "10.7.0.7".parse().expect("an address")).map(|pod| pod.key.to_string())
    };
    assert_eq!(owner("a").as_deref(), Some("a/shop/x"));
    assert_eq!(owner("b").as_deref(), Some("b/shop/y"));
    assert_eq!(owner("c"), None);
}

#[test]
fn a_person_means_the_only_pod_that_has_an_address_even_a_rejected_one() {
    let set = abc()
        .with(pod("a/shop/stray").ip("10.9.0.1"))
        .with(pod("a/shop/one").ip("10.1.0.5").created_s(1))
        .with(pod("a/shop/two").ip("10.1.0.5").created_s(2))
        .with(pod("a/shop/host").ip("192.168.0.1").host_network())
        .with(pod("a/shop/done").ip("10.1.0.6").finished());
    let world = set.world();
    let meant = |address: &str| {
        let address = address.parse().expect("an address");
        Oracle::new(&world).endpoint_of(address).map(|pod| pod.key.to_string())
    };
    let addresses = ["10.9.0.1", "10.1.0.5", "192.168.0.1", "10.1.0.6", WORLD];
    let expected = [Some("a/shop/stray".to_owned()), Some("a/shop/two".to_owned()), None, None, None];
    assert_eq!(addresses.map(meant), expected);
}
