//! The address plan: which addresses clusters, nodes, pods and outside hosts get.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

impl Family {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// `IPv4` or `IPv6`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A host's addresses: at least one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// The address of a family.
    #[must_use]
    pub fn of(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }

    /// All of them, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        Family::BOTH.into_iter().filter_map(|family| self.of(family))
    }
}

/// A link-layer address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The link-layer address of every pod's gateway in ptp wiring (as Calico has it).
pub(crate) const GATEWAY_MAC: Mac = Mac([0xee; 6]);
/// A pod's IPv4 gateway in ptp wiring: link-local, never seen outside the pod.
pub(crate) const PTP_GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// A pod's IPv6 gateway in ptp wiring.
pub(crate) const PTP_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The networks of hosts outside every cluster (RFC 5737, RFC 3849).
pub(crate) const OUTSIDE_V4: &str = "192.0.2.0/24";
/// As [`OUTSIDE_V4`].
pub(crate) const OUTSIDE_V6: &str = "2001:db8::/64";
/// The network between the nodes.
pub(crate) const FABRIC_V4: &str = "172.20.0.0/16";
/// As [`FABRIC_V4`].
pub(crate) const FABRIC_V6: &str = "fd00:ffff::/64";

/// The networks of services, the same in every cluster: nothing outside of it sees them.
pub(crate) const SERVICES: &str = "10.255.0.0/16,fd00:fffe::/112";

/// A cluster's place in the plan: 1–250. Cluster 1 has the pod networks 10.1.0.0/16 and fd00:1::/48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterIndex(pub(crate) u8);

impl ClusterIndex {
    pub(crate) fn pod_cidrs(self) -> [IpNet; 2] {
        let Self(c) = self;
        [net_v4([10, c, 0, 0], 16).into(), net_v6([0xfd00, digits(c), 0, 0, 0, 0, 0, 0], 48).into()]
    }

    /// The place of its control plane among its nodes, none of which has such a number.
    pub(crate) fn control_plane(self) -> NodeIndex {
        NodeIndex { cluster: self, node: 254 }
    }
}

/// A node's place in the plan. Node 2 of cluster 1 has the pod networks 10.1.2.0/24 and fd00:1:0:2::/64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeIndex {
    pub(crate) cluster: ClusterIndex,
    pub(crate) node: u8,
}

impl NodeIndex {
    pub(crate) fn pod_net_v4(self) -> Ipv4Net {
        net_v4([10, self.cluster.0, self.node, 0], 24)
    }

    pub(crate) fn pod_net_v6(self) -> Ipv6Net {
        net_v6(self.segments_v6(0), 64)
    }

    /// The bridge's own addresses in bridge wiring: the pods' gateway.
    pub(crate) fn bridge_addresses(self) -> (Ipv4Addr, Ipv6Addr) {
        self.pod_addresses(1)
    }

    /// The addresses of pod number `pod` on this node: 10.1.2.11 and fd00:1:0:2::11, with
    /// the same digits for the reader's sake.
    pub(crate) fn pod_addresses(self, pod: u8) -> (Ipv4Addr, Ipv6Addr) {
        (Ipv4Addr::new(10, self.cluster.0, self.node, pod), Ipv6Addr::from(self.segments_v6(digits(pod))))
    }

    /// The node's own addresses, between the nodes.
    pub(crate) fn node_addresses(self) -> (Ipv4Addr, Ipv6Addr) {
        let (c, n) = (self.cluster.0, self.node);
        (Ipv4Addr::new(172, 20, c, n), Ipv6Addr::from([0xfd00, 0xffff, 0, 0, 0, 0, digits(c), digits(n)]))
    }

    /// A link-layer address of this node's: 0 is the uplink, 1 the bridge, others pods.
    pub(crate) fn mac(self, number: u16) -> Mac {
        let [high, low] = number.to_be_bytes();
        Mac([0x02, 0xc1, self.cluster.0, self.node, high, low])
    }

    fn segments_v6(self, last: u16) -> [u16; 8] {
        [0xfd00, digits(self.cluster.0), 0, digits(self.node), 0, 0, 0, last]
    }
}

/// The addresses of outside host number `number`.
pub(crate) fn outside_addresses(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(192, 0, 2, number), Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, digits(number)]))
}

/// A number whose hexadecimal digits look like `number`'s decimal ones: 12 → 0x12.
fn digits(number: u8) -> u16 {
    let number = u16::from(number);
    number / 100 * 0x100 + number / 10 % 10 * 0x10 + number % 10
}

fn net_v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from(octets), prefix)
}

fn net_v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from(segments), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addresses_of_a_pod_show_the_same_digits() {
        let node = NodeIndex { cluster: ClusterIndex(12), node: 3 };
        let (v4, v6) = node.pod_addresses(110);
        assert_eq!((v4.to_string(), v6.to_string()), ("10.12.3.110".into(), "fd00:12:0:3::110".into()));
        assert!(node.pod_net_v4().contains(&v4) && node.pod_net_v6().contains(&v6));
    }

    #[test]
    fn a_control_plane_has_addresses_between_the_nodes() {
        let (v4, v6) = ClusterIndex(3).control_plane().node_addresses();
        assert_eq!((v4.to_string(), v6.to_string()), ("172.20.3.254".into(), "fd00:ffff::3:254".into()));
    }
}
