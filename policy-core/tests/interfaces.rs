//! Endpoints and their interfaces: who decides where several pods are found behind one.

use std::net::IpAddr;

use policy_common::decide::{Context, to_pod};
use policy_common::reason::Reason;
use policy_core::compile::Subjects;
use policy_core::judge::Origin;
use policy_core::model::{Direction, PodKey};
use policy_core::modelled::Modelled;
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Limits, Step, Table, TableState, Write};
use policy_core::testing::packets::flags::ACK;
use policy_core::testing::packets::{Frame, Ip, UPLINK, Who};
use policy_core::testing::{PodBuilder, abc, connection, namespace, pod, pods, policy, rule};

fn key(pod: &PodBuilder) -> PodKey {
    pod.clone().build().key
}

/// A node with these pods, each behind an interface.
fn node(pods: &[(PodBuilder, u32)]) -> Node {
    let set = pods.iter().fold(abc().with(namespace("a/shop")), |set, (pod, _)| set.with(pod.clone()));
    let mut node = Node::new(set.config(), Subjects::All, TableState::default(), Limits::default());
    node.apply(&set.events());
    for (pod, ifindex) in pods {
        assert!(node.attach(&key(pod), Attachment { ifindex: *ifindex, bridge: Some(3) }));
    }
    node.settle().expect("there are no limits");
    node
}

fn passes(node: &Node, ifindex: u32, source: &str) -> bool {
    let probe = connection(source, "192.0.2.1", "TCP/80");
    node.tables().judge(ifindex, Direction::Egress, &probe, Origin::Network).is_some_and(|verdict| verdict.allow)
}

#[test]
fn only_pods_of_this_node_and_this_cluster_are_endpoints() {
    let set = abc().with(namespace("a/shop")).with(pod("a/shop/one").ip("10.1.0.1").node("n1"));
    let set = set.with(pod("a/shop/two").ip("10.1.0.2").node("n2")).with(pod("a/shop/three").ip("10.1.0.3"));
    let set = set.with(namespace("b/shop")).with(pod("b/shop/four").ip("10.2.0.1").node("n1"));
    let mut node = Node::new(set.config(), Subjects::OnNode("n1".into()), TableState::default(), Limits::default());
    node.apply(&set.events());
    assert_eq!(node.detached().map(|pod| pod.key().to_string()).collect::<Vec<_>>(), ["a/shop/one"]);
}

#[test]
fn nothing_passes_where_two_pods_of_different_addresses_are_found() {
    let [one, two] = [("a/shop/one", "10.1.0.1"), ("a/shop/two", "10.1.0.2")].map(|(name, ip)| pod(name).ip(ip));
    let mut node = node(&[(one.clone(), 7), (two.clone(), 7)]);
    assert_eq!(node.contested().into_iter().collect::<Vec<_>>(), [(7, vec![key(&one), key(&two)])]);
    assert!(!passes(&node, 7, "10.1.0.1") && !passes(&node, 7, "10.1.0.2"));
    assert!(node.tables().is_held(7));
    // As soon as one of them is elsewhere, both are judged.
    node.attach(&key(&two), Attachment { ifindex: 8, bridge: Some(3) });
    node.settle().expect("there are no limits");
    assert!(node.contested().is_empty());
    assert!(passes(&node, 7, "10.1.0.1") && passes(&node, 8, "10.1.0.2"));
}

#[test]
fn an_interface_is_a_strangers_only_to_pods_of_other_addresses() {
    let [old, new] = ["a/shop/old", "a/shop/new"].map(|name| pod(name).ip("10.1.0.1"));
    let other = pod("a/shop/other").ip("10.1.0.2");
    let node = node(&[(old.clone(), 7), (new.clone(), 8), (other.clone(), 9)]);
    assert_eq!(node.stranger(7, &key(&new)), None, "it takes over the address");
    assert_eq!(node.stranger(7, &key(&other)), Some(&key(&old)));
    assert_eq!(node.stranger(7, &key(&old)), None);
    assert_eq!(node.stranger(10, &key(&other)), None, "nobody is there");
}

#[test]
fn an_address_that_two_pods_claim_is_behind_its_owners_interface() {
    let [old, new] = [("a/shop/z-old", 1), ("a/shop/new", 2)].map(|(name, at)| pod(name).ip("10.1.0.1").created_s(at));
    let node = node(&[(old, 7), (new, 8)]);
    let address: IpAddr = "10.1.0.1".parse().expect("an address");
    assert_eq!(node.tables().local.get(&address).map(|local| local.ifindex), Some(8));
}

