//! Why a packet passed or was dropped.

use crate::table::REASON_SLOTS;

macro_rules! reasons {
    ($($(#[$doc:meta])+ $reason:ident = $number:literal, $name:literal;)+) => {
        /// Why a packet passed or was dropped; stable, an index of `counters`.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])+ $reason = $number,)+
        }

        impl Reason {
            /// All reasons, by number.
            pub const ALL: [Self; [$($number),+].len()] = [$(Self::$reason),+];

            /// The name that outputs and metrics use.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// A rule decided: it allowed, or (in a tier with deny rules) denied.
    Rule = 0, "rule";
    /// Allowed: no policy isolates the endpoint in this direction.
    NotIsolated = 1, "not_isolated";
    /// Allowed: the endpoint talks to its own address.
    SelfTraffic = 2, "self";
    /// Allowed: the node itself opened the connection.
    Node = 3, "node";
    /// Allowed: part of a connection that was judged under the commit in force.
    Established = 4, "established";
    /// Allowed: an ICMP error about an allowed connection.
    Related = 5, "related";
    /// Allowed: ARP, neighbour discovery, router discovery or multicast listener discovery.
    Neighbour = 6, "neighbour";
    /// Denied: isolated, and no rule allows it.
    NoRule = 7, "no_rule";
    /// Denied by a rule.
    DenyRule = 8, "deny_rule";
    /// Denied: the source is not the endpoint's address.
    SpoofedSource = 9, "spoofed_source";
    /// Denied: the source is an endpoint of this node, but the packet came from elsewhere.
    MartianSource = 10, "martian_source";
    /// Denied: isolated, and the packet cannot be parsed.
    Unparsable = 11, "unparsable";
    /// Denied: isolated, and a fragment that is not the first.
    Fragment = 12, "fragment";
    /// Denied: the endpoint waits for its first commit.
    Hold = 13, "hold";
    /// Denied: the interface is no endpoint's.
    UnknownEndpoint = 14, "unknown_endpoint";
    /// Denied: a table entry changed hands while it was read.
    TableRace = 15, "table_race";
}

const _: () = {
    assert!(Reason::ALL.len() <= REASON_SLOTS);
    let mut number = 0;
    while number < Reason::ALL.len() {
        assert!(Reason::ALL[number] as usize == number);
        number += 1;
    }
};
