//! Everything of the agent that touches the world: sources, datapath, local API.

pub mod agent;
pub mod api;
pub mod cli;
pub mod cluster_set;
pub mod controller;
pub mod convert;
pub mod datapath;
pub mod discovery;
pub mod document;
pub mod metrics;
mod ownership;
pub mod simulate;
pub mod sources;
