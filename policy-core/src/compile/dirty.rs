//! What has changed: the places at which tables may have to change.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Identity, PolicyId};
use crate::model::PodKey;

/// What has changed since it was last taken: where desired and real tables may differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Exact addresses, with the identity that each has now.
    pub addresses: Vec<(IpAddr, Option<Identity>)>,
    /// Prefixes.
    pub prefixes: BTreeSet<IpNet>,
    /// Subjects: they, their policies, or who else claims an address of theirs.
    pub subjects: BTreeSet<PodKey>,
    /// Rows, by policy and identity.
    pub rows: BTreeSet<(PolicyId, Identity)>,
    /// Port tables.
    pub port_tables: BTreeSet<u32>,
}

impl Dirty {
    /// Adds what changed later.
    pub fn extend(&mut self, later: Self) {
        let Self { addresses, prefixes, subjects, rows, port_tables } = later;
        self.addresses.extend(addresses);
        self.prefixes.extend(prefixes);
        self.subjects.extend(subjects);
        self.rows.extend(rows);
        self.port_tables.extend(port_tables);
    }

    /// Sorts the addresses; of one that stands several times, what was said last counts.
    pub fn settle(&mut self) {
        self.addresses.sort_by_key(|(address, _)| *address);
        self.addresses.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                *earlier = *later;
            }
            is_same
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_that_stands_several_times_what_was_said_last_counts() {
        let [one, two] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().expect("an address"));
        let mut dirty = Dirty { addresses: vec![(two, Some(Identity(1))), (one, None)], ..Dirty::default() };
        dirty.extend(Dirty { addresses: vec![(two, Some(Identity(2))), (two, None)], ..Dirty::default() });
        dirty.settle();
        assert_eq!(dirty.addresses, [(one, None), (two, None)]);
    }
}
