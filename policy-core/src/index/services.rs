//! The Services of the local cluster: by name, by address, and each with the slices that say who answers for it.
//!
//! Slices come and go independently of their Service, and a Service has any number of them. So both stand under the
//! Service's name, and while one of the two is missing, nobody answers.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::pods::Addresses;
use crate::model::{
    Backend, BackendState, ClusterId, EndpointSlice, EndpointSliceKey, Service, ServiceKey, ServicePort, TargetPort,
    Text,
};

/// The Services of one cluster.
#[derive(Debug, Default)]
pub struct Services {
    namespaces: HashMap<Text, Namespace>,
    /// The namespace and the name of whoever has an address.
    by_address: BTreeSet<(IpAddr, Text, Text)>,
    /// The lists of ports: many Services have the same.
    ports: HashSet<Arc<[ServicePort]>>,
    target_ports: HashSet<Arc<[TargetPort]>>,
}

/// What there is in a namespace.
#[derive(Debug, Default)]
struct Namespace {
    /// By the name of the Service.
    named: HashMap<Text, Named>,
    /// The name of the Service that each slice is about.
    slices: HashMap<Text, Text>,
}

/// What stands under a Service's name.
#[derive(Debug, Default)]
struct Named {
    service: Option<Held>,
    /// By name.
    slices: SmallVec<[HeldSlice; 1]>,
}

#[derive(Debug)]
struct Held {
    addresses: Addresses,
    ports: Arc<[ServicePort]>,
}

#[derive(Debug)]
struct HeldSlice {
    name: Text,
    ports: Arc<[TargetPort]>,
    backends: Box<[Backend]>,
}

