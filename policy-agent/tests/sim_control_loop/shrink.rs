//! Makes a script that shows a failure shorter: whatever can be left out without the failure going is left out.

use std::time::{Duration, Instant};

use crate::run::{Failure, play};
use crate::script::{Action, Delivery, Script};

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A script that fails, and how.
struct Shrinking {
    script: Script,
    failure: Failure,
    until: Instant,
}

/// A shorter script that still fails, and how.
pub fn shrink(script: &Script, failure: Failure) -> (Script, Failure) {
    let mut shrinking = Shrinking { script: script.clone(), failure, until: Instant::now() + PATIENCE };
    let length = shrinking.failure.at + 1;
    shrinking.consider(|script| script.actions.truncate(length));
    shrinking.leave_out();
    shrinking.consider(|script| script.bridged = false);
    shrinking.consider(|script| script.limits.clear());
    for number in 0..shrinking.script.actions.len() {
        shrinking.consider(|script| simplify(&mut script.actions[number]));
    }
    shrinking.leave_out();
    (shrinking.script, shrinking.failure)
}

/// A plainer action in place of one.
fn simplify(action: &mut Action) {
    match action {
        Action::Change(_, delivery) => *delivery = Delivery::Now,
        Action::Pass(ms) => *ms = (*ms).min(15),
        Action::Restart(late) => late.clear(),
        Action::Plug(_, _, told) | Action::Unplug(_, told) => *told = true,
        _ => {}
    }
}

impl Shrinking {
    /// Keeps a change if it still fails with it; returns whether it does.
    fn consider(&mut self, change: impl FnOnce(&mut Script)) -> bool {
        if Instant::now() > self.until {
            return false;
        }
        let mut script = self.script.clone();
        change(&mut script);
        match play(&script) {
            Ok(_) => false,
            Err(failure) => {
                (self.script, self.failure) = (script, failure);
                true
            }
        }
    }

    /// Leaves out actions: many at once, then fewer, until none can be left out any more.
    fn leave_out(&mut self) {
        let mut size = self.script.actions.len();
        while size > 0 {
            let mut start = 0;
            let mut is_shorter = false;
            while start < self.script.actions.len() {
                let end = (start + size).min(self.script.actions.len());
                if self.consider(|script| drop(script.actions.drain(start..end))) {
                    is_shorter = true;
                } else {
                    start += size;
                }
            }
            if size > 1 || !is_shorter {
                size /= 2;
            }
        }
    }
}
