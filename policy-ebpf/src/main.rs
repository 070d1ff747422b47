//! The programs in the kernel: maps and hooks; every decision is made by `policy-common`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(missing_docs, reason = "the attribute of a program drops the comments of its function")]

mod maps;
mod packet;
mod runtime;
mod steps;

use aya_ebpf::{bindings::TC_ACT_SHOT, macros::classifier, programs::TcContext};
use policy_common::decide::{self, Context, Verdict};

use crate::{
    maps::Kernel,
    packet::{Skb, TCX_NEXT},
};

/// Ingress of an endpoint's host-side interface: packets that the endpoint sends.
#[classifier]
#[inline(always)]
pub fn from_pod(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    act(decide::from_pod(&skb, &hook(&skb), &Kernel))
}

/// Egress of an endpoint's host-side interface: packets that reach the endpoint.
#[classifier]
#[inline(always)]
pub fn to_pod(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    act(decide::to_pod(&skb, &hook(&skb), &Kernel))
}

#[inline(always)]
fn hook(skb: &Skb) -> Context {
    Context { ifindex: skb.ifindex(), ingress_ifindex: skb.ingress_ifindex(), has_socket: skb.has_socket() }
}

#[inline(always)]
fn act(verdict: Verdict) -> i32 {
    if verdict.allow { TCX_NEXT } else { TC_ACT_SHOT }
}
