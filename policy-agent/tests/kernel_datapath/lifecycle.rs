//! Links and pins as interfaces come, go and are renamed, and the end of everything.

use policy_agent::datapath::{Datapath, DatapathError, Removed, uninstall};
use policy_core::testing::{ClusterSetBuilder, abc, namespace, pod, policy};

use crate::bpffs::SMALL;
use crate::bpffs::TABLES;
use crate::node::EnforcingNode;

const ONE: (&str, &[&str]) = ("one", &["10.1.0.1"]);
const TWO: (&str, &[&str]) = ("two", &["10.1.0.2"]);

/// Two pods; nobody may talk to `two`.
fn set() -> ClusterSetBuilder {
    abc()
        .with(namespace("a/n"))
        .with(pod("a/n/one").ip("10.1.0.1"))
        .with(pod("a/n/two").labels("app=two").ip("10.1.0.2"))
        .with(policy("a/n/two").select("app=two").no_ingress())
}

fn enforcing() -> EnforcingNode {
    let mut node = EnforcingNode::new(&set(), &[ONE, TWO]);
    node.enforce();
    node
}

const LINKS: [&str; 4] = ["one-from_pod", "one-to_pod", "two-from_pod", "two-to_pod"];

#[test]
fn the_end_of_the_agent_changes_nothing() {
    let mut node = enforcing();
    drop(node.datapath.take());
    assert_eq!(node.bpffs.names("links"), LINKS);
    assert!(!node.reaches("one", "two", "10.1.0.2", 9));
    node.reopen();
    let mut attached: Vec<u32> = node.datapath().attached().collect();
    attached.sort_unstable();
    assert_eq!(attached, [node.net.ifindex("one"), node.net.ifindex("two")]);
    assert!(!node.reaches("one", "two", "10.1.0.2", 9));
}

#[test]
fn attaching_again_keeps_the_links() {
    let mut node = enforcing();
    let programs = node.programs("two");
    node.attach();
    assert_eq!(node.programs("two"), programs);
    assert_eq!(node.bpffs.names("links"), LINKS);
}

#[test]
fn a_link_follows_its_interface_to_another_name() {
    let mut node = enforcing();
    let (ifindex, programs) = (node.net.ifindex("two"), node.programs("two"));
    node.net.ip("link set two down");
    node.net.ip("link set two name two.5");
    node.net.ip("link set two.5 up");
    let datapath = node.datapath.as_mut().expect("open");
    node.net.enter(|| datapath.attach(ifindex, "two.5")).expect("attached");
    // The BPF file system allows no dots.
    assert_eq!(node.bpffs.names("links"), ["one-from_pod", "one-to_pod", "two%2e5-from_pod", "two%2e5-to_pod"]);
    assert_eq!(node.programs("two.5"), programs);
}

#[test]
fn what_is_left_of_an_interface_that_is_gone_is_removed() {
    let mut node = enforcing();
    node.net.ip("link del two");
    assert_eq!(node.datapath().prune().expect("pruned"), [node.net.ifindex("one")].into());
    assert_eq!(node.bpffs.names("links"), ["one-from_pod", "one-to_pod"]);
    // The next run finds it so too.
    node.net.ip("link del one");
    node.reopen();
    assert_eq!(node.bpffs.names("links"), [""; 0]);
    assert_eq!(node.datapath().attached().count(), 0);
}

#[test]
fn an_interface_that_takes_over_a_number_is_not_taken_for_the_one_before() {
    let mut node = enforcing();
    let ifindex = node.net.ifindex("two");
    node.net.ip("link del two");
    node.net.ip(&format!("link add two index {ifindex} type veth peer name other"));
    assert_eq!(node.datapath().prune().expect("pruned"), [node.net.ifindex("one")].into());
    node.attach();
    assert_eq!(node.programs("two").map(|programs| programs.len()), [1, 1]);
    assert_eq!(node.datapath().prune().expect("pruned").len(), 2);
}

