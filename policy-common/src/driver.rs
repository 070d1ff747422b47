//! What the benchmark's driver is told: how to rewrite each packet before the program under test sees it.

/// The single element of the driver's table.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// The state of the random numbers; not zero.
    pub random: u64,
    /// How many packets there were.
    pub packets: u64,
    /// The peer's address varies over this many that follow one another; 0: it stays.
    pub peers: u32,
    /// The peer's port varies over this many; 0: it stays.
    pub ports: u32,
    /// The last four bytes of the first peer's address, in host order.
    pub first_peer: u32,
    /// The first port.
    pub first_port: u32,
    /// Where the last four bytes of the peer's address are.
    pub peer_at: u32,
    /// Where the peer's port is.
    pub port_at: u32,
}
