//! The pure heart of Crosswall: model, cluster index, compiler, identities and plans; no I/O, no clock, no randomness.

pub mod by_address;
pub mod compile;
pub mod explain;
pub mod facet;
pub mod index;
mod intern;
pub mod issues;
pub mod judge;
pub mod model;
pub mod modelled;
pub mod node;
pub mod oracle;
pub mod plan;
mod shelves;
mod show;
mod signatures;
pub mod simulate;
#[cfg(feature = "testing")]
pub mod testing;
pub mod world;
