//! What is asked for, by variables of the environment: `cargo xtask soak` sets them.

use std::path::PathBuf;
use std::time::Duration;

use crate::choices::from_environment;

/// How a soak goes.
#[derive(Debug)]
pub struct Options {
    /// How often the agent is killed.
    pub kills: u32,
    /// The time over which the kills are spread, at least.
    pub spread: Duration,
    /// What the random choices begin with.
    pub seed: u64,
    /// Where the report is written to as well.
    pub json: Option<PathBuf>,
}

impl Options {
    /// What the environment asks for; else what a test among others can afford.
    pub fn from_environment() -> Self {
        Self {
            kills: from_environment("CROSSWALL_SOAK_KILLS", 16),
            spread: Duration::from_secs(from_environment("CROSSWALL_SOAK_SECONDS", 0)),
            seed: from_environment("CROSSWALL_SOAK_SEED", 20_261_125),
            json: std::env::var_os("CROSSWALL_SOAK_JSON").map(PathBuf::from),
        }
    }
}
