//! Sets of groups by what selectors ask of their pods.
//!
//! A million pods are some thousands of groups, and whatever one requirement asks is a set of them that the index has
//! already: no group is looked at.

use hashbrown::HashMap;
use roaring::{MultiOps, RoaringBitmap};

use crate::index::ClusterIndex;
use crate::model::{NamespaceKey, Operator, Requirement, Text};

/// The groups of an index, found by labels.
pub struct Groups<'a> {
    index: &'a ClusterIndex,
    by_key: Option<HashMap<&'a str, RoaringBitmap>>,
}

impl<'a> Groups<'a> {
    /// Those of an index.
    pub fn new(index: &'a ClusterIndex) -> Self {
        Self { index, by_key: None }
    }

    /// The groups of these namespaces.
    pub fn of_namespaces<'n>(&self, namespaces: impl IntoIterator<Item = &'n NamespaceKey>) -> RoaringBitmap {
        namespaces.into_iter().filter_map(|namespace| self.index.groups_of(namespace)).union()
    }

    /// Of these groups those whose pods meet all requirements. None of these is about the cluster's key.
    pub fn meeting(&mut self, groups: &RoaringBitmap, requirements: &[&Requirement]) -> RoaringBitmap {
        // Labels that must be there leave few groups, so they come first.
        let mut left: Option<RoaringBitmap> = None;
        for Requirement { key, operator } in requirements {
            if let Operator::In(values) = operator {
                left = Some(self.labelled(left.as_ref().unwrap_or(groups), key, values));
            }
        }
        let mut left = left.unwrap_or_else(|| groups.clone());
        for Requirement { key, operator } in requirements {
            match operator {
                Operator::In(_) => {}
                Operator::NotIn(values) => left -= self.labelled(&left, key, values),
                Operator::Exists => match self.with_key(key) {
                    Some(having) => left &= having,
                    None => left.clear(),
                },
                Operator::DoesNotExist => {
                    if let Some(having) = self.with_key(key) {
                        left -= having;
                    }
                }
            }
        }
        left
    }

    /// Of these groups those that carry one of the values.
    fn labelled(&self, groups: &RoaringBitmap, key: &Text, values: &[Text]) -> RoaringBitmap {
        let mut labelled = RoaringBitmap::new();
        for those in values.iter().filter_map(|value| self.index.groups_labelled(key, value)) {
            those.add_to(&mut labelled);
        }
        labelled & groups
    }

    fn with_key(&mut self, key: &str) -> Option<&RoaringBitmap> {
        let by_key = self.by_key.get_or_insert_with(|| {
            let mut by_key: HashMap<&str, RoaringBitmap> = HashMap::new();
            for (key, groups) in self.index.groups_by_label() {
                groups.add_to(by_key.entry(key).or_default());
            }
            by_key
        });
        by_key.get(key)
    }
}
