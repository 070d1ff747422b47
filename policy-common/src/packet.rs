//! What the decision reads packets through: bytes at an offset, wherever they lie.

use crate::parse::{Network, Plain};

/// A packet, from its Ethernet header on.
pub trait Packet {
    /// Whether all of it can be read: what lies behind options and extension headers too.
    const WHOLE: bool = true;

    /// The length of the whole packet in bytes, the Ethernet header included.
    fn length(&self) -> u32;

    /// The `N` bytes at `offset`; nothing where the packet ends before them.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;

    /// The IP packet behind the Ethernet header, as [`Network::parse`] reads it; whoever knows a faster way to the same
    /// takes it.
    #[inline(always)]
    fn datagram<F: Network>(&self) -> Plain<F::Addr> {
        let mut plain = Plain::nothing(F::UNSPECIFIED);
        plain.hold(F::parse(self).as_ref());
        plain
    }

    /// What the Ethernet frame says it carries.
    #[inline(always)]
    fn ether_type(&self) -> Option<u16> {
        self.load(12).map(u16::from_be_bytes)
    }
}

/// On the host a packet is a slice.
impl Packet for [u8] {
    fn length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.get(offset as usize..)?.first_chunk().copied()
    }
}
