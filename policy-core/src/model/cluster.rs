//! Clusters, the ClusterSet they form, and which clusters a peer ranges over.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

use super::{Labels, Text};

/// A cluster's id as KEP-2149 has it: one RFC 1123 label, or two joined by a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(Text);

/// Why a string is no cluster id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cluster id: one RFC 1123 label (a-z, 0-9, '-', at most 63 characters), or two joined by a dot")]
pub struct InvalidClusterId(pub String);

impl ClusterId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as shared text.
    pub fn text(&self) -> &Text {
        &self.0
    }

    /// Whether `text` is a valid id.
    pub fn is_valid(text: &str) -> bool {
        let mut parts = text.split('.');
        let valid = |part: &str| {
            let bytes = part.as_bytes();
            let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
            !bytes.is_empty()
                && bytes.len() <= 63
                && bytes.iter().all(inner)
                && bytes[0] != b'-'
                && bytes[bytes.len() - 1] != b'-'
        };
        parts.next().is_some_and(valid) && parts.next().is_none_or(valid) && parts.next().is_none()
    }
}

impl FromStr for ClusterId {
    type Err = InvalidClusterId;

    fn from_str(text: &str) -> Result<Self, InvalidClusterId> {
        if Self::is_valid(text) { Ok(Self(text.into())) } else { Err(InvalidClusterId(text.to_owned())) }
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which clusters a peer that is not cluster-qualified ranges over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The local cluster only.
    #[default]
    Local,
    /// Every member of the ClusterSet (namespace sameness).
    ClusterSet,
}

/// Where the cluster label exists (docs/semantics.md §2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClusterLabels {
    /// On every namespace and pod of a member.
    #[default]
    Implicit,
    /// Only where the namespace object carries it with the id of its join record.
    Explicit,
}

/// A member's join record: what the local operator says of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The cluster's id.
    pub id: ClusterId,
    /// The ranges its pods' addresses must lie in; empty: any that no other member's ranges hold.
    pub pod_cidrs: Vec<IpNet>,
    /// The cluster's own labels.
    pub labels: Labels,
}

/// The ClusterSet as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The cluster whose policies this node enforces.
    pub local: ClusterId,
    /// The scope of peers that are not cluster-qualified.
    pub default_scope: Scope,
    /// Where the cluster label exists.
    pub cluster_labels: ClusterLabels,
    /// All members, the local one included, in the order of the configuration.
    pub members: Vec<Member>,
}

impl ClusterConfig {
    /// The join record of `id`.
    pub fn member(&self, id: &ClusterId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_are_one_or_two_rfc_1123_labels() {
        let long = "a".repeat(63);
        for valid in ["a", "cluster-a", "1", "eu.prod", &format!("{long}.{long}")] {
            assert!(ClusterId::is_valid(valid), "{valid}");
        }
        for invalid in ["", "-a", "a-", "A", "a_b", "a.b.c", ".a", "a.", &"a".repeat(64)] {
            assert!(!ClusterId::is_valid(invalid), "{invalid}");
        }
    }
}
