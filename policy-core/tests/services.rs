//! The Services of the local cluster: who answers for an address, whatever was said in which order; and that no verdict
//! rests on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_core::compile::{Compiler, Dirty, Subjects};
use policy_core::index::{ServiceEntry, Services, Target};
use policy_core::model::{
    Backend, BackendState, ClusterConfig, EndpointSlice, EndpointSliceKey, Event, Listing, Protocol, Service,
    ServiceKey, ServicePort,
};
use policy_core::testing::services::service_events;
use policy_core::testing::{ClusterSetBuilder, abc, cluster_set, pod, policy, service, slice};
use policy_core::world::World;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

fn compiler(set: &ClusterSetBuilder) -> Compiler {
    let mut compiler = Compiler::new(set.config(), Subjects::All);
    compiler.apply(&set.events());
    compiler
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Where `TCP/port` of an address leads, as `10.1.0.1:8080`.
fn led(compiler: &Compiler, address: &str, number: u16) -> Vec<String> {
    let address = ip(address);
    let of = |entry: ServiceEntry<'_>| {
        let port = entry.ports().iter().find(|port| port.protocol == Protocol::Tcp && port.port == number);
        port.map(|port| entry.targets(port, address.is_ipv4())).unwrap_or_default()
    };
    let targets = compiler.index().services().at(address).flat_map(of);
    targets.map(|target| format!("{}:{}", target.address, target.port)).collect()
}

#[test]
fn an_address_leads_to_the_backends_of_all_slices_of_its_service() {
    let set = abc()
        .with(slice("a/shop/web-1", "web").port("http", "TCP", 8080).ready("10.1.0.2").ready("10.1.0.1"))
        .with(service("a/shop/web").ip("10.96.0.1").ip("fd00:96::1").port("http", "TCP", 80))
        .with(slice("a/shop/web-2", "web").port("http", "TCP", 8081).ready("10.1.0.3").ready("10.1.0.1"))
        .with(slice("a/shop/web-3", "web").port("http", "TCP", 8080).ready("fd00:1::1"))
        .with(slice("a/shop/other", "web").port("metrics", "TCP", 9090).ready("10.1.0.4"))
        .with(slice("a/db/web", "web").port("http", "TCP", 8080).ready("10.1.0.5"));
    let compiler = compiler(&set);
    assert_eq!(led(&compiler, "10.96.0.1", 80), ["10.1.0.1:8080", "10.1.0.1:8081", "10.1.0.2:8080", "10.1.0.3:8081"]);
    assert_eq!(led(&compiler, "fd00:96::1", 80), ["fd00:1::1:8080"]);
    assert_eq!(led(&compiler, "10.96.0.1", 443), <[&str; 0]>::default());
    assert_eq!(led(&compiler, "10.96.0.2", 80), <[&str; 0]>::default());
}

#[test]
fn backends_that_end_count_where_none_is_ready_in_any_slice() {
    let ready = slice("a/shop/web-1", "web").port("", "TCP", 8080).ready("10.1.0.1");
    let set = abc()
        .with(service("a/shop/web").ip("10.96.0.1").port("", "TCP", 80))
        .with(slice("a/shop/web-2", "web").port("", "TCP", 8080).draining("10.1.0.2"))
        .with(ready.clone());
    assert_eq!(led(&compiler(&set), "10.96.0.1", 80), ["10.1.0.1:8080"]);
    let set = set.with(ready.deleted());
    assert_eq!(led(&compiler(&set), "10.96.0.1", 80), ["10.1.0.2:8080"]);
    // The other family has backends of its own.
    let set = set.with(slice("a/shop/web-3", "web").port("", "TCP", 8080).ready("fd00:1::1"));
    assert_eq!(led(&compiler(&set), "10.96.0.1", 80), ["10.1.0.2:8080"]);
}

#[test]
fn a_slice_that_changes_sides_is_with_one_service_alone() {
    let to = |service: &str| slice("a/shop/one", service).port("", "TCP", 8080).ready("10.1.0.1");
    let set = abc()
        .with(service("a/shop/web").ip("10.96.0.1").port("", "TCP", 80))
        .with(service("a/shop/api").ip("10.96.0.2").port("", "TCP", 80))
        .with(to("web"))
        .with(to("api"));
    assert_eq!(led(&compiler(&set), "10.96.0.1", 80), <[&str; 0]>::default());
    assert_eq!(led(&compiler(&set), "10.96.0.2", 80), ["10.1.0.1:8080"]);
    let set = set.with(to("api").about_nothing());
    assert_eq!(led(&compiler(&set), "10.96.0.2", 80), <[&str; 0]>::default());
}

#[test]
fn nothing_is_kept_of_the_services_of_others() {
    let set = abc()
        .with(service("b/shop/web").ip("10.96.0.1").port("", "TCP", 80))
        .with(slice("b/shop/web-1", "web").port("", "TCP", 8080).ready("10.2.0.1"));
    assert_eq!(compiler(&set).index().services().iter().count(), 0);
}

