//! A list that is told in parts: what of it came until now.
//!
//! Where nothing is known of a collection, each part counts at once: nobody has to hold a list of 100,000 pods, which took
//! three times the memory of what is kept of them. Where something is known, the list takes its place in one step, so its
//! parts are kept until it is whole.

use std::collections::BTreeMap;

use crate::convert::{ObjectKey, Reading};

/// The parts of a list that is not whole yet.
#[derive(Debug, Default)]
pub struct Parts {
    /// What counts already, and whether it could be read.
    counted: BTreeMap<ObjectKey, bool>,
    /// What waits for the end: of each object what was told of it last.
    kept: BTreeMap<ObjectKey, Reading>,
}

impl Parts {
    /// These objects, which count from now on.
    pub fn count(&mut self, readings: &[Reading]) {
        for reading in readings {
            *self.counted.entry(reading.key.clone()).or_default() |= reading.object.is_some();
        }
    }

    /// These objects, which wait.
    pub fn keep(&mut self, readings: Vec<Reading>) {
        self.kept.extend(readings.into_iter().map(|reading| (reading.key.clone(), reading)));
    }

    /// The object is gone before the list is whole.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.counted.remove(key);
        self.kept.remove(key);
    }

    /// Whether the server told this object by the list.
    pub fn counts(&self, key: &ObjectKey) -> bool {
        self.counted.contains_key(key)
    }

    /// Whether what the list told of this object could be read; `None`: it told nothing.
    pub fn was_read(&self, key: &ObjectKey) -> Option<bool> {
        self.counted.get(key).copied()
    }

    /// What counts already.
    pub fn counted(&self) -> impl Iterator<Item = &ObjectKey> {
        self.counted.keys()
    }

    /// What waited, now that the list is whole.
    pub fn take_kept(&mut self) -> Vec<Reading> {
        std::mem::take(&mut self.kept).into_values().collect()
    }
}
