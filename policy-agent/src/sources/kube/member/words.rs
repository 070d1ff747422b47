//! How members' collections and their ages are said.

use std::collections::BTreeMap;
use std::time::Duration;

use policy_core::model::{Issue, IssueCode};

use crate::sources::kube::collection::Collection;

/// Collections with the same text.
pub fn by_value(texts: &BTreeMap<Collection, String>) -> BTreeMap<&str, Vec<Collection>> {
    let mut collections: BTreeMap<&str, Vec<Collection>> = BTreeMap::new();
    for (collection, text) in texts {
        collections.entry(text).or_default().push(*collection);
    }
    collections
}

/// Their names in a row.
pub fn names<'a>(collections: impl IntoIterator<Item = &'a Collection>) -> String {
    let names: Vec<&str> = collections.into_iter().map(|collection| collection.resource()).collect();
    names.join(", ")
}

/// A time as people say it.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

/// What an object that cannot be read means.
pub fn say_consequence(issue: &mut Issue) {
    if matches!(issue.code, IssueCode::UnreadablePolicy | IssueCode::UnreadableObject) {
        issue.message.push_str("; its last valid version, if there was one, stays in force");
    }
}
