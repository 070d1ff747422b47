//! The two address families as a type parameter, so that no code stands twice.

use crate::table::{FlowKey, NetKey, address_tag};

/// An address family.
pub trait Family: Copy + 'static {
    /// An address, in network byte order.
    type Addr: Copy + Eq + Ord + core::hash::Hash + core::fmt::Debug + AsRef<[u8]> + 'static;
    /// The bits of an address.
    const BITS: u32;
    /// The address that is none.
    const UNSPECIFIED: Self::Addr;
    /// Whether two addresses are one.
    fn same(one: &Self::Addr, other: &Self::Addr) -> bool;
    /// The [`address_tag`] of an address, its words in native order.
    fn tag(address: &Self::Addr) -> u32;
}

/// IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V4;

/// IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V6;

impl Family for V4 {
    type Addr = [u8; 4];
    const BITS: u32 = 32;
    const UNSPECIFIED: [u8; 4] = [0; 4];

    #[inline(always)]
    fn same(one: &[u8; 4], other: &[u8; 4]) -> bool {
        u32::from_ne_bytes(*one) == u32::from_ne_bytes(*other)
    }

    #[inline(always)]
    fn tag(address: &[u8; 4]) -> u32 {
        address_tag(&[u32::from_ne_bytes(*address)])
    }
}

impl Family for V6 {
    type Addr = [u8; 16];
    const BITS: u32 = 128;
    const UNSPECIFIED: [u8; 16] = [0; 16];

    // In halves: comparisons of 16 bytes at once make LLVM align stack slots so that its BPF backend cannot copy them.
    #[inline(always)]
    fn same(one: &[u8; 16], other: &[u8; 16]) -> bool {
        let [a, b] = halves(one);
        let [c, d] = halves(other);
        a == c && b == d
    }

    #[inline(always)]
    fn tag(address: &[u8; 16]) -> u32 {
        let (words, _) = address.as_chunks::<4>();
        address_tag(&[
            u32::from_ne_bytes(words[0]),
            u32::from_ne_bytes(words[1]),
            u32::from_ne_bytes(words[2]),
            u32::from_ne_bytes(words[3]),
        ])
    }
}

#[inline(always)]
fn halves(address: &[u8; 16]) -> [u64; 2] {
    let (halves, _) = address.as_chunks::<8>();
    [u64::from_ne_bytes(halves[0]), u64::from_ne_bytes(halves[1])]
}

/// Addresses of `F` as keys of tables.
pub type NetKeyOf<F> = NetKey<<F as Family>::Addr>;
/// Flow keys of `F`.
pub type FlowKeyOf<F> = FlowKey<<F as Family>::Addr>;
