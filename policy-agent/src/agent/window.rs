//! How long events are gathered before they are acted on, and which are acted on together.
//!
//! Idle nothing is waited for; after a commit, a multiple of what it took: so commits have a bounded part of one core however
//! many events there are, and what is cheap is not waited for. What was gathered is not one step: a change of one pod alone
//! is one write of a pointer, several together are staged and need a grace period of the kernel, in which more gather.
//! Measured with 200 relabelled pods a second: half were in force after 9.9 ms when all was put together, and never got out
//! of it; each by itself after 0.3 ms.

use std::time::Duration;

use tokio::time::Instant;

/// Acting takes at most one part in so many of the time, and the one that it takes itself.
const SHARE: u32 = 4;
/// After a commit each connection is judged anew once: not for every single event of a storm.
const SHORTEST: Duration = Duration::from_millis(2);
/// What is heard of waits no longer, whatever a commit takes.
pub const LONGEST: Duration = Duration::from_millis(10);

/// The window that the last commit opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window(Option<Instant>);

impl Window {
    /// Until when to gather what comes with something that was received just now; this may have passed.
    pub fn end(self, received: Instant) -> Instant {
        // A timer that ends now ends with the next millisecond; one that has ended does not wait.
        self.0.unwrap_or_else(|| received.checked_sub(SHORTEST).unwrap_or(received))
    }

    /// Events were acted on from `begun` to `ended`, with a commit.
    pub fn open(&mut self, begun: Instant, ended: Instant) {
        self.0 = Some(ended + (SHARE * (ended - begun)).clamp(SHORTEST, LONGEST));
    }
}

/// Whether the next of what was gathered is a step by itself, so long after the first was begun. Of more, or of what is
/// slow, the rest is one step: one grace period for all of it.
pub fn is_apart(begun: Duration) -> bool {
    begun < LONGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_as_long_as_what_a_commit_takes_makes_it() {
        let begun = Instant::now();
        let ms = Duration::from_millis;
        let mut window = Window::default();
        assert!(window.end(begun) < begun, "nothing was committed yet");
        for (took, waits) in [(ms(0), ms(2)), (ms(1), ms(4)), (ms(2), ms(8)), (ms(50), ms(10))] {
            let ended = begun + took;
            window.open(begun, ended);
            assert_eq!(window.end(ended), ended + waits, "{took:?}");
            assert!(window.end(ended + ms(20)) < ended + ms(20), "it is over");
        }
    }
}
