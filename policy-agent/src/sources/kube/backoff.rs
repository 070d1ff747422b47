//! Pauses between tries that fail: they double, and no two nodes make the same.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// The first pause.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause, before chance doubles it at most.
const LONGEST: Duration = Duration::from_secs(15);

/// The pauses of one thing that is tried again and again.
#[derive(Debug)]
pub struct Backoff {
    pauses: ExponentialBackoff,
}

impl Default for Backoff {
    fn default() -> Self {
        let builder = ExponentialBuilder::default().with_min_delay(FIRST).with_max_delay(LONGEST);
        Self { pauses: builder.with_jitter().without_max_times().build() }
    }
}

impl Backoff {
    /// The next pause is the first again.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// How long to wait now.
    pub fn next(&mut self) -> Duration {
        self.pauses.next().unwrap_or(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_never_end() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..100).map(|_| backoff.next()).collect();
        assert!(pauses[0] >= FIRST && pauses[0] <= FIRST * 2, "{pauses:?}");
        assert!(pauses[10..].iter().all(|pause| (LONGEST..=LONGEST * 2).contains(pause)), "{pauses:?}");
        backoff.succeeded();
        assert!(backoff.next() <= FIRST * 2);
    }

    #[test]
    fn no_two_make_the_same() {
        let pauses = || {
            let mut backoff = Backoff::default();
            (0..20).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        assert_ne!(pauses(), pauses());
    }
}
