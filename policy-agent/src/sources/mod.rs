//! Where the world's changes come from: every source tells them as batches of the same events.

pub mod files;
pub mod follow;
pub mod kube;

use std::collections::BTreeMap;
use std::time::SystemTime;

use policy_core::model::{ClusterId, Event, Issue};

/// What a source has to say: changes to be taken as one step, and all that is wrong with its input now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// What changed since the last batch.
    pub events: Vec<Event>,
    /// All issues of the source that stand now, those of earlier batches included; `None`: the same as before.
    pub issues: Option<Vec<Issue>>,
    /// When all there is of a member was last known to be as it is told.
    pub heard: BTreeMap<ClusterId, SystemTime>,
}

impl Batch {
    /// The issues that this batch tells.
    pub fn issues(&self) -> &[Issue] {
        self.issues.as_deref().unwrap_or_default()
    }

    /// Takes in a later batch of the same source.
    pub fn extend(&mut self, later: Self) {
        let Self { events, issues, heard } = later;
        self.events.extend(events);
        self.issues = issues.or(self.issues.take());
        self.heard.extend(heard);
    }
}
