//! Snapshots: the last known state of members with an API server, on disk, so that an agent which begins while a member
//! cannot be reached enforces as the one before it did.
//!
//! Each collection has a journal: `format` is its form, `folder` where it lies. `write` writes one, `scribe` all of
//! them, on a thread of its own; `read` reads them when an agent begins.

mod folder;
mod format;
mod read;
mod scribe;
#[cfg(test)]
mod tests;
mod write;

pub use folder::Folder;
pub use read::{Restored, Unrestored, restore};
pub use scribe::{Health, Journal, Scribe};