#[test]
fn while_a_table_is_full_new_pods_are_held_as_long_as_there_is_room_for_them() {
    let names = ["a/shop/one", "a/shop/two", "a/shop/three", "a/shop/four"];
    let pods: Vec<_> =
        names.iter().zip(1..).map(|(name, at)| pod(name).ip(&format!("10.1.0.{at}"))).zip(11..).collect();
    let set = pods.iter().fold(abc().with(namespace("a/shop")), |set, (pod, _)| set.with(pod.clone()));
    let limits = Limits { most: [(Table::LocalV4, 1), (Table::Endpoints, 3)].into() };
    let mut node = Node::new(set.config(), Subjects::All, TableState::default(), limits);
    node.apply(&set.events());
    let attach = |node: &mut Node, (pod, ifindex): &(PodBuilder, u32)| {
        node.attach(&key(pod), Attachment { ifindex: *ifindex, bridge: None });
    };
    attach(&mut node, &pods[0]);
    node.settle().expect("there is room for one");
    pods[1..].iter().for_each(|pod| attach(&mut node, pod));
    node.settle().expect_err("and not for more");
    let plan = node.hold();
    plan.steps.iter().for_each(|step| node.stepped(step));
    assert_eq!(node.tables().endpoints.keys().copied().collect::<Vec<_>>(), [11, 12, 13]);
    assert_eq!([11, 12, 13].map(|ifindex| node.tables().is_held(ifindex)), [false, true, true]);
    assert!(passes(&node, 11, "10.1.0.1") && !passes(&node, 12, "10.1.0.2"));
    assert!(node.hold().is_empty(), "it is done");
}

#[test]
fn a_restart_leaves_an_interface_to_the_pod_that_owns_its_address_whoever_is_found_there_first() {
    let [old, new] = [("a/shop/a-old", 1), ("a/shop/new", 2)].map(|(name, at)| pod(name).ip("10.1.0.1").created_s(at));
    let more = pod("a/shop/a-more").ip("10.1.0.1").ip("fd00:1::1").created_s(0);
    let pods = [(old, 7), (new, 7), (more, 7)];
    let tables = node(&pods).tables().clone();
    let set = pods.iter().fold(abc().with(namespace("a/shop")), |set, (pod, _)| set.with(pod.clone()));
    let mut restarted = Node::new(set.config(), Subjects::All, tables.clone(), Limits::default());
    restarted.apply(&set.events());
    for (pod, ifindex) in &pods {
        restarted.attach(&key(pod), Attachment { ifindex: *ifindex, bridge: Some(3) });
    }
    restarted.settle().expect("there are no limits");
    assert_eq!(restarted.tables().endpoints, tables.endpoints);
}

#[test]
fn as_many_counters_as_endpoints_are_enough_for_a_pod_that_takes_over_an_interface() {
    let (old, new) = (pod("a/shop/old").ip("10.1.0.1"), pod("a/shop/new").ip("10.1.0.2"));
    let set = abc().with(namespace("a/shop")).with(old.clone());
    let limits = Limits { most: [(Table::Endpoints, 1)].into() };
    let mut node = Node::new(set.config(), Subjects::All, TableState::default(), limits);
    node.apply(&set.events());
    node.attach(&key(&old), Attachment { ifindex: 7, bridge: None });
    node.settle().expect("there is room for one");
    node.apply(&[old.deleted(), new.clone().into()]);
    node.attach(&key(&new), Attachment { ifindex: 7, bridge: None });
    let plan = node.settle().expect("there still is");
    assert!(plan.steps.contains(&Step::Write(Write::ClearCounters(0))), "{plan:?}");
    assert_eq!(node.tables().endpoints[&7].counters, 0);
}

#[test]
fn packets_on_their_way_are_waited_for_though_nothing_is_swept() {
    let mut node = node(&[(pod("a/shop/one").ip("10.1.0.1"), 7)]);
    let address: IpAddr = "192.168.0.1".parse().expect("an address");
    node.set_host_addresses([address].into());
    node.settle().expect("there are no limits");
    node.set_host_addresses([].into());
    let commit = node.tables().commit;
    let plan = node.settle().expect("there are no limits");
    // The slot that was live until now is the next one to be staged.
    assert_eq!(plan.steps, [Step::Write(Write::Local(address, None)), Step::Flip(commit + 1), Step::Grace]);
}

#[test]
fn a_plan_that_was_cut_off_before_its_last_grace_period_is_made_up_for_by_the_next_that_does_anything() {
    let mut node = node(&[(pod("a/shop/one").ip("10.1.0.1"), 7)]);
    let one = key(&pod("a/shop/one"));
    node.detach(&one);
    let plan = node.plan().expect("there are no limits");
    let (last, others) = plan.steps.split_last().expect("there is something to do");
    assert_eq!(last, &Step::Grace);
    assert!(others.contains(&Step::Write(Write::Endpoint(7, None))), "{plan:?}");
    others.iter().for_each(|step| node.stepped(step));
    node.abandon();
    let commit = node.tables().commit;
    let plan = node.settle().expect("there are no limits");
    assert_eq!(plan.steps, [Step::Grace, Step::Flip(commit + 2)], "nothing else is left to be done");
    node.attach(&one, Attachment { ifindex: 8, bridge: None });
    let plan = node.settle().expect("there are no limits");
    assert!(!plan.steps.starts_with(&[Step::Grace]));
}

