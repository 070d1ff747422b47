//! Real agents that get everything from real API servers, and real traffic between pods of two clusters.

#[path = "../support/agents.rs"]
mod agents;
mod bulk;
mod changes;
#[path = "../support/client.rs"]
mod client;
mod clusters;
mod liar;
mod outages;
mod rights;
mod services;
mod silence;
mod start;