impl Services {
    /// A Service by its name; the cluster is not looked at.
    pub fn find(&self, key: &ServiceKey) -> Option<ServiceEntry<'_>> {
        self.entry(&key.namespace, &key.name)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// All Services, in no order.
    pub fn iter(&self) -> impl Iterator<Item = ServiceEntry<'_>> {
        self.namespaces.iter().flat_map(|(namespace, content)| {
            content.named.iter().filter_map(move |(name, named)| ServiceEntry::of(namespace, name, named))
        })
    }

    /// The Services that have an address, by name: an API server gives it to one, files to any number.
    pub fn at(&self, address: IpAddr) -> impl Iterator<Item = ServiceEntry<'_>> {
        let first: Text = "".into();
        let from = self.by_address.range((address, first.clone(), first)..);
        let those = from.take_while(move |(other, ..)| *other == address);
        those.filter_map(|(_, namespace, name)| self.entry(namespace, name))
    }

    fn entry(&self, namespace: &str, name: &str) -> Option<ServiceEntry<'_>> {
        let (namespace, content) = self.namespaces.get_key_value(namespace)?;
        let (name, named) = content.named.get_key_value(name)?;
        ServiceEntry::of(namespace, name, named)
    }

    /// Puts a Service in place.
    pub(super) fn apply(&mut self, service: &Service) {
        let Service { key, addresses, ports } = service;
        let known = self.find(key);
        if known.is_some_and(|known| known.addresses() == addresses.as_slice() && known.ports() == ports.as_slice()) {
            return;
        }
        self.take_service(&key.namespace, &key.name);
        let held = Held { addresses: addresses.iter().copied().collect(), ports: share(&mut self.ports, ports) };
        let namespace = self.namespaces.entry(key.namespace.clone());
        let namespace_name = namespace.key().clone();
        let named = namespace.or_default().named.entry(key.name.clone());
        let name = named.key().clone();
        named.or_default().service = Some(held);
        let claim = |address: &IpAddr| (*address, namespace_name.clone(), name.clone());
        self.by_address.extend(addresses.iter().map(claim));
    }

    /// Forgets a Service.
    pub(super) fn delete(&mut self, key: &ServiceKey) {
        self.take_service(&key.namespace, &key.name);
        self.tidy(&key.namespace, &key.name);
    }

    /// Puts a slice in place. One that is about no Service says nothing.
    pub(super) fn apply_slice(&mut self, slice: &EndpointSlice) {
        let EndpointSlice { key, service, ports, backends } = slice;
        let Some(service) = service else { return self.delete_slice(key) };
        let is_same = |known: &HeldSlice| known.ports[..] == ports[..] && known.backends[..] == backends[..];
        let namespace = self.namespaces.get(&key.namespace);
        let known = namespace.and_then(|content| content.named.get(service)).and_then(|named| named.slice(&key.name));
        if known.is_some_and(is_same) {
            return;
        }
        self.delete_slice(key);
        let held = HeldSlice {
            name: key.name.clone(),
            ports: share(&mut self.target_ports, ports),
            backends: backends.as_slice().into(),
        };
        let Namespace { named, slices } = self.namespaces.entry(key.namespace.clone()).or_default();
        let named = named.entry(service.clone());
        slices.insert(held.name.clone(), named.key().clone());
        let slices = &mut named.or_default().slices;
        let place = slices.partition_point(|other| other.name < held.name);
        slices.insert(place, held);
    }

    /// Forgets a slice.
    pub(super) fn delete_slice(&mut self, key: &EndpointSliceKey) {
        let Some(content) = self.namespaces.get_mut(&key.namespace) else { return };
        let Some(service) = content.slices.remove(&key.name) else { return };
        if let Some(named) = content.named.get_mut(&service)
            && let Some(place) = named.slices.iter().position(|slice| slice.name == key.name)
        {
            release(&mut self.target_ports, &named.slices.remove(place).ports);
        }
        self.tidy(&key.namespace, &service);
    }

    /// Forgets the Services that are not among these.
    pub(super) fn keep(&mut self, keys: &BTreeSet<ServiceKey>) {
        let kept: HashSet<(&str, &str)> = keys.iter().map(|key| (&*key.namespace, &*key.name)).collect();
        let known = self.iter().map(|entry| (entry.namespace, entry.name));
        let gone = known.filter(|(namespace, name)| !kept.contains(&(&***namespace, &***name)));
        let gone: Vec<(Text, Text)> = gone.map(|(namespace, name)| (namespace.clone(), name.clone())).collect();
        for (namespace, name) in gone {
            self.take_service(&namespace, &name);
            self.tidy(&namespace, &name);
        }
    }

    /// Forgets the slices that are not among these.
    pub(super) fn keep_slices(&mut self, cluster: &ClusterId, keys: &BTreeSet<EndpointSliceKey>) {
        let key = |namespace: &Text, name: &Text| EndpointSliceKey {
            cluster: cluster.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
        };
        let known = self
            .namespaces
            .iter()
            .flat_map(|(namespace, content)| content.slices.keys().map(move |name| key(namespace, name)));
        let gone: Vec<EndpointSliceKey> = known.filter(|key| !keys.contains(key)).collect();
        gone.iter().for_each(|key| self.delete_slice(key));
    }

    fn take_service(&mut self, namespace: &Text, name: &Text) {
        let named = self.namespaces.get_mut(namespace).and_then(|content| content.named.get_mut(name));
        let Some(Held { addresses, ports }) = named.and_then(|named| named.service.take()) else { return };
        for address in addresses {
            self.by_address.remove(&(address, namespace.clone(), name.clone()));
        }
        release(&mut self.ports, &ports);
    }

    /// Keeps nothing under a name that nobody has.
    fn tidy(&mut self, namespace: &Text, name: &Text) {
        let Some(content) = self.namespaces.get_mut(namespace) else { return };
        if content.named.get(name).is_some_and(Named::is_empty) {
            content.named.remove(name);
        }
        if content.named.is_empty() && content.slices.is_empty() {
            self.namespaces.remove(namespace);
        }
    }
}

impl Named {
    fn slice(&self, name: &str) -> Option<&HeldSlice> {
        self.slices.iter().find(|slice| &*slice.name == name)
    }

    fn is_empty(&self) -> bool {
        let Self { service, slices } = self;
        service.is_none() && slices.is_empty()
    }
}

