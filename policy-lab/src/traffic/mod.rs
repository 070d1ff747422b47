//! Real traffic between the hosts of a lab: probes, matrices, connections that stay open, crafted packets.

pub mod barrage;
pub mod conversation;
pub mod echo;
pub mod matrix;
pub mod packet;
pub mod probe;
pub mod prober;
pub mod sniffer;
pub mod stream;

mod engine;
