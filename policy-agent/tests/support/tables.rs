//! What tests with the kernel's tables share.

use std::thread;
use std::time::{Duration, Instant};

use policy_agent::datapath::{Capacities, DatapathError};

/// Tables that are made fast, and of whose flows few fit.
pub const SMALL: Capacities = Capacities {
    endpoints: 64,
    local: 256,
    addresses: 1024,
    prefixes: 256,
    rules: 4096,
    ports: 1024,
    flows: 4096,
    cuts: 1024,
};

/// How long another process may hold what this one had open.
const HELD: Duration = Duration::from_secs(5);

/// Other tests start commands meanwhile, and between fork and exec those hold whatever this process had open.
pub fn once_free<T>(mut attempt: impl FnMut() -> Result<T, DatapathError>) -> Result<T, DatapathError> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(DatapathError::Held { .. }) if start.elapsed() < HELD => thread::sleep(Duration::from_millis(1)),
            outcome => return outcome,
        }
    }
}
