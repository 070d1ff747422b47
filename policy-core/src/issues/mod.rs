//! What the whole of the objects shows to be wrong, beyond what one object shows by itself.

mod backed;
mod dns;
mod groups;
mod peers;
mod reach;
mod services;

use std::net::IpAddr;

use crate::compile::Compiler;
use crate::index::PodEntry;
use crate::model::{
    CLUSTER_KEY, CLUSTER_KEY_ALIAS, ClusterId, Issue, IssueCode, Labels, Level, Namespace, PodKey, ScopeAnnotation,
};

/// The issues of the objects that a compiler knows, in order.
pub fn of(compiler: &Compiler) -> Vec<Issue> {
    let mut issues = Vec::new();
    contested_addresses(compiler, &mut issues);
    addresses_outside(compiler, &mut issues);
    inherited_scopes(compiler, &mut issues);
    spoofed_labels(compiler, &mut issues);
    peers::unknown_clusters(compiler, &mut issues);
    peers::split_peers(compiler, &mut issues);
    reach::would_widen(compiler, &mut issues);
    dns::isolated(compiler, &mut issues);
    services::addresses_not_allowed(compiler, &mut issues);
    issues.sort();
    issues
}

/// A pod as issues name it.
pub fn pod_object(key: &PodKey) -> String {
    format!("{}/Pod/{}/{}", key.cluster, key.namespace, key.name)
}

/// How many of several are named.
const NAMED: usize = 3;

fn contested_addresses(compiler: &Compiler, issues: &mut Vec<Issue>) {
    for (address, claimants) in compiler.index().contested() {
        let owner = compiler.index().owner(address).map(PodEntry::key);
        let pods = || claimants.iter().filter_map(|number| compiler.index().entry(*number)).map(PodEntry::key);
        for pod in pods() {
            // Any number of pods can claim one address, and each has an issue of its own.
            let mut others: Vec<String> =
                pods().filter(|other| *other != pod).take(NAMED).map(|other| other.to_string()).collect();
            let more = claimants.len() - 1 - others.len();
            if more > 0 {
                others.push(format!("{more} more"));
            }
            let (level, outcome) = match &owner {
                Some(owner) if *owner == pod => (Level::Warning, "this pod keeps it".to_owned()),
                Some(owner) => {
                    (Level::Error, format!("it counts as {owner}'s, so selectors do not find this pod by it"))
                }
                None => (Level::Error, "it counts as nobody's, so selectors match neither pod by it".to_owned()),
            };
            issues.push(Issue {
                code: IssueCode::DuplicateAddress,
                level,
                object: pod_object(&pod),
                field: "status.podIPs".to_owned(),
                message: format!("{address} is claimed by {} too; {outcome}", others.join(", ")),
            });
        }
    }
}

fn addresses_outside(compiler: &Compiler, issues: &mut Vec<Issue>) {
    for (address, pod) in compiler.index().outside() {
        issues.push(Issue {
            code: IssueCode::AddressOutsidePodCidrs,
            level: Level::Error,
            object: pod_object(pod),
            field: "status.podIPs".to_owned(),
            message: format!(
                "{address} {}; selectors do not find the pod by it",
                why_outside(compiler, &pod.cluster, *address)
            ),
        });
    }
}

fn why_outside(compiler: &Compiler, cluster: &ClusterId, address: IpAddr) -> String {
    let config = compiler.index().config();
    match config.member(cluster) {
        Some(member) if !member.pod_cidrs.is_empty() => {
            let ranges: Vec<String> = member.pod_cidrs.iter().map(ToString::to_string).collect();
            format!("lies outside the podCIDRs of {cluster} ({})", ranges.join(", "))
        }
        _ => {
            let holds = |other: &&crate::model::Member| other.pod_cidrs.iter().any(|cidr| cidr.contains(&address));
            let holder = config.members.iter().filter(|other| other.id != *cluster).find(holds);
            format!("lies in the podCIDRs of {}", holder.map_or_else(String::new, |other| other.id.to_string()))
        }
    }
}

/// Policies that inherit a scope which is not known; what a policy says itself is noted where it is read.
fn inherited_scopes(compiler: &Compiler, issues: &mut Vec<Issue>) {
    for policy in compiler.policies().filter(|policy| policy.peer_scope.is_none()) {
        let key = &policy.key;
        let inherited =
            compiler.index().namespace(&key.namespace_key()).and_then(|namespace| namespace.peer_scope.as_ref());
        if let Some(ScopeAnnotation::Unknown(value)) = inherited {
            issues.push(Issue {
                code: IssueCode::UnknownPeerScope,
                level: Level::Error,
                object: key.to_string(),
                field: "metadata.annotations[crosswall.dev/peer-scope]".to_owned(),
                message: format!(
                    "its namespace's annotation says {value:?}, which is neither Local nor ClusterSet; unqualified peers of the policy range over its own cluster only"
                ),
            });
        }
    }
}

fn spoofed_labels(compiler: &Compiler, issues: &mut Vec<Issue>) {
    let index = compiler.index();
    for Namespace { key, labels, .. } in index.namespaces() {
        spoofed(&key.cluster, labels, || format!("{}/Namespace/{}", key.cluster, key.name), issues);
    }
    let mut spoofed_pod = |pod: PodEntry<'_>| spoofed(pod.cluster(), pod.labels(), || pod_object(&pod.key()), issues);
    // The pods of a group carry the same labels.
    let groups = index.groups().filter(|(_, group)| names_another(&group.key.namespace.cluster, &group.key.labels));
    groups.flat_map(|(id, _)| index.pods_of(id)).for_each(&mut spoofed_pod);
    index.pods().filter(|pod| pod.group().is_none()).for_each(spoofed_pod);
}

fn names_another(cluster: &ClusterId, labels: &Labels) -> bool {
    [CLUSTER_KEY, CLUSTER_KEY_ALIAS].iter().filter_map(|key| labels.get(key)).any(|value| **value != *cluster.as_str())
}

/// The object is named only where something is wrong with it: there are many.
fn spoofed(cluster: &ClusterId, labels: &Labels, object: impl Fn() -> String, issues: &mut Vec<Issue>) {
    for key in [CLUSTER_KEY, CLUSTER_KEY_ALIAS] {
        if let Some(value) = labels.get(key)
            && **value != *cluster.as_str()
        {
            issues.push(Issue {
                code: IssueCode::SpoofedClusterLabel,
                level: Level::Warning,
                object: object(),
                field: format!("metadata.labels[{key}]"),
                message: format!("says {value:?}, but the join record says {cluster}; the label is ignored"),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Subjects;
    use crate::testing::{ClusterSetBuilder, abc, pod};

    #[test]
    fn an_address_that_many_claim_names_some_of_them() {
        let claims = |count: usize| {
            let pods = (0..count).map(|number| pod(&format!("b/db/pg-{number}")).ip("10.2.0.5"));
            let set = pods.fold(abc(), ClusterSetBuilder::with);
            let mut compiler = Compiler::new(set.config(), Subjects::All);
            compiler.apply(&set.events());
            of(&compiler).first().map(|issue| issue.message.clone()).expect("they contend")
        };
        let outcome = "it counts as nobody's, so selectors match neither pod by it";
        assert_eq!(claims(3), format!("10.2.0.5 is claimed by b/db/pg-1, b/db/pg-2 too; {outcome}"));
        let some = "b/db/pg-1, b/db/pg-2, b/db/pg-3, 6 more";
        assert_eq!(claims(10), format!("10.2.0.5 is claimed by {some} too; {outcome}"));
    }
}
