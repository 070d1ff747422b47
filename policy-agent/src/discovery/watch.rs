//! Notices changes of the network that can move a pod to another interface, and nothing else.
//!
//! The kernel tells of every state that a neighbour's entry goes through; only what was not known before counts, so that
//! looking, which provokes neighbours, does not lead to looking again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, TokioSocket, protocols::NETLINK_ROUTE};

use super::error::DiscoveryError;
use super::lookups::{self, Mac, NDA_MASTER, NEIGHBOUR_BYTES};
use super::netlink::{Message, messages, number};

/// What is listened to.
const GROUPS: [u32; 6] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
];

/// Room for the notices of a thousand pods that come at once.
const BUFFER_BYTES: usize = 1 << 21;

/// Listens to changes.
pub(super) struct Watch {
    socket: TokioSocket,
    known: Known,
}

impl Watch {
    /// In the network namespace of the thread.
    pub(super) fn open() -> Result<Self, DiscoveryError> {
        let failed =
            |source| DiscoveryError::Netlink { operation: "listen to changes of the network".to_owned(), source };
        let open = || {
            let mut async_socket = TokioSocket::new(NETLINK_ROUTE)?;
            let socket = async_socket.socket_mut();
            socket.bind_auto()?;
            socket.set_rx_buf_sz(BUFFER_BYTES as libc::c_int)?;
            for group in GROUPS {
                socket.add_membership(group)?;
            }
            Ok(async_socket)
        };
        Ok(Self { socket: open().map_err(failed)?, known: Known::default() })
    }

    /// From now on it is news when a bridge learns where this link-layer address is, which an address has that somebody
    /// looks for. Where others are is nobody's concern: a pod can make up as many as it likes.
    pub(super) fn seek(&mut self, address: IpAddr, mac: &Mac) {
        self.known.seek(address, mac);
    }

    /// Waits for news. Loses none when it is dropped.
    pub(super) async fn changed(&mut self) {
        loop {
            // What is waited for is one poll of the socket, and nothing is waited for once it was read.
            let mut received = self.socket.recv_from_full().await;
            let mut is_news = false;
            loop {
                is_news |= match received {
                    Ok((datagram, _)) => {
                        messages(&datagram).fold(false, |news, message| self.known.take(message) | news)
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
                    Err(_) => {
                        // Some was lost (ENOBUFS): anything may have changed. An error that lasts is not read again here.
                        self.known.forget();
                        return;
                    }
                };
                received = self.socket.socket_ref().recv_from_full();
            }
            if is_news {
                return;
            }
        }
    }
}

/// What was told of before.
#[derive(Debug, Default)]
struct Known {
    /// Names, what they are ports of, and whether they are up, by interface.
    links: BTreeMap<u32, (String, Option<u32>, bool)>,
    addresses: BTreeSet<IpAddr>,
    /// By interface and address.
    neighbours: BTreeMap<(u32, IpAddr), Mac>,
    /// Ports, by bridge and link-layer address.
    ports: BTreeMap<(u32, Mac), u32>,
    /// What is looked for, by address.
    sought: BTreeMap<IpAddr, Mac>,
    sought_macs: BTreeSet<Mac>,
}

impl Known {
    fn seek(&mut self, address: IpAddr, mac: &Mac) {
        if self.sought.insert(address, mac.clone()).as_ref() != Some(mac) {
            self.sought_macs = self.sought.values().cloned().collect();
            self.ports.retain(|(_, mac), _| self.sought_macs.contains(mac));
        }
    }

    /// Forgets what was told, not what is looked for.
    fn forget(&mut self) {
        let (sought, sought_macs) = (std::mem::take(&mut self.sought), std::mem::take(&mut self.sought_macs));
        *self = Self { sought, sought_macs, ..Self::default() };
    }

    /// Takes a message; returns whether it is news.
    fn take(&mut self, message: Message<'_>) -> bool {
        match message.message_type {
            libc::RTM_NEWLINK => self.link(message),
            libc::RTM_NEWADDR => lookups::own_address(message).is_some_and(|address| self.addresses.insert(address)),
            libc::RTM_NEWNEIGH => self.neighbour(message),
            libc::RTM_DELNEIGH => {
                self.forget_neighbour(message);
                false
            }
            libc::RTM_DELLINK => {
                message.u32_at(4).map(|ifindex| self.links.remove(&ifindex));
                true
            }
            libc::RTM_DELADDR => {
                lookups::own_address(message).map(|address| self.addresses.remove(&address));
                true
            }
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => true,
            _ => false,
        }
    }

    fn link(&mut self, message: Message<'_>) -> bool {
        let Some(link) = lookups::link(message) else { return false };
        let now = (link.name, link.master, link.is_up);
        self.links.insert(link.ifindex, now.clone()) != Some(now)
    }

    fn neighbour(&mut self, message: Message<'_>) -> bool {
        let (Some(ifindex), Some(state)) = (message.u32_at(4), message.u16_at(8)) else { return false };
        let mac = message.attribute(NEIGHBOUR_BYTES, libc::NDA_LLADDR).map(<[u8]>::to_vec);
        match (place(message), mac.filter(|_| lookups::is_valid(state))) {
            (Some(Place::Port(bridge)), Some(mac)) => {
                self.sought_macs.contains(&mac) && self.ports.insert((bridge, mac), ifindex) != Some(ifindex)
            }
            (Some(Place::Address(address)), Some(mac)) => {
                self.neighbours.insert((ifindex, address), mac.clone()) != Some(mac)
            }
            (_, None) => {
                self.forget_neighbour(message);
                false
            }
            (None, _) => false,
        }
    }

    /// So that it is news when it comes back.
    fn forget_neighbour(&mut self, message: Message<'_>) {
        let Some(ifindex) = message.u32_at(4) else { return };
        match place(message) {
            Some(Place::Port(bridge)) => {
                if let Some(mac) = message.attribute(NEIGHBOUR_BYTES, libc::NDA_LLADDR) {
                    self.ports.remove(&(bridge, mac.to_vec()));
                }
            }
            Some(Place::Address(address)) => drop(self.neighbours.remove(&(ifindex, address))),
            None => {}
        }
    }
}

/// What a neighbour's entry tells the place of.
enum Place {
    /// Of an address.
    Address(IpAddr),
    /// Of a link-layer address behind this bridge.
    Port(u32),
}

fn place(message: Message<'_>) -> Option<Place> {
    if i32::from(message.u8_at(0)?) == libc::AF_BRIDGE {
        message.attribute(NEIGHBOUR_BYTES, NDA_MASTER).and_then(number).map(Place::Port)
    } else {
        message.attribute(NEIGHBOUR_BYTES, libc::NDA_DST).and_then(lookups::address).map(Place::Address)
    }
}
