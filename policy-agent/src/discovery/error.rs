//! Why an interface is not found.

use std::fmt;
use std::io;
use std::net::IpAddr;

/// The kernel does not answer as it should, or its answers contradict each other.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// A question to the kernel failed.
    #[error("cannot {operation}")]
    Netlink {
        /// What was asked.
        operation: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The addresses of one pod are behind different interfaces.
    #[error("{address} is behind {interface}, but {other} is behind {other_interface}")]
    Disagreement {
        /// An address.
        address: IpAddr,
        /// Its interface.
        interface: String,
        /// Another address.
        other: IpAddr,
        /// The other's interface.
        other_interface: String,
    },
}

/// Why an address is not behind an interface of this node, as far as can be told now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No route leads there, or only the default route.
    NoRoute,
    /// The route leads through a gateway, to another node.
    Gateway(IpAddr),
    /// It is an address of the node itself.
    OwnAddress,
    /// The route leads to an interface by which other nodes are reached.
    Uplink(String),
    /// The route leads to an interface that is no pod's.
    Kind {
        /// The interface.
        name: String,
        /// Its kind, as `ip -d link` has it; nothing for hardware.
        kind: Option<String>,
    },
    /// Nobody behind the bridge has answered for the address yet; it has been asked for.
    Asked {
        /// The bridge.
        bridge: String,
    },
    /// The interface went away meanwhile.
    Gone,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => f.write_str("no route of its own"),
            Self::Gateway(gateway) => write!(f, "the route leads to another node, through {gateway}"),
            Self::OwnAddress => f.write_str("an address of the node itself"),
            Self::Uplink(name) => write!(f, "the route leads to {name}, which other nodes are reached by"),
            Self::Kind { name, kind: Some(kind) } => write!(f, "the route leads to {name}, a {kind} and no veth"),
            Self::Kind { name, kind: None } => write!(f, "the route leads to {name}, which is no veth"),
            Self::Asked { bridge } => write!(f, "nobody behind bridge {bridge} has answered for it yet"),
            Self::Gone => f.write_str("the interface went away"),
        }
    }
}
