//! A probe: may a new connection be opened from one host to another?

use std::fmt;
use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::address::Family;

/// The protocol of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// A TCP connection on which a few bytes are echoed.
    Tcp,
    /// A datagram that is echoed.
    Udp,
    /// An echo request that is answered (ICMPv6 for IPv6).
    Icmp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
        })
    }
}

/// One question to the network. As JSON it is a probe of `policyctl simulate`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Probe {
    /// The host that opens.
    pub from: String,
    /// The host that is opened to, or an address.
    pub to: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port; absent for ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The address family.
    pub family: Family,
}

impl Probe {
    /// A TCP probe over IPv4.
    #[must_use]
    pub fn tcp(from: &str, to: &str, port: u16) -> Self {
        Self::new(from, to, Protocol::Tcp, Some(port))
    }

    /// A UDP probe over IPv4.
    #[must_use]
    pub fn udp(from: &str, to: &str, port: u16) -> Self {
        Self::new(from, to, Protocol::Udp, Some(port))
    }

    /// An echo request over IPv4.
    #[must_use]
    pub fn ping(from: &str, to: &str) -> Self {
        Self::new(from, to, Protocol::Icmp, None)
    }

    /// The same over IPv6.
    #[must_use]
    pub fn v6(self) -> Self {
        self.over(Family::V6)
    }

    /// The same over a family.
    #[must_use]
    pub fn over(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    fn new(from: &str, to: &str, protocol: Protocol, port: Option<u16>) -> Self {
        Self { from: from.into(), to: to.into(), protocol, port, family: Family::V4 }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, protocol, port, family } = self;
        write!(f, "{from} -> {to} {protocol}")?;
        if let Some(port) = port {
            write!(f, "/{port}")?;
        }
        write!(f, " {family}")
    }
}

/// What the network answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The answer came back.
    Allowed,
    /// It did not.
    Denied(Denial),
}

impl Outcome {
    /// Whether it is [`Outcome::Allowed`].
    #[must_use]
    pub fn is_allowed(self) -> bool {
        self == Self::Allowed
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::Denied(denial) => write!(f, "denied ({denial})"),
        }
    }
}

/// How it was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// Nothing came back in time: what a policy's drop looks like.
    Timeout,
    /// TCP: the connection was opened, but the bytes were not echoed in time.
    NoEcho,
    /// A reset or "port unreachable": nobody listens.
    Refused,
    /// An established connection was reset.
    Reset,
    /// The network or host is unreachable: no route, no neighbour, or a router's answer.
    Unreachable,
    /// The attempt failed in another way.
    Failed(io::ErrorKind),
}

impl From<&io::Error> for Denial {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Timeout,
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            other => Self::Failed(other),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer"),
            Self::NoEcho => f.write_str("opened, no data"),
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Failed(kind) => write!(f, "{kind}"),
        }
    }
}

/// How long a probe waits. Silence is the only sign of a drop, so a denial costs `timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// After this an unanswered probe counts as denied.
    pub timeout: Duration,
    /// How often a probe is sent anew within it, from another port: a packet that was
    /// dropped just before a change must not stand for the state after it (a SYN is
    /// retransmitted only after a second).
    pub attempts: u32,
}

impl Timing {
    /// Two attempts within `timeout`.
    #[must_use]
    pub fn within(timeout: Duration) -> Self {
        Self { timeout, ..Self::default() }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self { timeout: Duration::from_millis(600), attempts: 2 }
    }
}
