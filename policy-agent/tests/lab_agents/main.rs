//! Real agents, one a node, and real traffic between pods of three clusters.

#[path = "../support/agents.rs"]
mod agents;
mod bad_input;
mod changes;
mod clusters;
mod matrix;
mod privileges;
mod restart;
