//! The kernel's view of the network: routes, interfaces, neighbours, forwarding databases, addresses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use super::error::DiscoveryError;
use super::netlink::{Message, Questions, Request, attribute, number, text};

/// `struct rtmsg`, `struct ifinfomsg`, `struct ndmsg`, `struct ifaddrmsg`.
pub(super) const ROUTE_BYTES: usize = 12;
pub(super) const LINK_BYTES: usize = 16;
pub(super) const NEIGHBOUR_BYTES: usize = 12;
pub(super) const ADDRESS_BYTES: usize = 8;

/// Answers with the entry of the table that matched, not with the route made of it (`RTM_F_FIB_MATCH`).
const FIB_MATCH: u32 = 0x2000;
/// Leaves statistics out of descriptions of interfaces (`RTEXT_FILTER_SKIP_STATS`).
const SKIP_STATISTICS: u32 = 1 << 3;
/// The kind of interface in `IFLA_LINKINFO`.
const IFLA_INFO_KIND: u16 = 1;
/// Whose forwarding database, in entries of neighbours (`NDA_MASTER`).
pub(super) const NDA_MASTER: u16 = 9;
/// The discard service (RFC 863).
const DISCARD: u16 = 9;

/// A link-layer address.
pub(super) type Mac = Vec<u8>;

/// What the routing table says of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// It is the node's own.
    Own,
    /// Through a gateway.
    Gateway(IpAddr),
    /// Nothing, or nothing more than of any address.
    None,
    /// Directly behind an interface.
    Link(u32),
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) ifindex: u32,
    pub(super) name: String,
    /// What it is a port of.
    pub(super) master: Option<u32>,
    /// `veth`, `bridge`, …; nothing for hardware.
    pub(super) kind: Option<String>,
    pub(super) is_up: bool,
}

/// A neighbour's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) mac: Mac,
    /// Whether the kernel verifies it from time to time; others are an administrator's.
    pub(super) is_dynamic: bool,
}

/// An address as the value of an attribute.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The value of an attribute as an address.
pub(super) fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn link_header(ifindex: u32) -> [u8; LINK_BYTES] {
    let mut header = [0; LINK_BYTES];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    header
}

fn neighbour_header(family: u8, ifindex: u32, state: u16, flags: u8) -> [u8; NEIGHBOUR_BYTES] {
    let mut header = [0; NEIGHBOUR_BYTES];
    header[0] = family;
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}

/// Reads a description of an interface.
pub(super) fn link(message: Message<'_>) -> Option<Link> {
    let info = message.attribute(LINK_BYTES, libc::IFLA_LINKINFO);
    Some(Link {
        ifindex: message.u32_at(4)?,
        name: message.attribute(LINK_BYTES, libc::IFLA_IFNAME).map(text)?,
        master: message.attribute(LINK_BYTES, libc::IFLA_MASTER).and_then(number),
        kind: info.and_then(|info| attribute(info, IFLA_INFO_KIND)).map(text),
        is_up: message.u32_at(8)? & libc::IFF_UP as u32 != 0,
    })
}

/// Reads an address of an interface of the node.
pub(super) fn own_address(message: Message<'_>) -> Option<IpAddr> {
    // Of a point-to-point interface the other is the peer's.
    let value = message.attribute(ADDRESS_BYTES, libc::IFA_LOCAL);
    address(value.or_else(|| message.attribute(ADDRESS_BYTES, libc::IFA_ADDRESS))?)
}

/// Whether an entry with this state says where its neighbour is.
pub(super) fn is_valid(state: u16) -> bool {
    let valid = libc::NUD_REACHABLE | libc::NUD_STALE | libc::NUD_DELAY | libc::NUD_PROBE;
    state & (valid | libc::NUD_NOARP | libc::NUD_PERMANENT) != 0
}

fn route(message: Message<'_>) -> Option<Route> {
    let (length, kind) = (message.u8_at(1)?, message.u8_at(7)?);
    let attribute = |wanted| message.attribute(ROUTE_BYTES, wanted);
    if kind == libc::RTN_LOCAL {
        return Some(Route::Own);
    }
    if let Some(gateway) = attribute(libc::RTA_GATEWAY).and_then(address) {
        return Some(Route::Gateway(gateway));
    }
    // An IPv6 gateway of an IPv4 route is an address behind its family.
    if let Some(gateway) = attribute(libc::RTA_VIA).and_then(|via| address(via.get(2..)?)) {
        return Some(Route::Gateway(gateway));
    }
    let outgoing = attribute(libc::RTA_OIF).and_then(number);
    Some(match outgoing {
        Some(ifindex) if kind == libc::RTN_UNICAST && length > 0 => Route::Link(ifindex),
        _ => Route::None,
    })
}