/// An exact address that moves alone is replaced at one blow, and the flip after it tells live connections.
#[test]
fn live_connections_are_judged_again_after_a_plan_that_was_cut_off_between_its_write_and_its_flip() {
    let client = pod("a/shop/client").labels("app=client").ip("10.1.0.9").node("n2");
    let served = policy("a/shop/in").select("app=web").ingress([rule().peer(pods("app=client"))]);
    let web = pod("a/shop/web").labels("app=web").ip("10.1.0.1").node("n1");
    let set = abc().with(namespace("a/shop")).with(web.clone()).with(client.clone());
    let mut node = Node::new(set.config(), Subjects::OnNode("n1".into()), TableState::default(), Limits::default());
    node.apply(&set.events());
    node.apply(&[served.into()]);
    node.attach(&key(&web), Attachment { ifindex: 7, bridge: None });
    node.settle().expect("there are no limits");
    node.apply(&[client.labels("app=stranger").into()]);
    let plan = node.plan().expect("there are no limits");
    let flip = plan.steps.iter().position(|step| matches!(step, Step::Flip(_))).expect("it flips");
    plan.steps[..flip].iter().for_each(|step| node.stepped(step));
    let commit = node.tables().commit;
    node.abandon();
    node.settle().expect("there are no limits");
    assert!(node.tables().commit > commit, "{plan:?}");
}

#[test]
fn a_pod_that_is_overruled_keeps_the_number_of_an_interface_of_its_own_over_a_restart() {
    let [old, new] = [("a/shop/z-old", 1), ("a/shop/new", 2)].map(|(name, at)| pod(name).ip("10.1.0.1").created_s(at));
    let pods = [(old.clone(), 7), (new.clone(), 8)];
    let tables = node(&pods).tables().clone();
    let set = abc().with(namespace("a/shop")).with(old).with(new);
    let mut restarted = Node::new(set.config(), Subjects::All, tables.clone(), Limits::default());
    restarted.apply(&set.events());
    for (pod, ifindex) in &pods {
        restarted.attach(&key(pod), Attachment { ifindex: *ifindex, bridge: Some(3) });
    }
    restarted.settle().expect("there are no limits");
    assert_eq!(restarted.tables().endpoints, tables.endpoints);
}

/// docs/semantics.md §8: "The same address reused by a new pod: verdicts of the old owner's connections are void."
#[test]
fn a_pod_that_comes_after_a_restart_gets_no_number_that_another_has_used_since() {
    let [old, new] = [("a/shop/z-old", 1), ("a/shop/new", 2)].map(|(name, at)| pod(name).ip("10.1.0.1").created_s(at));
    let tables = node(&[(old.clone(), 7), (new.clone(), 8)]).tables().clone();
    let set = abc().with(namespace("a/shop")).with(old.clone()).with(new.clone());
    let mut restarted = Node::new(set.config(), Subjects::All, tables, Limits::default());
    restarted.apply(&set.events());
    restarted.attach(&key(&old), Attachment { ifindex: 7, bridge: Some(3) });
    restarted.attach(&key(&new), Attachment { ifindex: 8, bridge: Some(3) });
    restarted.settle().expect("there are no limits");
    let used = restarted.tables().endpoints[&7].endpoint.id;
    let next = pod("a/shop/next").ip("10.1.0.1").created_s(3);
    restarted.apply(&[new.deleted(), next.clone().into()]);
    restarted.attach(&key(&next), Attachment { ifindex: 7, bridge: Some(3) });
    restarted.settle().expect("there are no limits");
    assert_ne!(restarted.tables().endpoints[&7].endpoint.id, used);
}

/// docs/semantics.md §7: what was known of an address holds no longer once it is an endpoint's of this node.
#[test]
fn an_address_that_becomes_a_held_endpoints_is_looked_at_again_in_live_connections() {
    let web = pod("a/shop/web").ip("10.1.0.1");
    let mut node = node(&[(web, 6)]);
    let modelled = Modelled::new(node.tables());
    let from_network = Context { ifindex: 6, ingress_ifindex: UPLINK, has_socket: false };
    let frame = Frame::new(Ip::V4, Who::Db, Who::Web).tcp(4000, 80, ACK);
    assert!(to_pod(frame.as_slice(), &from_network, &modelled).allow);
    let flows = modelled.into_flows();
    let here = [pod("a/shop/one").ip("10.1.0.2"), pod("a/shop/two").ip("10.1.0.3")];
    node.apply(&here.clone().map(Into::into));
    assert!(here.iter().all(|pod| node.attach(&key(pod), Attachment { ifindex: 7, bridge: None })));
    node.settle().expect("there are no limits");
    let modelled = Modelled::with_flows(node.tables(), flows);
    let verdict = to_pod(frame.as_slice(), &from_network, &modelled);
    assert_eq!((verdict.allow, verdict.reason), (false, Reason::MartianSource));
}

