//! The ports that a pod names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{ContainerPort, Protocol, Text};

/// Port numbers by protocol and name; of a repeated name the first counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NamedPorts(Arc<BTreeMap<(Protocol, Text), u16>>);

impl NamedPorts {
    /// The named ones among a pod's ports.
    pub fn of(ports: &[ContainerPort]) -> Self {
        let mut named = BTreeMap::new();
        for port in ports {
            if let Some(name) = &port.name {
                named.entry((port.protocol, name.clone())).or_insert(port.number);
            }
        }
        Self(Arc::new(named))
    }

    /// All of them, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&(Protocol, Text), u16)> {
        self.0.iter().map(|(place, number)| (place, *number))
    }

    /// The number behind a name.
    pub fn number(&self, protocol: Protocol, name: &Text) -> Option<u16> {
        self.0.get(&(protocol, name.clone())).copied()
    }
}