/// The interfaces by which a route leaves.
fn leaving(message: Message<'_>) -> BTreeSet<u32> {
    let attribute = |wanted| message.attribute(ROUTE_BYTES, wanted);
    let mut next_hops = attribute(libc::RTA_MULTIPATH).unwrap_or_default();
    let mut interfaces: BTreeSet<u32> = attribute(libc::RTA_OIF).and_then(number).into_iter().collect();
    // `struct rtnexthop`: its length with all that belongs to it, flags, weight, interface.
    while let Some(length) = next_hops.first_chunk().map(|length| usize::from(u16::from_ne_bytes(*length)))
        && let Some(ifindex) = next_hops.get(4..length).and_then(number)
    {
        interfaces.insert(ifindex);
        next_hops = next_hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    interfaces
}

/// Questions about the network namespace that it was opened in.
pub(super) struct Lookups {
    questions: Questions,
    listed: Listed,
}

/// Listings that were made in this look: each may be long, and is the same for every address.
#[derive(Debug, Default)]
struct Listed {
    /// The interfaces by which default routes leave.
    uplinks: Option<BTreeSet<u32>>,
    /// By bridge: the port of each link-layer address; `None` where several are told.
    ports: BTreeMap<u32, HashMap<Mac, Option<u32>>>,
}

impl Lookups {
    pub(super) fn open() -> Result<Self, DiscoveryError> {
        let questions = Questions::open();
        Ok(Self { questions: questions.map_err(failed("open a netlink socket"))?, listed: Listed::default() })
    }

    /// Begins a look: nothing that was listed before it counts.
    pub(super) fn forget(&mut self) {
        self.listed = Listed::default();
    }

    /// What the routing table says of an address.
    pub(super) fn route(&mut self, address: IpAddr) -> Result<Route, DiscoveryError> {
        let octets = octets(address);
        let mut header = [0; ROUTE_BYTES];
        header[0] = family(address);
        header[1] = octets.len() as u8 * 8;
        header[8..12].copy_from_slice(&FIB_MATCH.to_ne_bytes());
        let request = Request::new(libc::RTM_GETROUTE, &header).with(libc::RTA_DST, &octets);
        // Routes that refuse answer with what a sender would be told (fib_props in net/ipv4/fib_semantics.c).
        let missing = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL];
        let found = self.questions.find(&request, &missing, route);
        Ok(found.map_err(failed(format!("look up the route to {address}")))?.unwrap_or(Route::None))
    }

    /// An interface.
    pub(super) fn link(&mut self, ifindex: u32) -> Result<Option<Link>, DiscoveryError> {
        let request = Request::new(libc::RTM_GETLINK, &link_header(ifindex))
            .with(libc::IFLA_EXT_MASK, &SKIP_STATISTICS.to_ne_bytes());
        let found = self.questions.find(&request, &[libc::ENODEV], link);
        found.map_err(failed(format!("look up interface {ifindex}")))
    }

    /// Whether a default route leaves by an interface.
    pub(super) fn is_uplink(&mut self, ifindex: u32) -> Result<bool, DiscoveryError> {
        if let Some(uplinks) = &self.listed.uplinks {
            return Ok(uplinks.contains(&ifindex));
        }
        let mut uplinks = BTreeSet::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut header = [0; ROUTE_BYTES];
            header[0] = family as u8;
            let request = Request::list(libc::RTM_GETROUTE, &header);
            let default = |message: Message<'_>| {
                let is_default = message.u8_at(1)? == 0 && message.u8_at(7)? == libc::RTN_UNICAST;
                is_default.then(|| leaving(message))
            };
            match self.questions.collect(&request, default) {
                Ok(defaults) => uplinks.extend(defaults.into_iter().flatten()),
                // A kernel without IPv6 has no routes of it (rtnetlink_rcv_msg in net/core/rtnetlink.c).
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(error) => return Err(failed("list the default routes")(error)),
            }
        }
        Ok(self.listed.uplinks.insert(uplinks).contains(&ifindex))
    }

    /// Where the neighbour with an address is, on an interface.
    pub(super) fn neighbour(&mut self, ifindex: u32, of: IpAddr) -> Result<Option<Neighbour>, DiscoveryError> {
        let header = neighbour_header(family(of), ifindex, 0, 0);
        let request = Request::new(libc::RTM_GETNEIGH, &header).with(libc::NDA_DST, &octets(of));
        let neighbour = |message: Message<'_>| {
            let state = message.u16_at(8).filter(|state| is_valid(*state))?;
            let mac = message.attribute(NEIGHBOUR_BYTES, libc::NDA_LLADDR)?.to_vec();
            Some(Neighbour { mac, is_dynamic: state & (libc::NUD_PERMANENT | libc::NUD_NOARP) == 0 })
        };
        let found = self.questions.find(&request, &[libc::ENOENT], neighbour);
        found.map_err(failed(format!("look up neighbour {of}")))
    }

    /// The port of a bridge behind which a link-layer address is.
    pub(super) fn port(&mut self, bridge: u32, mac: &Mac) -> Result<Option<u32>, DiscoveryError> {
        if let Some(ports) = self.listed.ports.get(&bridge) {
            return Ok(ports.get(mac).copied().flatten());
        }
        let header = neighbour_header(libc::AF_BRIDGE as u8, 0, 0, 0);
        let request = Request::list(libc::RTM_GETNEIGH, &header).with(NDA_MASTER, &bridge.to_ne_bytes());
        let port = |message: Message<'_>| {
            let of_bridge = message.attribute(NEIGHBOUR_BYTES, NDA_MASTER).and_then(number) == Some(bridge);
            // Permanent ones are the bridge's own.
            let is_own = message.u16_at(8)? & libc::NUD_PERMANENT != 0;
            let mac = message.attribute(NEIGHBOUR_BYTES, libc::NDA_LLADDR)?.to_vec();
            (of_bridge && !is_own).then_some((mac, message.u32_at(4)?))
        };
        let found = self.questions.collect(&request, port);
        let found = found.map_err(failed(format!("list the forwarding database of bridge {bridge}")))?;
        let mut ports = HashMap::new();
        for (mac, port) in found {
            // A bridge with VLANs may know it in several; if they differ, it is not told which counts.
            let known = ports.entry(mac).or_insert(Some(port));
            if *known != Some(port) {
                *known = None;
            }
        }
        Ok(self.listed.ports.entry(bridge).or_insert(ports).get(mac).copied().flatten())
    }

    /// The addresses of the node's interfaces, loopback ones left out: they never reach a pod.
    pub(super) fn own_addresses(&mut self) -> Result<BTreeSet<IpAddr>, DiscoveryError> {
        let request = Request::list(libc::RTM_GETADDR, &[0; ADDRESS_BYTES]);
        let list = self.questions.collect(&request, own_address);
        let list = list.map_err(failed("list the addresses of the node"))?;
        Ok(list.into_iter().filter(|address| !address.is_loopback()).collect())
    }

    /// Has the kernel ask for the neighbour with an address, and with its answer teach the bridge where it is.
    pub(super) fn provoke(
        &mut self,
        ifindex: u32,
        of: IpAddr,
        known: Option<&Neighbour>,
    ) -> Result<(), DiscoveryError> {
        let request = |state, flags| {
            let header = neighbour_header(family(of), ifindex, state, flags);
            Request::replace(libc::RTM_NEWNEIGH, &header).with(libc::NDA_DST, &octets(of))
        };
        let asked = match known {
            None => self.questions.tell(&request(libc::NUD_NONE, libc::NTF_USE)),
            Some(Neighbour { mac, is_dynamic: true }) => {
                self.questions.tell(&request(libc::NUD_PROBE, 0).with(libc::NDA_LLADDR, mac))
            }
            // The entry is not ours to change; whatever the pod answers to a datagram will do.
            Some(Neighbour { is_dynamic: false, .. }) => send_datagram(of),
        };
        asked.map_err(failed(format!("ask for neighbour {of}")))
    }
}

