//! What benchmarks compare with and drive by: an empty program, one that only parses, and one that rewrites each packet
//! before the program under test sees it.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the attribute of a program drops the comments of its function")]

#[expect(dead_code, reason = "the programs here look at less of a packet than those in the kernel")]
mod packet;
mod runtime;

use aya_ebpf::{
    btf_maps::{Array, ProgramArray},
    helpers::bpf_skb_store_bytes,
    macros::{btf_map, classifier},
    programs::TcContext,
};
use policy_common::{
    driver::Driver,
    family::{V4, V6},
    packet::Packet as _,
    parse::{Link, Plain, Segment, What},
};

use crate::packet::{Skb, TCX_NEXT};

#[btf_map(name = "driver")]
static DRIVER: Array<Driver, 1> = Array::new();
#[btf_map(name = "under_test")]
static UNDER_TEST: ProgramArray<1> = ProgramArray::new();

/// Does nothing: what a program costs at least.
#[classifier]
#[inline(always)]
pub fn empty(_context: TcContext) -> i32 {
    TCX_NEXT
}

/// Reads what the decision reads of a packet, and no table.
#[classifier]
#[inline(always)]
pub fn parse_only(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    let (what, segment) = match Link::parse(&skb) {
        Link::V4 => read(&skb.datagram::<V4>()),
        Link::V6 => read(&skb.datagram::<V6>()),
        Link::Arp | Link::Tagged | Link::Other => return 0,
    };
    let is_read = what == What::Segment && segment.source_port != segment.destination_port;
    if is_read { TCX_NEXT } else { 0 }
}

#[inline(always)]
fn read<A: Copy>(datagram: &Plain<A>) -> (What, Segment) {
    (datagram.what(), datagram.segment())
}

/// Gives the packet another peer, then goes on with the program under test.
#[classifier]
#[inline(always)]
pub fn drive(context: TcContext) -> i32 {
    if let Some(driver) = DRIVER.get_ptr_mut(0) {
        // SAFETY: a pointer from a look-up; one test runs at a time.
        rewrite(&context, unsafe { &mut *driver });
    }
    // SAFETY: nothing here has a destructor.
    unsafe { UNDER_TEST.tail_call(&context, 0) };
    0
}

#[inline(always)]
fn rewrite(context: &TcContext, driver: &mut Driver) {
    driver.packets += 1;
    if driver.peers != 0 {
        // xorshift64 (Marsaglia, 2003).
        driver.random ^= driver.random << 13;
        driver.random ^= driver.random >> 7;
        driver.random ^= driver.random << 17;
        let peer = driver.first_peer + (driver.random >> 32) as u32 % driver.peers;
        store(context, driver.peer_at, peer.to_be_bytes());
    }
    if driver.ports != 0 {
        let port = driver.first_port + driver.packets as u32 % driver.ports;
        store(context, driver.port_at, (port as u16).to_be_bytes());
    }
}

#[inline(always)]
fn store<const N: usize>(context: &TcContext, at: u32, bytes: [u8; N]) {
    // SAFETY: the helper checks the range itself and reads N bytes. A packet that is too short stays as it is.
    unsafe { bpf_skb_store_bytes(context.skb.skb, at, bytes.as_ptr().cast(), N as u32, 0) };
}
