//! The pure heart of Crosswall: model, cluster index, compiler, identities and plans; no I/O, no clock, no randomness.

pub mod model;
