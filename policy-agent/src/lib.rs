//! Everything of the agent that touches the world: sources, datapath, local API.

pub mod cluster_set;
pub mod convert;
pub mod document;
pub mod sources;
