//! What the kernel programs and the host share: table layouts, packet parsing, the decision function.
#![cfg_attr(not(test), no_std)]

pub mod decide;
pub mod driver;
pub mod family;
pub mod flow;
pub mod packet;
pub mod parse;
pub mod reason;
pub mod table;
pub mod tables;
#[cfg(feature = "user")]
mod user;
