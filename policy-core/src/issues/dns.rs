//! Policies that leave their pods without DNS.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use super::groups::Groups;
use crate::compile::Compiler;
use crate::index::ClusterIndex;
use crate::model::{
    Issue, IssueCode, Labels, Level, NamespaceKey, NetworkPolicy, Port, PortSelection, Protocol, Requirement, Rule,
    Selector, Text, is_cluster_key,
};

const DNS_PORT: u16 = 53;

/// Policies that isolate the egress of pods for which no policy at all allows UDP or TCP port 53.
pub fn isolated(compiler: &Compiler, issues: &mut Vec<Issue>) {
    let index = compiler.index();
    let names = OnceCell::new();
    let mut groups = Groups::new(index);
    let mut by_namespace: BTreeMap<&Text, Vec<(&NetworkPolicy, bool)>> = BTreeMap::new();
    for policy in compiler.policies() {
        if let Some(rules) = &policy.egress {
            let allows = rules.iter().any(|rule| allows_dns(rule, || names.get_or_init(|| dns_names(index))));
            by_namespace.entry(&policy.key.namespace).or_default().push((policy, allows));
        }
    }
    for (name, policies) in by_namespace {
        let namespace = NamespaceKey { cluster: index.config().local.clone(), name: name.clone() };
        let mut served = RoaringBitmap::new();
        let mut isolated = Vec::new();
        for (policy, allows) in policies {
            match subjects(&policy.subject, &namespace, index, &mut groups) {
                Subjects::Known(subjects) if allows => served |= subjects,
                Subjects::Known(subjects) | Subjects::Unknown(subjects) => isolated.push((policy, subjects)),
            }
        }
        issues.extend(isolated.iter().filter(|(_, subjects)| !subjects.is_subset(&served)).map(|(it, _)| warning(it)));
    }
}

fn warning(policy: &NetworkPolicy) -> Issue {
    Issue {
        code: IssueCode::DnsIsolated,
        level: Level::Warning,
        object: policy.key.to_string(),
        field: "spec.egress".to_owned(),
        message: "isolates egress of pods for which no policy allows UDP or TCP port 53, so they cannot ask for names; if they are to, allow it: egress: [{ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]}]".to_owned(),
    }
}

/// Whether a rule allows UDP or TCP port 53 to anybody.
fn allows_dns<'n>(rule: &Rule, names: impl Fn() -> &'n BTreeSet<(Protocol, Text)>) -> bool {
    let Rule::Allow(allowance) = rule else { return false };
    let covers = |port: &Port| match &port.selection {
        _ if !matches!(port.protocol, Protocol::Udp | Protocol::Tcp) => false,
        PortSelection::All => true,
        PortSelection::Range(first, last) => (*first..=*last).contains(&DNS_PORT),
        PortSelection::Named(name) => names().contains(&(port.protocol, name.clone())),
    };
    allowance.ports.as_ref().is_none_or(|ports| ports.iter().any(covers))
}

/// The names by which pods declare port 53.
fn dns_names(index: &ClusterIndex) -> BTreeSet<(Protocol, Text)> {
    let mut names = BTreeSet::new();
    for ports in index.groups().map(|(_, group)| group.key.named_ports()) {
        let is_dns = |(protocol, name): &(Protocol, &Text)| ports.number(*protocol, name) == Some(DNS_PORT);
        names.extend(ports.iter().filter(is_dns).map(|(protocol, name)| (protocol, name.clone())));
    }
    names
}

/// The groups that a policy isolates.
pub enum Subjects {
    /// And its rules count.
    Known(RoaringBitmap),
    /// But its rules do not, for it asks for a cluster label that is not known.
    Unknown(RoaringBitmap),
}

/// The groups that a policy of the local cluster with this subject isolates.
pub fn subjects(
    selector: &Selector,
    namespace: &NamespaceKey,
    index: &ClusterIndex,
    groups: &mut Groups<'_>,
) -> Subjects {
    let (about_cluster, about_pods): (Vec<&Requirement>, Vec<&Requirement>) =
        selector.requirements.iter().partition(|requirement| is_cluster_key(&requirement.key));
    // Pods of one namespace have one cluster label.
    let about_cluster = Selector { requirements: about_cluster.into_iter().cloned().collect() };
    let matches = index.view_of(namespace, &Labels::new()).subject_matches(&about_cluster);
    if matches == Some(false) {
        return Subjects::Known(RoaringBitmap::new());
    }
    let subjects = groups.meeting(&groups.of_namespaces([namespace]), &about_pods);
    if matches.is_some() { Subjects::Known(subjects) } else { Subjects::Unknown(subjects) }
}
