//! The datapath and discovery against the real kernel, in network namespaces and on the machine's BPF file system.

mod bpffs;
mod discovery;
mod lifecycle;
mod net;
mod node;
mod refusals;
mod shortcuts;
#[path = "../support/tables.rs"]
mod support;
mod tables;
mod traffic;
