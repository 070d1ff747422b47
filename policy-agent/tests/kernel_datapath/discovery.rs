//! Discovery in network namespaces: which interface a pod is behind, and what is none.

use std::net::IpAddr;
use std::time::Duration;

use crate::net::{Net, PATIENCE, ip};
use policy_agent::discovery::{Discovery, DiscoveryError, Interface, Located, Obstacle};
use policy_core::node::Attachment;

fn at(node: &Net, name: &str, bridge: Option<&str>) -> Located {
    let attachment = Attachment { ifindex: node.ifindex(name), bridge: bridge.map(|bridge| node.ifindex(bridge)) };
    Located::At(Interface { attachment, name: name.to_owned() })
}

/// Looks once.
fn look(node: &Net, addresses: &[&str]) -> Located {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| ip(address)).collect();
    node.run_async(async || Discovery::open().expect("netlink").locate(&addresses).expect("an answer"))
}

/// Looks until an interface is found; returns what was found at first too.
fn look_until_found(node: &Net, address: &str) -> (Located, Located) {
    node.run_async(async || {
        let mut discovery = Discovery::open().expect("netlink");
        let first = discovery.locate(&[ip(address)]).expect("an answer");
        let mut last = first.clone();
        while let Located::Nowhere(obstacle) = &last {
            let waited = tokio::time::timeout(PATIENCE, discovery.changed()).await;
            waited.unwrap_or_else(|_| panic!("nothing changes any more: {obstacle}"));
            discovery.refresh();
            last = discovery.locate(&[ip(address)]).expect("an answer");
        }
        (first, last)
    })
}

/// A node with a bridge and two pods on it that nobody has talked to.
fn bridged() -> (Net, [Net; 2]) {
    let node = Net::new("node");
    node.ip("link add br0 type bridge");
    node.ip("address add 10.1.0.254/24 dev br0");
    node.ip("address add fd00:1::fe/64 dev br0 nodad");
    node.ip("link set br0 up");
    let pods = [("p1", "10.1.0.1/24", "fd00:1::1/64"), ("p2", "10.1.0.2/24", "fd00:1::2/64")].map(|(name, v4, v6)| {
        let pod = node.pod(name, &[v4, v6]);
        node.ip(&format!("link set {name} master br0"));
        pod
    });
    (node, pods)
}

#[test]
fn a_routed_pod_is_behind_the_interface_of_its_route() {
    let node = Net::new("node");
    let _pods = [
        node.routed_pod("p1", &["10.1.0.1", "fd00:1::1"]),
        node.routed_pod("p2", &["10.1.0.2"]),
        node.routed_pod("p3", &["fd00:1::3"]),
    ];
    assert_eq!(look(&node, &["10.1.0.1", "fd00:1::1"]), at(&node, "p1", None));
    assert_eq!(look(&node, &["10.1.0.2"]), at(&node, "p2", None));
    assert_eq!(look(&node, &["fd00:1::3"]), at(&node, "p3", None));
    assert_eq!(look(&node, &["10.1.0.99", "fd00:1::3"]), at(&node, "p3", None), "one address that is found is enough");
}

#[test]
fn a_bridged_pod_that_was_silent_is_asked_and_then_found_at_its_port() {
    let (node, _pods) = bridged();
    for (address, port) in [("10.1.0.1", "p1"), ("fd00:1::1", "p1"), ("10.1.0.2", "p2"), ("fd00:1::2", "p2")] {
        let (first, last) = look_until_found(&node, address);
        assert_eq!(first, Located::Nowhere(Obstacle::Asked { bridge: "br0".to_owned() }), "{address}");
        assert_eq!(last, at(&node, port, Some("br0")), "{address}");
    }
    assert_eq!(look(&node, &["10.1.0.1", "fd00:1::1"]), at(&node, "p1", Some("br0")));
}

#[test]
fn a_bridge_that_forgot_a_port_learns_it_again() {
    let (node, _pods) = bridged();
    look_until_found(&node, "10.1.0.1");
    node.ip("link set p1 type bridge_slave fdb_flush");
    let (first, last) = look_until_found(&node, "10.1.0.1");
    assert_eq!(first, Located::Nowhere(Obstacle::Asked { bridge: "br0".to_owned() }));
    assert_eq!(last, at(&node, "p1", Some("br0")));
}

#[test]
fn a_permanent_neighbour_is_left_as_it_is() {
    let (node, pods) = bridged();
    pods[0].ip("link set eth0 address 02:00:00:00:00:01");
    node.ip("neighbour replace 10.1.0.1 lladdr 02:00:00:00:00:01 nud permanent dev br0");
    assert_eq!(look_until_found(&node, "10.1.0.1").1, at(&node, "p1", Some("br0")));
    let output = node.output("ip", "neighbour show 10.1.0.1");
    assert!(output.contains("PERMANENT"), "{output}");
}

