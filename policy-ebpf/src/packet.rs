//! A packet in the kernel: bytes of a socket buffer, which may lie outside its linear part.

use core::mem::transmute_copy;

use aya_ebpf::{EbpfContext as _, bindings::__sk_buff, helpers::bpf_skb_load_bytes, programs::TcContext};
use policy_common::{
    packet::Packet,
    parse::{ETHERNET_LENGTH, Network, Plain, What},
};

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

    #[inline(always)]
    fn datagram<F: Network>(&self) -> Plain<F::Addr> {
        // What has the shape of nearly all packets, and lies where it can be read, costs a tenth.
        if let Some(near) = Near::of(self, ETHERNET_LENGTH + F::USUAL_LENGTH) {
            let mut plain = Plain::nothing(F::UNSPECIFIED);
            plain.hold(F::parse(&near).as_ref());
            if plain.what() == What::Segment {
                return plain;
            }
        }
        let mut plain = Plain::nothing(F::UNSPECIFIED);
        read_whole::<F>(self, &mut plain);
        plain
    }

    #[inline(always)]
    fn ether_type(&self) -> Option<u16> {
        let near = Near::of(self, ETHERNET_LENGTH).and_then(|near| near.load(12));
        near.or_else(|| self.load(12)).map(u16::from_be_bytes)
    }
}

#[inline(never)]
fn read_whole<F: Network>(skb: &Skb, plain: &mut Plain<F::Addr>) {
    plain.hold(F::parse(skb).as_ref());
}

/// The first bytes of a packet, if they lie in the linear part of its buffer.
pub struct Near {
    bytes: *const u8,
    /// How many can be read.
    reach: u32,
    length: u32,
}

impl Near {
    /// The first `reach` bytes.
    #[inline(always)]
    pub fn of(skb: &Skb, reach: u32) -> Option<Self> {
        // SAFETY: as in `Skb::ifindex`.
        let (begin, end, length) = unsafe { ((*skb.skb).data, (*skb.skb).data_end, (*skb.skb).len) };
        let (begin, end) = (begin as usize, end as usize);
        (begin + reach as usize <= end).then_some(Self { bytes: begin as *const u8, reach, length })
    }
}

/// Loads `COUNT` whole words; packets are not aligned, and no machine that runs BPF programs of ours asks for it.
///
/// # Safety
///
/// As many bytes must be readable at `place`.
#[inline(always)]
unsafe fn words<W: Copy, const COUNT: usize>(place: *const u8) -> [W; COUNT] {
    // SAFETY: passed on to the caller; the verifier checks each access.
    core::array::from_fn(|index| unsafe { place.cast::<W>().add(index).read_volatile() })
}

impl Packet for Near {
    const WHOLE: bool = false;

    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        if offset + N as u32 > self.reach {
            return None;
        }
        // SAFETY: N bytes from here on can be read, which is the size of the words of each arm and of the answer.
        Some(unsafe {
            let place = self.bytes.add(offset as usize);
            match N {
                1 => transmute_copy(&words::<u8, 1>(place)),
                2 => transmute_copy(&words::<u16, 1>(place)),
                4 => transmute_copy(&words::<u32, 1>(place)),
                8 => transmute_copy(&words::<u64, 1>(place)),
                16 => transmute_copy(&words::<u64, 2>(place)),
                20 => transmute_copy(&words::<u32, 5>(place)),
                _ => return None,
            }
        })
    }
}
