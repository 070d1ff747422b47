//! How often one policy may be written on: a few times at once, then now and then, whatever comes and goes with it.

use std::time::Duration;

use tokio::time::Instant;

/// How often at once.
const BURST: u32 = 5;

/// What is left of the allowance of one policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    /// When nothing of it will be missing.
    whole: Option<Instant>,
}

impl Allowance {
    /// When it may be written on next; one time is given back after each `refill`.
    pub fn due(self, now: Instant, refill: Duration) -> Instant {
        // What cannot be before the clock's beginning is not missing.
        let due = self.whole.and_then(|whole| whole.checked_sub(refill * (BURST - 1)));
        due.map_or(now, |due| due.max(now))
    }

    /// Takes one time.
    pub fn take(&mut self, now: Instant, refill: Duration) {
        self.whole = Some(self.whole.map_or(now, |whole| whole.max(now)) + refill);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_times_at_once_and_then_one_for_each_refill() {
        let refill = Duration::from_secs(60);
        let (start, mut allowance) = (Instant::now() + refill * 100, Allowance::default());
        let mut now = start;
        let mut times = Vec::new();
        for _ in 0..8 {
            now = allowance.due(now, refill);
            allowance.take(now, refill);
            times.push((now - start).as_secs());
        }
        assert_eq!(times, [0, 0, 0, 0, 0, 60, 120, 180]);
        now += refill * 3;
        for _ in 0..3 {
            assert_eq!(allowance.due(now, refill), now, "what was not used is there");
            allowance.take(now, refill);
        }
        assert!(allowance.due(now, refill) > now);
    }
}
