//! What the decision reads packets through: bytes at an offset, wherever they lie.

/// A packet, from its Ethernet header on.
pub trait Packet {
    /// The length of the whole packet in bytes, the Ethernet header included.
    fn length(&self) -> u32;

    /// The `N` bytes at `offset`; nothing where the packet ends before them.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
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
