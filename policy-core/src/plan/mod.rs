//! The order of writes: from what the tables hold to what they should hold, so that every packet sees the old policy
//! whole or the new policy whole, wherever the plan is cut off.
//!
//! *stage* adds what nothing points at yet and writes the slots that are not live; *flip* makes them live; after a
//! *grace* period no program can still read the old slots; *sweep* copies the live slot over the other and deletes
//! what nothing points at any more. Rows are never changed, only added and deleted. An address whose old and new
//! identities no policy in force tells apart is written once, both slots before the flip: so most are that a new policy is
//! the first to ask for, and all of the first plan.

mod build;
mod early;
mod idents;
mod limits;
mod tables;

pub use build::{DesiredEndpoint, Goal, Own};
pub use idents::Idents;
pub use limits::{Limits, Table, TableFull};
pub use tables::{TableState, Write, address_tag, ident, local_bits};

/// One step of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Writes one element.
    Write(Write),
    /// Stores the commit with one 8-byte write.
    Flip(u64),
    /// Waits until no program that began before this step still runs (an RCU grace period).
    Grace,
}

/// Steps to be carried out in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The commit that the plan makes live, if it makes one.
    pub fn commit(&self) -> Option<u64> {
        self.steps.iter().find_map(|step| match step {
            Step::Flip(commit) => Some(*commit),
            Step::Write(_) | Step::Grace => None,
        })
    }
}

impl TableState {
    /// Carries out one step.
    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Write(write) => self.write(write),
            Step::Flip(commit) => self.commit = *commit,
            Step::Grace => {}
        }
    }
}
