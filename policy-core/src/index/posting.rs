//! The groups that carry a label.

use roaring::RoaringBitmap;

use super::groups::GroupId;

/// Groups, at least one. What tells Deployments apart is a label of one group alone, and there are as many of those as
/// groups: a set of its own for each would weigh more than the group.
#[derive(Clone, Debug, PartialEq)]
pub enum Posting {
    /// This one.
    One(GroupId),
    /// All of these.
    Many(Box<RoaringBitmap>),
}

impl Posting {
    /// Adds a group.
    pub fn insert(&mut self, group: GroupId) {
        match self {
            Self::One(known) if *known == group => {}
            Self::One(known) => *self = Self::Many(Box::new(RoaringBitmap::from_iter([known.0, group.0]))),
            Self::Many(groups) => drop(groups.insert(group.0)),
        }
    }

    /// Takes a group out; returns whether none is left.
    pub fn remove(&mut self, group: GroupId) -> bool {
        match self {
            Self::One(known) => *known == group,
            Self::Many(groups) => {
                groups.remove(group.0);
                groups.is_empty()
            }
        }
    }

    /// Adds its groups to others.
    pub fn add_to(&self, groups: &mut RoaringBitmap) {
        match self {
            Self::One(group) => drop(groups.insert(group.0)),
            Self::Many(those) => *groups |= &**those,
        }
    }
}
