//! Why a packet passed or was dropped.

/// Why a packet passed or was dropped; stable, an index of `counters`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A rule decided: it allowed, or (in a tier with deny rules) denied.
    Rule = 0,
    /// Allowed: no policy isolates the endpoint in this direction.
    NotIsolated = 1,
    /// Allowed: the endpoint talks to its own address.
    SelfTraffic = 2,
    /// Allowed: the node itself opened the connection.
    Node = 3,
    /// Allowed: part of a connection that was judged under the commit in force.
    Established = 4,
    /// Allowed: an ICMP error about an allowed connection.
    Related = 5,
    /// Allowed: ARP, neighbour discovery, router discovery or multicast listener discovery.
    Neighbour = 6,
    /// Denied: isolated, and no rule allows it.
    NoRule = 7,
    /// Denied by a rule.
    DenyRule = 8,
    /// Denied: the source is not the endpoint's address.
    SpoofedSource = 9,
    /// Denied: the source is an endpoint of this node, but the packet came from elsewhere.
    MartianSource = 10,
    /// Denied: isolated, and the packet cannot be parsed.
    Unparsable = 11,
    /// Denied: isolated, and a fragment that is not the first.
    Fragment = 12,
    /// Denied: the endpoint waits for its first commit.
    Hold = 13,
    /// Denied: the interface is no endpoint's.
    UnknownEndpoint = 14,
    /// Denied: a table entry changed hands while it was read.
    TableRace = 15,
}

impl Reason {
    /// All reasons, by number.
    pub const ALL: [Self; 16] = [
        Self::Rule,
        Self::NotIsolated,
        Self::SelfTraffic,
        Self::Node,
        Self::Established,
        Self::Related,
        Self::Neighbour,
        Self::NoRule,
        Self::DenyRule,
        Self::SpoofedSource,
        Self::MartianSource,
        Self::Unparsable,
        Self::Fragment,
        Self::Hold,
        Self::UnknownEndpoint,
        Self::TableRace,
    ];

    /// The name that outputs and metrics use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::NotIsolated => "not_isolated",
            Self::SelfTraffic => "self",
            Self::Node => "node",
            Self::Established => "established",
            Self::Related => "related",
            Self::Neighbour => "neighbour",
            Self::NoRule => "no_rule",
            Self::DenyRule => "deny_rule",
            Self::SpoofedSource => "spoofed_source",
            Self::MartianSource => "martian_source",
            Self::Unparsable => "unparsable",
            Self::Fragment => "fragment",
            Self::Hold => "hold",
            Self::UnknownEndpoint => "unknown_endpoint",
            Self::TableRace => "table_race",
        }
    }
}
