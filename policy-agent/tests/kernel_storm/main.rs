//! The kernel's tables under storms: of commits, of packets on two CPUs, of new connections, of elements that are reused.

mod choices;
mod commits;
mod cpus;
mod flood;
mod frames;
mod machine;
mod reuse;
#[path = "../support/tables.rs"]
mod support;
mod world;