#[test]
fn what_is_no_pod_of_this_node_is_not_taken_for_one() {
    let node = Net::new("node");
    let _router = node.pod("uplink", &["192.0.2.1/24", "2001:db8::1/64"]);
    node.ip("address add 192.0.2.2/24 dev uplink");
    node.ip("address add 2001:db8::2/64 dev uplink nodad");
    node.ip("link add vx0 type vxlan id 7 dstport 4789 local 192.0.2.2");
    node.ip("link set vx0 up");
    node.ip("route add 10.3.0.0/24 dev vx0");
    node.ip("route add 10.2.0.0/24 via 192.0.2.1");
    node.ip("-6 route add fd00:2::/64 via 2001:db8::1");
    node.ip("route add unreachable 10.4.0.0/24");
    node.ip("route add blackhole 10.5.0.0/24");
    node.ip("route add 10.6.0.0/24 via inet6 2001:db8::1");
    let nowhere = |address: &str, obstacle| {
        assert_eq!(look(&node, &[address]), Located::Nowhere(obstacle), "{address}");
    };
    nowhere("10.9.0.1", Obstacle::NoRoute);
    nowhere("fd00:9::1", Obstacle::NoRoute);
    nowhere("10.4.0.1", Obstacle::NoRoute);
    nowhere("10.5.0.1", Obstacle::NoRoute);
    nowhere("10.2.0.1", Obstacle::Gateway(ip("192.0.2.1")));
    nowhere("10.6.0.1", Obstacle::Gateway(ip("2001:db8::1")));
    nowhere("fd00:2::1", Obstacle::Gateway(ip("2001:db8::1")));
    nowhere("192.0.2.2", Obstacle::OwnAddress);
    nowhere("2001:db8::2", Obstacle::OwnAddress);
    nowhere("127.0.0.1", Obstacle::OwnAddress);
    nowhere("10.3.0.1", Obstacle::Kind { name: "vx0".to_owned(), kind: Some("vxlan".to_owned()) });
    // With a default route, nothing that leaves by its interface is a pod, and nothing that only it leads to is.
    node.ip("route add default via 192.0.2.1");
    nowhere("10.9.0.1", Obstacle::Gateway(ip("192.0.2.1")));
    nowhere("192.0.2.1", Obstacle::Uplink("uplink".to_owned()));
    node.ip("route del default");
    node.ip("route add default dev uplink");
    nowhere("10.9.0.1", Obstacle::NoRoute);
    nowhere("192.0.2.1", Obstacle::Uplink("uplink".to_owned()));
}

#[test]
fn two_addresses_of_a_pod_behind_two_interfaces_are_reported() {
    let node = Net::new("node");
    let _pods = [node.routed_pod("p1", &["10.1.0.1"]), node.routed_pod("p2", &["fd00:1::1"])];
    let error = node.run_async(async || {
        Discovery::open().expect("netlink").locate(&[ip("10.1.0.1"), ip("fd00:1::1")]).expect_err("they disagree")
    });
    assert!(matches!(error, DiscoveryError::Disagreement { .. }), "{error:?}");
    assert_eq!(error.to_string(), "10.1.0.1 is behind p1, but fd00:1::1 is behind p2");
}

#[test]
fn the_addresses_of_the_node_are_those_of_its_interfaces() {
    let (node, _pods) = bridged();
    let found = node.run_async(async || Discovery::open().expect("netlink").host_addresses().expect("an answer"));
    assert!(found.contains(&ip("10.1.0.254")) && found.contains(&ip("fd00:1::fe")), "{found:?}");
    assert!(!found.contains(&ip("127.0.0.1")) && !found.contains(&ip("10.1.0.1")), "{found:?}");
}

#[test]
fn an_interface_is_known_by_its_number_until_it_is_gone() {
    let (node, _pods) = bridged();
    let (port, bridge) = (node.ifindex("p1"), node.ifindex("br0"));
    let find = |ifindex| {
        node.run_async(async move || Discovery::open().expect("netlink").interface(ifindex).expect("an answer"))
    };
    let known = Interface { attachment: Attachment { ifindex: port, bridge: Some(bridge) }, name: "p1".to_owned() };
    assert_eq!(find(port), Some(known));
    node.ip("link del p1");
    assert_eq!(find(port), None);
}

#[test]
fn a_change_is_told_once_and_looking_is_none() {
    let (node, _pods) = bridged();
    node.run_async(async || {
        let mut discovery = Discovery::open().expect("netlink");
        let quiet = Duration::from_millis(300);
        // Until both families are found and everything has come to rest.
        for address in [ip("10.1.0.1"), ip("fd00:1::1")] {
            while let Located::Nowhere(_) = discovery.locate(&[address]).expect("an answer") {
                tokio::time::timeout(PATIENCE, discovery.changed()).await.expect("it is told");
                discovery.refresh();
            }
        }
        while tokio::time::timeout(quiet, discovery.changed()).await.is_ok() {}
        for _ in 0..3 {
            discovery.refresh();
            discovery.locate(&[ip("10.1.0.1"), ip("fd00:1::1")]).expect("an answer");
            assert!(tokio::time::timeout(quiet, discovery.changed()).await.is_err(), "looking is no change");
        }
        let learn = |mac: &str, port: &str| {
            node.output("bridge", &format!("fdb replace {mac} dev {port} master dynamic"));
        };
        let neighbour = node.output("ip", "neighbour show 10.1.0.1");
        let pod = neighbour.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).expect("it is known");
        for number in 10..40 {
            learn(&format!("02:00:00:00:00:{number}"), "p2");
        }
        assert!(tokio::time::timeout(quiet, discovery.changed()).await.is_err(), "nobody looks for these");
        learn(pod, "p2");
        tokio::time::timeout(PATIENCE, discovery.changed()).await.expect("a pod that is looked for has moved");
        assert_eq!(discovery.locate(&[ip("10.1.0.1")]).expect("an answer"), at(&node, "p1", Some("br0")), "same look");
        discovery.refresh();
        assert_eq!(discovery.locate(&[ip("10.1.0.1")]).expect("an answer"), at(&node, "p2", Some("br0")));
        for change in ["link set p2 nomaster", "address add 10.7.0.1/32 dev br0", "link del p2"] {
            node.ip(change);
            tokio::time::timeout(PATIENCE, discovery.changed()).await.unwrap_or_else(|_| panic!("{change}: not told"));
            while tokio::time::timeout(quiet, discovery.changed()).await.is_ok() {}
        }
    });
}
