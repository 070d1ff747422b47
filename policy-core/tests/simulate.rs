//! Which pod a probe means that names an address.

use policy_core::index::ServiceEntry;
use policy_core::simulate::Simulation;
use policy_core::testing::build::ClusterSetBuilder;
use policy_core::testing::{abc, pod, service};

/// An address that lies in nobody's podCIDRs.
const FOREIGN: &str = "172.16.0.1";

#[track_caller]
fn means(set: &ClusterSetBuilder, address: &str, expected: Option<&str>) {
    let simulation = Simulation::new(&set.config(), &set.events());
    let address = address.parse().expect("an address");
    let meant = simulation.workload_at(address).map(|pod| pod.key().to_string());
    assert_eq!(meant.as_deref(), expected, "{address}\n{}", set.world());
}

#[test]
fn of_several_claims_against_the_pod_cidrs_the_one_that_would_win_names_its_pod() {
    let local = || pod("a/shop/x").ip(FOREIGN);
    let remote = || pod("b/shop/y").ip(FOREIGN);
    means(&abc().with(remote()), FOREIGN, Some("b/shop/y"));
    means(&abc().with(local()).with(remote()), FOREIGN, Some("a/shop/x"));
    means(&abc().with(remote()).with(pod("c/shop/z").ip(FOREIGN)), FOREIGN, None);
    means(&abc().with(remote()).with(pod("b/shop/z").ip(FOREIGN).terminating()), FOREIGN, Some("b/shop/y"));
    means(&abc().with(remote().created_s(1)).with(pod("b/shop/z").ip(FOREIGN).created_s(2)), FOREIGN, Some("b/shop/z"));
    means(&abc().with(local()).with(pod("a/shop/z").ip(FOREIGN)), FOREIGN, None);
    means(&abc().with(pod("a/shop/x").ip(FOREIGN).host_network()), FOREIGN, None);
}

#[test]
fn a_claim_against_the_pod_cidrs_is_nothing_beside_one_that_is_not() {
    let set = abc().with(pod("a/shop/x").ip("10.2.0.1"));
    means(&set, "10.2.0.1", Some("a/shop/x"));
    means(&set.clone().with(pod("b/shop/y").ip("10.2.0.1")), "10.2.0.1", Some("b/shop/y"));
    let contested = set.with(pod("b/shop/y").ip("10.2.0.1")).with(pod("b/shop/z").ip("10.2.0.1"));
    means(&contested, "10.2.0.1", None);
}

#[test]
fn every_member_has_its_own_services() {
    let web = |cluster: &str, ip: &str| service(&format!("{cluster}/shop/web")).ip(ip).port("", "TCP", 80);
    let set = abc().with(web("a", "10.96.0.1")).with(web("b", "10.96.0.2"));
    let simulation = Simulation::new(&set.config(), &set.events());
    for (cluster, expected) in [("a", Some("10.96.0.1")), ("b", Some("10.96.0.2")), ("c", None)] {
        let member = simulation.member(&cluster.parse().expect("an id")).expect("a member");
        let services = member.compiler().index().services();
        let addresses: Vec<String> =
            services.iter().flat_map(ServiceEntry::addresses).map(ToString::to_string).collect();
        assert_eq!(addresses, Vec::from_iter(expected), "{cluster}");
    }
}