/// The same list, shared with all who have it.
fn share<T: Clone + Eq + Hash>(known: &mut HashSet<Arc<[T]>>, list: &[T]) -> Arc<[T]> {
    if let Some(known) = known.get(list) {
        return known.clone();
    }
    let list: Arc<[T]> = list.into();
    known.insert(list.clone());
    list
}

/// Somebody does not hold this list any more: if nobody else does, it is forgotten.
fn release<T: Eq + Hash>(known: &mut HashSet<Arc<[T]>>, list: &Arc<[T]>) {
    // One more reference is the caller's.
    if Arc::strong_count(list) <= 2 {
        known.remove(list);
    }
}

/// A Service, and who answers for it.
#[derive(Clone, Copy, Debug)]
pub struct ServiceEntry<'a> {
    namespace: &'a Text,
    name: &'a Text,
    held: &'a Held,
    slices: &'a [HeldSlice],
}

/// Where a packet to a Service may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The address of the backend.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

impl<'a> ServiceEntry<'a> {
    fn of(namespace: &'a Text, name: &'a Text, Named { service, slices }: &'a Named) -> Option<Self> {
        service.as_ref().map(|held| Self { namespace, name, held, slices })
    }

    /// Its namespace.
    pub fn namespace(self) -> &'a Text {
        self.namespace
    }

    /// Its name.
    pub fn name(self) -> &'a Text {
        self.name
    }

    /// Its addresses; none, if it is headless.
    pub fn addresses(self) -> &'a [IpAddr] {
        &self.held.addresses
    }

    /// Its ports, in written order.
    pub fn ports(self) -> &'a [ServicePort] {
        &self.held.ports
    }

    /// Where a packet to one of its ports may be sent, those that are ready, slice by slice; some may come twice.
    pub fn ready(self, port: &ServicePort, is_v4: bool) -> impl Iterator<Item = Target> {
        let is_meant = move |to: &Backend| to.state == BackendState::Ready && to.address.is_ipv4() == is_v4;
        self.behind(port).filter(move |(to, _)| is_meant(to)).map(|(_, target)| target)
    }

    /// Where a packet to one of its ports is sent, in order. Which targets are preferred from where is not looked at.
    pub fn targets(self, port: &ServicePort, is_v4: bool) -> Vec<Target> {
        serving(self.behind(port), is_v4)
    }

    /// All backends that one of its ports leads to, slice by slice, with where they are.
    fn behind(self, port: &ServicePort) -> impl Iterator<Item = (Backend, Target)> {
        let leads = move |it: &&TargetPort| it.name == port.name && it.protocol == port.protocol;
        let slices = self.slices.iter().filter_map(move |slice| Some((slice, slice.ports.iter().find(leads)?.number)));
        let target = |to: &Backend, port| (*to, Target { address: to.address, port });
        slices.flat_map(move |(slice, port)| slice.backends.iter().map(move |to| target(to, port)))
    }

    /// The addresses of all who answer for it, in order. Without ports its name alone leads to them.
    pub fn backends(self) -> Vec<IpAddr> {
        let all = || self.slices.iter().flat_map(|slice| &slice.backends).map(|to| (*to, to.address));
        let of_family = |is_v4| match self.ports() {
            [] => serving(all(), is_v4),
            ports => ports.iter().flat_map(|port| self.targets(port, is_v4)).map(|target| target.address).collect(),
        };
        let mut backends = [of_family(true), of_family(false)].concat();
        backends.sort_unstable();
        backends.dedup();
        backends
    }
}

/// Of the backends of a family those that get traffic, as values in order: those that are ready, else those that end but
/// still serve (`CategorizeEndpoints` in pkg/proxy/topology.go of Kubernetes; a proxy judges each family by itself).
fn serving<T: Ord>(backends: impl Iterator<Item = (Backend, T)>, is_v4: bool) -> Vec<T> {
    let mut all: Vec<_> = backends.filter(|(backend, _)| backend.address.is_ipv4() == is_v4).collect();
    let best = all.iter().map(|(backend, _)| backend.state).min();
    all.retain(|(backend, _)| Some(backend.state) == best);
    let mut values: Vec<T> = all.into_iter().map(|(_, value)| value).collect();
    values.sort_unstable();
    values.dedup();
    values
}
