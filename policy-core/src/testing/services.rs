//! Services and slices for tests: in a few words, or generated so that they collide.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::parse;
use crate::model::{
    Backend, BackendState, ClusterConfig, EndpointSlice, EndpointSliceKey, Event, Listing, Protocol, Service,
    ServiceKey, ServicePort, TargetPort, Text,
};

/// A Service `cluster/namespace/name` without addresses or ports yet.
pub fn service(key: &str) -> ServiceBuilder {
    let [cluster, namespace, name] = parse::key(key);
    let key = ServiceKey { cluster: parse::cluster(cluster), namespace: namespace.into(), name: name.into() };
    ServiceBuilder(Service { key, addresses: Vec::new(), ports: Vec::new() })
}

/// A Service in the making.
#[derive(Clone, Debug)]
pub struct ServiceBuilder(Service);

impl ServiceBuilder {
    /// One more address.
    pub fn ip(mut self, address: &str) -> Self {
        self.0.addresses.push(ip(address));
        self
    }

    /// One more port of a name, which may be empty, and a protocol.
    pub fn port(mut self, name: &str, protocol: &str, port: u16) -> Self {
        self.0.ports.push(ServicePort { name: named(name), protocol: parse::protocol(protocol), port });
        self
    }

    /// Its deletion.
    pub fn deleted(self) -> Event {
        Event::ServiceDeleted(self.0.key)
    }
}

impl From<ServiceBuilder> for Event {
    fn from(builder: ServiceBuilder) -> Self {
        Self::ServiceApplied(builder.0)
    }
}

/// A slice `cluster/namespace/name` about a Service of its namespace, without ports or backends yet.
pub fn slice(key: &str, service: &str) -> SliceBuilder {
    let [cluster, namespace, name] = parse::key(key);
    let key = EndpointSliceKey { cluster: parse::cluster(cluster), namespace: namespace.into(), name: name.into() };
    SliceBuilder(EndpointSlice { key, service: Some(service.into()), ports: Vec::new(), backends: Vec::new() })
}

/// A slice in the making.
#[derive(Clone, Debug)]
pub struct SliceBuilder(EndpointSlice);

impl SliceBuilder {
    /// Where one more of the Service's ports leads.
    pub fn port(mut self, name: &str, protocol: &str, number: u16) -> Self {
        self.0.ports.push(TargetPort { name: named(name), protocol: parse::protocol(protocol), number });
        self
    }

    /// One more backend that is ready.
    pub fn ready(self, address: &str) -> Self {
        self.backend(address, BackendState::Ready)
    }

    /// One more backend that ends, but still serves.
    pub fn draining(self, address: &str) -> Self {
        self.backend(address, BackendState::Draining)
    }

    fn backend(mut self, address: &str, state: BackendState) -> Self {
        self.0.backends.push(Backend { address: ip(address), state });
        self
    }

    /// It is about no Service.
    pub fn about_nothing(mut self) -> Self {
        self.0.service = None;
        self
    }

    /// Its deletion.
    pub fn deleted(self) -> Event {
        Event::EndpointSliceDeleted(self.0.key)
    }
}

impl From<SliceBuilder> for Event {
    fn from(builder: SliceBuilder) -> Self {
        Self::EndpointSliceApplied(builder.0)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("no address: {text:?}"))
}

fn named(name: &str) -> Option<Text> {
    (!name.is_empty()).then(|| name.into())
}

/// What is said of the Services of `a` and `b`, in any order; now and then the ClusterSet changes to one of `configs`.
pub fn service_events(configs: Vec<ClusterConfig>) -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => services().prop_map(Event::ServiceApplied),
        8 => slices().prop_map(Event::EndpointSliceApplied),
        2 => services().prop_map(|service| Event::ServiceDeleted(service.key)),
        2 => slices().prop_map(|slice| Event::EndpointSliceDeleted(slice.key)),
        1 => vec(services(), 0..4).prop_map(|kept| {
            let keys: BTreeSet<ServiceKey> = kept.into_iter().map(|service| service.key).collect();
            relisted(keys.first().map(|key| key.cluster.as_str()), |id| {
                Listing::Services(keys.iter().filter(|key| key.cluster.as_str() == id).cloned().collect())
            })
        }),
        1 => vec(slices(), 0..4).prop_map(|kept| {
            let keys: BTreeSet<EndpointSliceKey> = kept.into_iter().map(|slice| slice.key).collect();
            relisted(keys.first().map(|key| key.cluster.as_str()), |id| {
                Listing::EndpointSlices(keys.iter().filter(|key| key.cluster.as_str() == id).cloned().collect())
            })
        }),
        1 => select(configs).prop_map(Event::Configured),
    ]
}

fn relisted(cluster: Option<&str>, listing: impl Fn(&str) -> Listing) -> Event {
    let id = cluster.unwrap_or("a");
    Event::Relisted(parse::cluster(id), listing(id))
}

/// Services of few names and addresses.
pub fn services() -> impl Strategy<Value = Service> {
    let ports = subsequence(vec![("", 80), ("http", 80), ("dns", 53)], 0..=2).prop_flat_map(|ports| {
        let protocols = vec(select(vec![Protocol::Tcp, Protocol::Udp]), ports.len());
        protocols.prop_map(move |protocols| {
            let port = |((name, port), protocol): (&(&str, u16), Protocol)| ServicePort {
                name: named(name),
                protocol,
                port: *port,
            };
            ports.iter().zip(protocols).map(port).collect::<Vec<_>>()
        })
    });
    let addresses = subsequence(vec![ip("10.96.0.1"), ip("10.96.0.2"), ip("fd00:96::1")], 0..=2);
    (names(vec!["web", "api"]), addresses, ports).prop_map(|((cluster, namespace, name), addresses, ports)| Service {
        key: ServiceKey { cluster: parse::cluster(cluster), namespace: namespace.into(), name: name.into() },
        addresses,
        ports,
    })
}

/// Slices of few names, Services and backends.
pub fn slices() -> impl Strategy<Value = EndpointSlice> {
    let service = select(vec![Some("web"), Some("web"), Some("api"), None]);
    let port = (select(vec!["", "http", "dns"]), select(vec![Protocol::Tcp, Protocol::Udp]), 8080..8082_u16)
        .prop_map(|(name, protocol, number)| TargetPort { name: named(name), protocol, number });
    let address = select(vec![ip("10.1.0.1"), ip("10.1.0.2"), ip("10.1.0.3"), ip("fd00:1::1")]);
    let backend = (address, select(vec![BackendState::Ready, BackendState::Draining]))
        .prop_map(|(address, state)| Backend { address, state });
    (names(vec!["web-1", "web-2", "api-1"]), service, vec(port, 0..3), vec(backend, 0..4)).prop_map(
        |((cluster, namespace, name), service, ports, backends)| EndpointSlice {
            key: EndpointSliceKey { cluster: parse::cluster(cluster), namespace: namespace.into(), name: name.into() },
            service: service.map(Into::into),
            ports,
            backends,
        },
    )
}

fn names(names: Vec<&'static str>) -> impl Strategy<Value = (&'static str, &'static str, &'static str)> {
    (select(vec!["a", "a", "a", "b"]), select(vec!["shop", "db"]), select(names))
}
