//! Ethernet, and ARP on it.

use super::ETHERNET_LENGTH;
use crate::packet::Packet;

/// What an Ethernet frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// ARP.
    Arp,
    /// A VLAN tag that the kernel did not take off, so a second one: an IP packet may stand behind it.
    Tagged,
    /// Anything else, or nothing.
    Other,
}

impl Link {
    /// Reads the type of the frame.
    #[inline(always)]
    pub fn parse<P: Packet + ?Sized>(packet: &P) -> Self {
        match packet.ether_type() {
            Some(0x0800) => Self::V4,
            Some(0x86dd) => Self::V6,
            Some(0x0806) => Self::Arp,
            Some(0x8100 | 0x88a8 | 0x9100) => Self::Tagged,
            _ => Self::Other,
        }
    }
}

/// An ARP packet about IPv4 on Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// The address that the sender claims; unspecified in a probe (RFC 5227).
    pub sender: [u8; 4],
}

impl Arp {
    /// Reads an ARP packet; nothing where it is about something else or ends early.
    #[inline(always)]
    pub fn parse<P: Packet + ?Sized>(packet: &P) -> Option<Self> {
        let kind: [u8; 6] = packet.load(ETHERNET_LENGTH)?;
        let sender = packet.load(ETHERNET_LENGTH + 14)?;
        let _target: [u8; 4] = packet.load(ETHERNET_LENGTH + 24)?;
        // Linux takes ARP of hardware type 6 (IEEE 802) on Ethernet for its own (arp_process in net/ipv4/arp.c).
        matches!(kind, [0, 1 | 6, 8, 0, 6, 4]).then_some(Self { sender })
    }
}
