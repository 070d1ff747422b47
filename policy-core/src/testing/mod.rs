//! Worlds for tests: written by hand in a few words ([`build`]), or generated so that they collide ([`strategies`],
//! [`sequences`], [`connections`], [`services`]).

use proptest::test_runner::Config;

pub mod build;
pub mod connections;
pub mod packets;
mod parse;
pub mod sequences;
pub mod services;
pub mod strategies;

pub use build::{
    ClusterSetBuilder, PodBuilder, abc, block, cluster_set, connection, namespace, namespaces, node, pod, pods,
    pods_in, policy, rule, unreadable,
};
pub use connections::{connections, ends, worlds_with_connections};
pub use parse::{labels, selector};
pub use sequences::{EventSequence, event_sequences};
pub use services::{service, slice};
pub use strategies::worlds;

/// How often a property is tried: `PROPTEST_CASES` times, or so often that every change is tested well.
pub fn cases(default: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    Config { cases, failure_persistence: None, ..Config::default() }
}
