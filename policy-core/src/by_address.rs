//! A pair of tables, one for each address family, as one map that knows how many elements each has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;

/// The elements of a table of each family, by address. There may be millions, so each family keeps its own addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct ByAddress<V> {
    v4: HashMap<[u8; 4], V>,
    v6: HashMap<[u8; 16], V>,
}

impl<V> Default for ByAddress<V> {
    fn default() -> Self {
        Self { v4: HashMap::new(), v6: HashMap::new() }
    }
}

impl<V> ByAddress<V> {
    /// The element of an address.
    pub fn get(&self, address: &IpAddr) -> Option<&V> {
        match address {
            IpAddr::V4(address) => self.v4.get(&address.octets()),
            IpAddr::V6(address) => self.v6.get(&address.octets()),
        }
    }

    /// Whether an address has an element.
    pub fn contains_key(&self, address: &IpAddr) -> bool {
        self.get(address).is_some()
    }

    /// Puts an element in place, or (`None`) removes it; returns the one before.
    pub fn set(&mut self, address: IpAddr, value: Option<V>) -> Option<V> {
        match (address, value) {
            (IpAddr::V4(address), Some(value)) => self.v4.insert(address.octets(), value),
            (IpAddr::V4(address), None) => self.v4.remove(&address.octets()),
            (IpAddr::V6(address), Some(value)) => self.v6.insert(address.octets(), value),
            (IpAddr::V6(address), None) => self.v6.remove(&address.octets()),
        }
    }

    /// All elements, with their addresses.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &V)> {
        let v4 = self.v4.iter().map(|(address, value)| (Ipv4Addr::from(*address).into(), value));
        v4.chain(self.v6.iter().map(|(address, value)| (Ipv6Addr::from(*address).into(), value)))
    }

    /// All addresses.
    pub fn keys(&self) -> impl Iterator<Item = IpAddr> {
        self.iter().map(|(address, _)| address)
    }

    /// All elements.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.v4.values().chain(self.v6.values())
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many elements the table of IPv4 has.
    pub fn len_v4(&self) -> usize {
        self.v4.len()
    }

    /// How many elements the table of IPv6 has.
    pub fn len_v6(&self) -> usize {
        self.v6.len()
    }
}

impl<V> Extend<(IpAddr, V)> for ByAddress<V> {
    fn extend<I: IntoIterator<Item = (IpAddr, V)>>(&mut self, elements: I) {
        for (address, value) in elements {
            self.set(address, Some(value));
        }
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
