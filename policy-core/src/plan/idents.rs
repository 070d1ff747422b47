//! The tables of exact addresses as the agent knows them: an identity for each of the two slots, which mostly are the same.

use std::net::IpAddr;

use crate::by_address::ByAddress;

/// `ident_v4` and `ident_v6`: the identities in the two slots, by address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Idents {
    first: ByAddress<u32>,
    /// Where it is another one than in the first slot.
    second: ByAddress<u32>,
}

impl Idents {
    /// The identities of an address.
    pub fn get(&self, address: &IpAddr) -> Option<[u32; 2]> {
        let first = *self.first.get(address)?;
        Some([first, self.second.get(address).copied().unwrap_or(first)])
    }

    /// Whether an address has an element.
    pub fn contains_key(&self, address: &IpAddr) -> bool {
        self.first.contains_key(address)
    }

    /// Puts an element in place, or (`None`) removes it.
    pub fn set(&mut self, address: IpAddr, identities: Option<[u32; 2]>) {
        self.first.set(address, identities.map(|[first, _]| first));
        let second = identities.filter(|[first, second]| first != second).map(|[_, second]| second);
        if second.is_some() || !self.second.is_empty() {
            self.second.set(address, second);
            if self.second.is_empty() {
                self.second = ByAddress::default();
            }
        }
    }

    /// All elements, with their addresses.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, [u32; 2])> {
        self.first.iter().map(|(address, first)| {
            let second = self.second.get(&address).copied().unwrap_or(*first);
            (address, [*first, second])
        })
    }

    /// All addresses.
    pub fn keys(&self) -> impl Iterator<Item = IpAddr> {
        self.first.keys()
    }

    /// All identities, of both slots.
    pub fn identities(&self) -> impl Iterator<Item = u32> {
        self.first.values().chain(self.second.values()).copied()
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// How many elements `ident_v4` has.
    pub fn len_v4(&self) -> usize {
        self.first.len_v4()
    }

    /// How many elements `ident_v6` has.
    pub fn len_v6(&self) -> usize {
        self.first.len_v6()
    }
}

impl Extend<(IpAddr, [u32; 2])> for Idents {
    fn extend<I: IntoIterator<Item = (IpAddr, [u32; 2])>>(&mut self, elements: I) {
        for (address, identities) in elements {
            self.set(address, Some(identities));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn elements_come_out_as_they_went_in(
            writes in prop::collection::vec((0u32..6, prop::option::of((0u32..3, 0u32..3))), 0..30),
        ) {
            let mut idents = Idents::default();
            let mut expected = BTreeMap::new();
            for (address, identities) in writes {
                let address = IpAddr::from(std::net::Ipv4Addr::from(address));
                let identities = identities.map(|(first, second)| [first, second]);
                idents.set(address, identities);
                match identities {
                    Some(identities) => expected.insert(address, identities),
                    None => expected.remove(&address),
                };
                prop_assert_eq!(idents.iter().collect::<BTreeMap<_, _>>(), expected.clone());
                prop_assert_eq!(idents.get(&address), identities);
                prop_assert_eq!((idents.len(), idents.is_empty()), (expected.len(), expected.is_empty()));
            }
            let mut again = Idents::default();
            again.extend(expected);
            prop_assert_eq!(again, idents);
        }
    }
}