/// A restart after a plan that was cut off between its write and its flip, where the next plan does not fit.
#[test]
fn live_connections_are_judged_again_though_the_next_plan_does_not_fit() {
    let client = pod("a/shop/client").labels("app=client").ip("10.1.0.9").node("n2");
    let served = policy("a/shop/in").select("app=web").ingress([rule().peer(pods("app=client"))]);
    let web = pod("a/shop/web").labels("app=web").ip("10.1.0.1").node("n1");
    let set = abc().with(namespace("a/shop")).with(web.clone()).with(client.clone());
    let subjects = || Subjects::OnNode("n1".into());
    let mut node = Node::new(set.config(), subjects(), TableState::default(), Limits::default());
    node.apply(&set.events());
    node.apply(&[served.clone().into()]);
    node.attach(&key(&web), Attachment { ifindex: 7, bridge: None });
    node.settle().expect("there are no limits");
    let stranger = client.labels("app=stranger");
    node.apply(&[stranger.clone().into()]);
    let plan = node.plan().expect("there are no limits");
    let flip = plan.steps.iter().position(|step| matches!(step, Step::Flip(_))).expect("it flips");
    plan.steps[..flip].iter().for_each(|step| node.stepped(step));
    let tables = node.tables().clone();
    let commit = tables.commit;
    let limits = Limits { most: [(Table::LocalV4, 1)].into() };
    let mut restarted = Node::new(set.config(), subjects(), tables, limits);
    restarted.apply(&set.events());
    restarted.apply(&[served.into(), stranger.into()]);
    restarted.attach(&key(&web), Attachment { ifindex: 7, bridge: None });
    restarted.set_host_addresses(["10.1.255.1".parse().expect("an address")].into());
    restarted.plan().expect_err("it does not fit");
    let plan = restarted.hold();
    plan.steps.iter().for_each(|step| restarted.stepped(step));
    assert!(restarted.tables().commit > commit, "{plan:?}");
}

#[test]
fn new_pods_that_are_held_while_a_table_is_full_wait_for_the_grace_period_that_is_owed() {
    let mut node = node(&[(pod("a/shop/one").ip("10.1.0.1"), 7)]);
    node.detach(&key(&pod("a/shop/one")));
    let plan = node.plan().expect("there are no limits");
    let (last, others) = plan.steps.split_last().expect("there is something to do");
    assert_eq!(last, &Step::Grace);
    let limits = Limits { most: [(Table::LocalV4, 0)].into() };
    let mut tables = node.tables().clone();
    others.iter().for_each(|step| tables.step(step));
    // Whoever deleted the endpoint died before the grace period; now another one comes, and no room for its address.
    let two = pod("a/shop/two").ip("10.1.0.2");
    let set = abc().with(namespace("a/shop")).with(two.clone());
    let mut restarted = Node::new(set.config(), Subjects::All, tables, limits);
    restarted.apply(&set.events());
    restarted.attach(&key(&two), Attachment { ifindex: 8, bridge: Some(3) });
    restarted.settle().expect_err("there is no room");
    let plan = restarted.hold();
    assert_eq!(plan.steps.first(), Some(&Step::Grace));
    assert!(matches!(plan.steps.last(), Some(Step::Write(Write::Endpoint(8, Some(_))))), "{plan:?}");
    assert!(!restarted.hold().steps.contains(&Step::Grace), "one is enough");
}

#[test]
fn addresses_are_written_in_their_order() {
    let pods: Vec<_> = (1..=9).map(|at| (pod(&format!("a/shop/p{at}")).ip(&format!("10.1.0.{at}")), 10 - at)).collect();
    let mut node = node(&pods);
    let written = |plan: &[Step]| -> Vec<IpAddr> {
        let address = |step: &Step| match step {
            Step::Write(Write::Local(address, _)) => Some(*address),
            _ => None,
        };
        plan.iter().filter_map(address).collect()
    };
    let hosts: Vec<IpAddr> = (1..=9).map(|at| format!("192.168.0.{at}").parse().expect("an address")).collect();
    node.set_host_addresses(hosts.iter().copied().collect());
    assert_eq!(written(&node.settle().expect("there are no limits").steps), hosts);
    node.set_host_addresses([].into());
    assert_eq!(written(&node.settle().expect("there are no limits").steps), hosts, "and taken away in it");
}