#[test]
fn a_link_that_somebody_took_off_is_told_and_put_back() {
    let mut node = enforcing();
    let lost = node.net.ifindex("two");
    std::fs::remove_file(node.bpffs.pin("links/two-to_pod")).expect("pinned");
    // The kernel takes the program off a little later.
    while node.programs("two").map(|programs| programs.len()) != [1, 0] {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(!node.datapath().prune().expect("pruned").contains(&lost));
    node.attach();
    assert_eq!(node.programs("two").map(|programs| programs.len()), [1, 1]);
    assert_eq!(node.bpffs.names("links"), LINKS);
}

#[test]
fn interfaces_that_swap_their_names_both_keep_their_programs() {
    let mut node = enforcing();
    let (one, two) = (node.net.ifindex("one"), node.net.ifindex("two"));
    let programs = [node.programs("one"), node.programs("two")];
    for (from, to) in [("one", "aside"), ("two", "one"), ("aside", "two")] {
        node.net.ip(&format!("link set {from} down"));
        node.net.ip(&format!("link set {from} name {to}"));
        node.net.ip(&format!("link set {to} up"));
    }
    // The first takes a name whose pin is still that of the other.
    let datapath = node.datapath.as_mut().expect("open");
    node.net.enter(|| datapath.attach(two, "one")).expect("attached");
    let both = [format!("%{one}-from_pod"), format!("%{one}-to_pod"), "one-from_pod".into(), "one-to_pod".into()];
    assert_eq!(node.bpffs.names("links"), both);
    assert_eq!(node.datapath().prune().expect("pruned"), [one, two].into());
    let datapath = node.datapath.as_mut().expect("open");
    node.net.enter(|| datapath.attach(one, "two")).expect("attached");
    assert_eq!(node.bpffs.names("links"), LINKS);
    assert_eq!([node.programs("two"), node.programs("one")], programs);
}

#[test]
fn a_new_interface_of_an_old_name_gets_links_of_its_own() {
    let mut node = enforcing();
    let before = node.net.ifindex("two");
    node.net.ip("link del two");
    let pod = node.net.routed_pod("two", TWO.1);
    node.pods.insert("two", pod);
    assert_ne!(node.net.ifindex("two"), before);
    assert!(node.reaches("one", "two", "10.1.0.2", 9), "no programs yet");
    node.enforce();
    assert_eq!(node.bpffs.names("links"), LINKS);
    assert_eq!(node.programs("two").map(|programs| programs.len()), [1, 1]);
    assert!(!node.reaches("one", "two", "10.1.0.2", 9));
}

#[test]
fn a_detached_interface_is_open() {
    let mut node = enforcing();
    let ifindex = node.net.ifindex("two");
    node.datapath().detach(ifindex).expect("detached");
    assert!(node.reaches("one", "two", "10.1.0.2", 9));
    assert_eq!(node.bpffs.names("links"), ["one-from_pod", "one-to_pod"]);
}

#[test]
fn what_a_running_agent_has_nobody_else_takes_or_removes() {
    let mut node = enforcing();
    let refused = uninstall(node.bpffs.path()).expect_err("an agent runs");
    let expected = format!("a running policy-agent has the tables at {}; end it first", node.bpffs.pin("").display());
    assert_eq!(refused.to_string().replace("crosswall;", "crosswall/;"), expected);
    let second = Datapath::open(node.bpffs.path(), &SMALL).map(drop).expect_err("an agent runs");
    assert!(matches!(second, DatapathError::Held { .. }), "{second:?}");
    assert_eq!(node.bpffs.names("links"), LINKS);
    assert_eq!(node.datapath().prune().expect("pruned").len(), 2);
}

#[test]
fn uninstalling_leaves_nothing_and_says_what_it_removed() {
    let mut node = enforcing();
    drop(node.datapath.take());
    assert!(!node.reaches("one", "two", "10.1.0.2", 9));
    let removed = node.bpffs.uninstall();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let expected = Removed { links: names(&LINKS), programs: names(&["from_pod", "to_pod"]), tables: names(&TABLES) };
    assert_eq!(removed, expected);
    assert_eq!(node.programs("two"), [Vec::<u32>::new(), Vec::new()]);
    assert!(node.reaches("one", "two", "10.1.0.2", 9));
    assert!(!node.bpffs.pin("").exists());
    assert_eq!(node.bpffs.uninstall().to_string(), "nothing was installed");
}

#[test]
fn uninstalling_what_is_half_there_removes_the_rest() {
    let mut node = enforcing();
    drop(node.datapath.take());
    for pin in ["control", "links/one-to_pod", "programs/to_pod"] {
        std::fs::remove_file(node.bpffs.pin(pin)).expect("pinned");
    }
    std::fs::remove_file(node.bpffs.pin("programs/from_pod")).expect("pinned");
    std::fs::remove_dir(node.bpffs.pin("programs")).expect("empty");
    let removed = node.bpffs.uninstall();
    assert_eq!(removed.links, ["one-from_pod", "two-from_pod", "two-to_pod"]);
    assert_eq!((removed.programs.len(), removed.tables.len()), (0, TABLES.len() - 1));
    assert!(!node.bpffs.pin("").exists());
    assert_eq!(node.programs("one"), [Vec::<u32>::new(), Vec::new()]);
}
