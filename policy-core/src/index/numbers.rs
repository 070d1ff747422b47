//! Tables of numbers that are found by what their pods say.

use hashbrown::HashTable;

use super::pods::PodIndex;

/// Adds the number of a pod that is not in the table.
///
/// A hash table that grows asks for the hashes of its elements in the order in which they lie, which is none: of a million
/// pods each would be fetched from another place of the memory. So a larger table is filled here, in the order of numbers.
pub fn add(table: &mut HashTable<PodIndex>, hash: u64, pod: PodIndex, hash_of: impl Fn(PodIndex) -> u64) {
    if table.len() == table.capacity() {
        let mut known: Vec<PodIndex> = table.drain().collect();
        known.sort_unstable();
        *table = HashTable::with_capacity(known.len() + known.len() / 8 + 1);
        for known in known {
            table.insert_unique(hash_of(known), known, |other| hash_of(*other));
        }
    }
    table.insert_unique(hash, pod, |other| hash_of(*other));
}
