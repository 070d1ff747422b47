//! The controller: what must be done once per cluster. Of several, an `election` chooses the one that `leader` describes;
//! it finds out what is wrong with policies, and writes it on them: `notes` says what, `desk` when, and `writer` does
//! it.

mod allowance;
mod desk;
mod election;
mod leader;
mod notes;
mod status;
#[cfg(test)]
mod tests;
mod writer;

pub use election::{Candidate, Term, Timing, elect};
pub use leader::{Calling, Leader, Pace};
pub use status::Status;

/// How the controller names itself: as the manager of its fields, and as the reporter of its Events.
const NAME: &str = "crosswall-controller";
