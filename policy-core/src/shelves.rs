//! Sets by key, of which none is empty: what nothing stands on any more is gone, so that an index is not larger than what
//! it finds.

use std::collections::BTreeSet;
use std::hash::Hash;

use hashbrown::HashMap;

/// Takes a value from the set of a key, and with the last one the set.
pub fn take_from<K: Eq + Hash, V: Ord>(shelves: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = shelves.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            shelves.remove(key);
        }
    }
}
