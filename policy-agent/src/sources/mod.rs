//! Where the world's changes come from: every source tells them as batches of the same events.

pub mod files;

use policy_core::model::{Event, Issue};

/// What a source has to say: changes to be taken as one step, and all that is wrong with its input now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// What changed since the last batch.
    pub events: Vec<Event>,
    /// All issues of the source that stand now, those of earlier batches included.
    pub issues: Vec<Issue>,
}
