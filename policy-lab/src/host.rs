//! A host of the lab: anything with a namespace and addresses that traffic can come from or go to.

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{Addresses, Family, Mac};
use crate::error::{Error, Result};
use crate::netns::NetNs;

/// A pod, a node or an outside host. A cheap handle: keeps the namespace, not the pod, alive.
#[derive(Debug, Clone)]
pub struct Host {
    pub(crate) name: String,
    pub(crate) netns: Arc<NetNs>,
    pub(crate) addresses: Addresses,
    pub(crate) mac: Mac,
    pub(crate) next_hop: NextHop,
}

/// Where a host sends frames to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextHop {
    /// Always to this gateway.
    Gateway(Mac),
    /// The destination itself when it is a neighbour on the same bridge, else the gateway.
    Bridge(Mac),
    /// A host of the fabric: depends on the destination's node.
    Fabric,
}

impl Host {
    /// The name in the lab: `CLUSTER/NAMESPACE/POD`, `CLUSTER/NODE`, or an outside host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace (a host-network pod has its node's).
    #[must_use]
    pub fn netns(&self) -> &Arc<NetNs> {
        &self.netns
    }

    /// Its addresses.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its address of a family.
    pub fn address(&self, family: Family) -> Result<IpAddr> {
        self.addresses.of(family).ok_or_else(|| Error::NoAddress { host: self.name.clone(), family: family.name() })
    }

    /// The link-layer address of its `eth0`.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }
}
