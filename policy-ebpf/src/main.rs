//! The programs in the kernel: maps and hooks; every decision is made by `policy-common`.
#![no_std]
#![no_main]

use aya_ebpf::{
    btf_maps::Array,
    macros::{btf_map, classifier},
    programs::TcContext,
};

/// "Go on with the next program": TCX_NEXT, and TC_ACT_UNSPEC under clsact.
const TCX_NEXT: i32 = -1;

/// What the host tells the programs; one entry.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Config {
    /// Version of the table layouts that the host writes.
    pub abi_version: u32,
    /// Zero.
    pub padding: u32,
}

#[btf_map]
static CONFIG: Array<Config, 1> = Array::new();

/// Ingress of a workload's host-side interface: packets that the pod sends.
#[classifier]
pub fn from_pod(_context: TcContext) -> i32 {
    match CONFIG.get(0) {
        Some(config) if config.abi_version == 0 => TCX_NEXT,
        _ => TCX_NEXT,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// SAFETY: a plain string in the section from which loaders read the licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
