//! The pure heart of Crosswall: model, cluster index, compiler, identities and plans; no I/O, no clock, no randomness.

pub mod compile;
pub mod facet;
pub mod index;
mod intern;
pub mod model;
pub mod node;
pub mod plan;
