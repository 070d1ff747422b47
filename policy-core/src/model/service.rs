//! Services of the local cluster, and the slices that say who answers for them. No verdict rests on them in this version:
//! a packet is judged by the addresses that it carries.

use std::fmt;
use std::net::IpAddr;

use super::{ClusterId, Protocol, Text};

/// Names one Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The cluster it lives in.
    pub cluster: ClusterId,
    /// Its namespace.
    pub namespace: Text,
    /// Its name.
    pub name: Text,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.namespace, self.name)
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// Its name, by which slices say where it leads; one that is the only one may have none.
    pub name: Option<Text>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number at the Service's address, 1–65535.
    pub port: u16,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Which Service it is.
    pub key: ServiceKey,
    /// Its addresses in the cluster; a headless Service has none.
    pub addresses: Vec<IpAddr>,
    /// Its ports, in written order.
    pub ports: Vec<ServicePort>,
}

/// Names one EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointSliceKey {
    /// The cluster it lives in.
    pub cluster: ClusterId,
    /// Its namespace.
    pub namespace: Text,
    /// Its name.
    pub name: Text,
}

/// Where a port of a Service leads in a slice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetPort {
    /// The name of the Service's port.
    pub name: Option<Text>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port of the backends, 1–65535.
    pub number: u16,
}

/// Whether a backend gets traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendState {
    /// It does.
    Ready,
    /// It ends, but still serves: it does where no other is ready.
    Draining,
}

/// Who answers for a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Whether it gets traffic.
    pub state: BackendState,
}

/// An EndpointSlice: some of a Service's backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Which slice it is.
    pub key: EndpointSliceKey,
    /// The Service of its namespace that it is about; `None`: none, so it says nothing.
    pub service: Option<Text>,
    /// Where the Service's ports lead.
    pub ports: Vec<TargetPort>,
    /// The backends that may get traffic. Those that neither are ready nor end while they serve are left out.
    pub backends: Vec<Backend>,
}