#[test]
fn services_touch_no_table() {
    let web = pod("a/shop/web").ip("10.1.0.1");
    let set = abc().with(web).with(policy("a/shop/all").no_egress());
    let mut compiler = compiler(&set);
    drop(compiler.take_dirty());
    let web = service("a/shop/web").ip("10.1.0.1").port("", "TCP", 80);
    let told = slice("a/shop/web-1", "web").port("", "TCP", 8080).ready("10.1.0.1");
    let listing = |listing| Event::Relisted(set.config().local, listing);
    for event in [
        web.clone().into(),
        told.clone().into(),
        listing(Listing::Services(BTreeSet::new())),
        listing(Listing::EndpointSlices(BTreeSet::new())),
        told.deleted(),
        web.deleted(),
    ] {
        assert!(!event.may_decide(), "{event:?}");
        compiler.apply([&event]);
        assert_eq!(compiler.take_dirty(), Dirty::default(), "{event:?}");
    }
}

/// All that the index says of Services, by namespace and name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    services: BTreeMap<String, Answer>,
    at: BTreeMap<IpAddr, Vec<String>>,
}

/// What it says of one.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    addresses: Vec<IpAddr>,
    ports: Vec<(ServicePort, Vec<Target>)>,
    backends: Vec<IpAddr>,
}

fn said(services: &Services) -> Said {
    let mut said = Said::default();
    for entry in services.iter() {
        let named = |entry: ServiceEntry<'_>| format!("{}/{}", entry.namespace(), entry.name());
        let port =
            |port: &ServicePort| (port.clone(), [entry.targets(port, true), entry.targets(port, false)].concat());
        let ports = entry.ports().iter().map(port).collect();
        for address in entry.addresses() {
            said.at.insert(*address, services.at(*address).map(named).collect());
        }
        let answer = Answer { addresses: entry.addresses().to_vec(), ports, backends: entry.backends() };
        said.services.insert(named(entry), answer);
    }
    said
}

/// The same, found by looking at every object.
fn expected(world: &World, config: &ClusterConfig) -> Said {
    let mut said = Said::default();
    let local = world.services.values().filter(|service| service.key.cluster == config.local);
    for Service { key, addresses, ports } in local {
        let is_of = |slice: &&EndpointSlice| {
            slice.key.cluster == key.cluster
                && slice.key.namespace == key.namespace
                && slice.service.as_ref() == Some(&key.name)
        };
        let slices: Vec<&EndpointSlice> = world.slices.values().filter(is_of).collect();
        let targets = |port: &ServicePort, is_v4: bool| {
            let mut found: BTreeMap<BackendState, BTreeSet<Target>> = BTreeMap::new();
            for slice in &slices {
                let to = slice.ports.iter().find(|to| to.name == port.name && to.protocol == port.protocol);
                for Backend { address, state } in to.iter().flat_map(|_| &slice.backends) {
                    if address.is_ipv4() == is_v4 {
                        let port = to.map(|to| to.number).unwrap_or_default();
                        found.entry(*state).or_default().insert(Target { address: *address, port });
                    }
                }
            }
            found.into_values().next().unwrap_or_default()
        };
        let of_port = |port: &ServicePort| {
            let both = [true, false].map(|is_v4| targets(port, is_v4).into_iter().collect::<Vec<_>>());
            (port.clone(), both.concat())
        };
        let of_ports: Vec<_> = ports.iter().map(of_port).collect();
        let of_family = |is_v4: bool| {
            let all = slices.iter().flat_map(|slice| &slice.backends).filter(|it| it.address.is_ipv4() == is_v4);
            let best = all.clone().map(|it| it.state).min();
            all.filter(|it| Some(it.state) == best).map(|it| it.address).collect::<Vec<_>>()
        };
        let backends: BTreeSet<IpAddr> = match ports.is_empty() {
            true => [of_family(true), of_family(false)].concat().into_iter().collect(),
            false => of_ports.iter().flat_map(|(_, targets)| targets).map(|target| target.address).collect(),
        };
        let name = format!("{}/{}", key.namespace, key.name);
        for address in addresses {
            said.at.entry(*address).or_default().push(name.clone());
        }
        let backends = backends.into_iter().collect();
        said.services.insert(name, Answer { addresses: addresses.clone(), ports: of_ports, backends });
    }
    said
}

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn what_was_said_in_any_order_is_as_if_told_from_scratch(
        events in vec(service_events(vec![abc().config(), cluster_set("a").member("a", "10.1.0.0/16").config()]), 0..40),
        order in any::<prop::sample::Index>(),
        batch in 1..5_usize,
    ) {
        let config = abc().config();
        let mut world = World::from_events([&Event::Configured(config.clone())]);
        let mut index = Compiler::new(config.clone(), Subjects::Nobody);
        for events in events.chunks(batch) {
            events.iter().for_each(|event| world.apply(event));
            index.apply(events);
            // Again, which changes nothing.
            index.apply(events.last());
            prop_assert_eq!(said(index.index().services()), expected(&world, &config), "{}", world);
        }
        let mut told = world.events();
        let (configured, objects) = told.split_at_mut(1);
        if !objects.is_empty() {
            objects.rotate_left(order.index(objects.len()));
        }
        let mut fresh = Compiler::new(config.clone(), Subjects::Nobody);
        fresh.apply(configured.iter().chain(objects.iter()));
        prop_assert_eq!(said(fresh.index().services()), said(index.index().services()), "{}", world);
        // What is gone leaves nothing behind.
        let none = [Listing::Services(BTreeSet::<ServiceKey>::new()), Listing::EndpointSlices(BTreeSet::<EndpointSliceKey>::new())];
        index.apply(&none.map(|listing| Event::Relisted(config.local.clone(), listing)));
        prop_assert_eq!(format!("{:?}", index.index().services()), format!("{:?}", Services::default()));
    }
}