fn send_datagram(to: IpAddr) -> io::Result<()> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0))?.send_to(&[], (to, DISCARD)).map(drop)
}

fn failed(operation: impl Into<String>) -> impl FnOnce(io::Error) -> DiscoveryError {
    move |source| DiscoveryError::Netlink { operation: operation.into(), source }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::messages;
    use super::*;

    /// What leaves by the interfaces of a route with this attribute.
    fn interfaces(attribute: u16, value: &[u8]) -> Vec<u32> {
        let bytes = Request::new(libc::RTM_NEWROUTE, &[0; ROUTE_BYTES]).with(attribute, value).finish(1);
        let message = messages(&bytes).next().expect("a message");
        leaving(message).into_iter().collect()
    }

    #[test]
    fn a_route_leaves_by_all_its_next_hops() {
        assert_eq!(interfaces(libc::RTA_OIF, &7u32.to_ne_bytes()), [7]);
        let hop = |length: u16, ifindex: u32, rest: &[u8]| {
            [&length.to_ne_bytes()[..], &[0, 0], &ifindex.to_ne_bytes(), rest].concat()
        };
        // The first one with a gateway of its own.
        let hops = [hop(16, 7, &[8, 0, 5, 0, 10, 0, 0, 1]), hop(8, 9, &[])].concat();
        assert_eq!(interfaces(libc::RTA_MULTIPATH, &hops), [7, 9]);
        for length in 0..hops.len() {
            assert!(interfaces(libc::RTA_MULTIPATH, &hops[..length]).len() < 2, "{length} bytes");
        }
        assert_eq!(interfaces(libc::RTA_MULTIPATH, &hop(0, 7, &[])), [] as [u32; 0]);
    }
}
