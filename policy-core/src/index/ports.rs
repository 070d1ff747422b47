//! The ports that a pod names.

use crate::model::{ContainerPort, Protocol, Text};

/// The named ones among a pod's ports; of a repeated name the first counts.
#[derive(Clone, Copy, Debug)]
pub struct NamedPorts<'a>(&'a [ContainerPort]);

impl<'a> NamedPorts<'a> {
    /// Of these ports.
    pub fn of(ports: &'a [ContainerPort]) -> Self {
        Self(ports)
    }

    /// All names with their protocol; a repeated one repeatedly.
    pub fn iter(self) -> impl Iterator<Item = (Protocol, &'a Text)> {
        self.0.iter().filter_map(|port| Some((port.protocol, port.name.as_ref()?)))
    }

    /// The number behind a name.
    pub fn number(self, protocol: Protocol, name: &str) -> Option<u16> {
        let is_meant = |port: &&ContainerPort| port.protocol == protocol && port.name.as_deref() == Some(name);
        self.0.iter().find(is_meant).map(|port| port.number)
    }
}
