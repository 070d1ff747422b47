//! A pair of tables, one for each address family, as one map that knows how many elements each has.

use std::net::IpAddr;
use std::ops::Deref;

use hashbrown::{HashMap, hash_map};

/// The elements of a table of each family, by address. Read as the map that it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ByAddress<V> {
    elements: HashMap<IpAddr, V>,
    v4: usize,
}

impl<V> Default for ByAddress<V> {
    fn default() -> Self {
        Self { elements: HashMap::new(), v4: 0 }
    }
}

impl<V> ByAddress<V> {
    /// Puts an element in place, or (`None`) removes it.
    pub fn set(&mut self, address: IpAddr, value: Option<V>) {
        let before = match value {
            Some(value) => {
                self.v4 += usize::from(address.is_ipv4());
                self.elements.insert(address, value)
            }
            None => self.elements.remove(&address),
        };
        self.v4 -= usize::from(address.is_ipv4() && before.is_some());
    }

    /// How many elements the table of IPv4 has.
    pub fn len_v4(&self) -> usize {
        self.v4
    }

    /// How many elements the table of IPv6 has.
    pub fn len_v6(&self) -> usize {
        self.elements.len() - self.v4
    }
}

impl<V> Deref for ByAddress<V> {
    type Target = HashMap<IpAddr, V>;

    fn deref(&self) -> &Self::Target {
        &self.elements
    }
}

impl<V> Extend<(IpAddr, V)> for ByAddress<V> {
    fn extend<I: IntoIterator<Item = (IpAddr, V)>>(&mut self, elements: I) {
        elements.into_iter().for_each(|(address, value)| self.set(address, Some(value)));
    }
}

impl<'a, V> IntoIterator for &'a ByAddress<V> {
    type Item = (&'a IpAddr, &'a V);
    type IntoIter = hash_map::Iter<'a, IpAddr, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.elements.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_counted_through_every_kind_of_change() {
        let [v4, v6] = ["10.1.0.1", "fd00:1::1"].map(|text| text.parse::<IpAddr>().expect("an address"));
        let mut map = ByAddress::default();
        let mut counts = |address, value| {
            map.set(address, value);
            (map.len_v4(), map.len_v6())
        };
        assert_eq!(counts(v4, Some(1)), (1, 0));
        assert_eq!(counts(v4, Some(2)), (1, 0), "replaced");
        assert_eq!(counts(v6, Some(1)), (1, 1));
        assert_eq!(counts(v4, None), (0, 1));
        assert_eq!(counts(v4, None), (0, 1), "it was gone");
        map.extend([(v4, 1), (v4, 2)]);
        assert_eq!((map.len_v4(), map.get(&v4)), (1, Some(&2)));
    }
}
