//! A packet in the kernel: bytes of a socket buffer, which may lie outside its linear part.

use aya_ebpf::{EbpfContext as _, bindings::__sk_buff, helpers::bpf_skb_load_bytes, programs::TcContext};
use policy_common::packet::Packet;

/// "Go on with the next program": TCX_NEXT, and TC_ACT_UNSPEC under clsact.
pub const TCX_NEXT: i32 = -1;

/// A socket buffer.
pub struct Skb {
    skb: *mut __sk_buff,
}

impl Skb {
    /// The one that the program was called for.
    #[inline(always)]
    pub fn new(context: &TcContext) -> Self {
        Self { skb: context.as_ptr().cast() }
    }

    /// The interface that the program is attached to.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the kernel hands programs a valid context; the verifier checks each access.
        unsafe { (*self.skb).ifindex }
    }

    /// The interface by which the packet reached the node, 0 if it was made here.
    #[inline(always)]
    pub fn ingress_ifindex(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.skb).ingress_ifindex }
    }

    /// Whether a socket of this node sent it.
    #[inline(always)]
    pub fn has_socket(&self) -> bool {
        // SAFETY: as in `ifindex`; the pointer is only compared.
        unsafe { !(*self.skb).__bindgen_anon_2.sk.is_null() }
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.skb).len }
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        // SAFETY: the helper checks the range itself and writes N bytes or fails.
        let failed = unsafe { bpf_skb_load_bytes(self.skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
        (failed == 0).then_some(bytes)
    }
}
