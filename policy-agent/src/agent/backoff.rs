//! When what failed is tried again.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);

/// Pauses that double.
#[derive(Debug)]
pub struct Backoff {
    pause: Duration,
    due: Option<Instant>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pause: FIRST, due: None }
    }
}

impl Backoff {
    /// When the next try is due; `None`: nothing failed.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Nothing is left to be tried again.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Something failed that had not failed before: it is tried again soon.
    pub fn failed_anew(&mut self, now: Instant) {
        self.pause = FIRST;
        self.due = Some(now + FIRST);
    }

    /// What failed before failed again. A try before its time, because something else happened, does not prolong the
    /// pause.
    pub fn failed_again(&mut self, now: Instant) {
        match self.due {
            Some(due) if now < due => {}
            Some(_) => {
                self.pause = (self.pause * 2).min(LONGEST);
                self.due = Some(now + self.pause);
            }
            None => self.failed_anew(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest_and_begin_anew_for_what_is_new() {
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let now = Instant::now();
            backoff.failed_again(now);
            let due = backoff.due().expect("it failed");
            pauses.push((due - now).as_millis());
            tokio::time::sleep_until(due).await;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.failed_anew(Instant::now());
        assert_eq!(backoff.due(), Some(Instant::now() + FIRST));
        backoff.succeeded();
        assert_eq!(backoff.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_before_its_time_leaves_the_pause_alone() {
        let mut backoff = Backoff::default();
        backoff.failed_anew(Instant::now());
        let due = backoff.due();
        tokio::time::advance(Duration::from_millis(10)).await;
        backoff.failed_again(Instant::now());
        assert_eq!(backoff.due(), due);
    }
}
