//! The signature of each group. There are many groups and few signatures, so each signature is kept once.

use crate::facet::{FacetId, Signature};
use crate::index::GroupId;
use crate::intern::Interner;

/// The number of the signature that is empty.
const EMPTY: u32 = 0;

/// The facets of all groups.
#[derive(Debug)]
pub struct Signatures {
    /// The number of each group's signature.
    numbers: Vec<u32>,
    contents: Interner<Signature>,
}

impl Default for Signatures {
    fn default() -> Self {
        Self { numbers: Vec::new(), contents: Interner::starting_at(EMPTY + 1) }
    }
}

impl Signatures {
    /// The facets of a group, ascending.
    pub fn get(&self, group: GroupId) -> &[FacetId] {
        let number = self.numbers.get(group.0 as usize).and_then(|number| self.contents.get(*number));
        number.map_or(&[], |signature| signature.as_slice())
    }

    /// Gives a group this signature.
    pub fn set(&mut self, group: GroupId, signature: Signature) {
        let place = group.0 as usize;
        if self.numbers.len() <= place {
            if signature.is_empty() {
                return;
            }
            self.numbers.resize(place + 1, EMPTY);
        }
        let number = if signature.is_empty() { EMPTY } else { self.contents.acquire(signature).0 };
        let before = std::mem::replace(&mut self.numbers[place], number);
        if before != EMPTY {
            self.contents.release(before);
        }
    }

    /// Adds a facet to a group's.
    pub fn insert(&mut self, group: GroupId, facet: FacetId) {
        let mut signature = Signature::from_slice(self.get(group));
        if let Err(place) = signature.binary_search(&facet) {
            signature.insert(place, facet);
            self.set(group, signature);
        }
    }

    /// Takes a facet from a group's.
    pub fn remove(&mut self, group: GroupId, facet: FacetId) {
        let mut signature = Signature::from_slice(self.get(group));
        if let Ok(place) = signature.binary_search(&facet) {
            signature.remove(place);
            self.set(group, signature);
        }
    }
}
