//! The endpoints of this node and the policies that isolate them.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use super::PolicyId;
use super::content::Content;
use crate::index::{ClusterIndex, NamedPorts};
use crate::model::{
    ClusterConfig, Direction, Namespace, NamespaceKey, NetworkPolicy, PodKey, PolicyKey, Scope, ScopeAnnotation, Text,
};
use crate::shelves::take_from;

/// Which pods of the local cluster are endpoints here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subjects {
    /// Those bound to this node.
    OnNode(Text),
    /// All: one node that is the whole cluster, as simulations have it.
    All,
    /// No pod: nothing is compiled, and what is known of objects, and what is wrong with them, can be asked.
    Nobody,
}

/// The policies of one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectPolicies {
    /// The flattened policy of each direction; `None`: not isolated. Egress first.
    pub policies: [Option<PolicyId>; 2],
    /// Who isolates it, by direction.
    pub isolated_by: [Vec<PolicyKey>; 2],
}

impl SubjectPolicies {
    /// The flattened policy of a direction.
    pub fn policy(&self, direction: Direction) -> Option<PolicyId> {
        self.policies[direction as usize]
    }

    /// Who isolates a direction.
    pub fn isolated_by(&self, direction: Direction) -> &[PolicyKey] {
        &self.isolated_by[direction as usize]
    }
}

/// What a subject should live under, before it has numbers.
#[derive(Debug)]
pub struct Wanted {
    contents: [Option<Content>; 2],
    isolated_by: [Vec<PolicyKey>; 2],
}

impl Wanted {
    /// Gives each content its number.
    pub fn number(self, mut number: impl FnMut(Content) -> PolicyId) -> SubjectPolicies {
        let policies = self.contents.map(|content| content.map(&mut number));
        SubjectPolicies { policies, isolated_by: self.isolated_by }
    }
}

/// All subjects.
#[derive(Debug)]
pub struct SubjectTable {
    which: Subjects,
    subjects: BTreeMap<PodKey, SubjectPolicies>,
    by_namespace: HashMap<Text, BTreeSet<PodKey>>,
}

impl SubjectTable {
    /// No subject yet.
    pub fn new(which: Subjects) -> Self {
        Self { which, subjects: BTreeMap::new(), by_namespace: HashMap::new() }
    }

    /// All subjects, by name.
    pub fn all(&self) -> &BTreeMap<PodKey, SubjectPolicies> {
        &self.subjects
    }

    /// The subjects of a namespace of the local cluster.
    pub fn of_namespace(&self, namespace: &Text) -> impl Iterator<Item = &PodKey> {
        self.by_namespace.get(namespace).into_iter().flatten()
    }

    /// What a pod should live under; `None`: it is no subject here.
    pub fn wanted<'a, P: Iterator<Item = &'a NetworkPolicy>>(
        &self,
        key: &PodKey,
        index: &ClusterIndex,
        policies: impl Fn(&NamespaceKey) -> P,
    ) -> Option<Wanted> {
        let pod = index.pod(key)?;
        let here = match &self.which {
            Subjects::All => true,
            Subjects::OnNode(node) => pod.node() == Some(node),
            Subjects::Nobody => false,
        };
        if !here || !index.is_local(&key.cluster) || !pod.is_workload() {
            return None;
        }
        let namespace = key.namespace_key();
        let view = index.view_of(&namespace, pod.labels());
        let own_ports = NamedPorts::of(pod.ports());
        let selecting: Vec<_> = policies(&namespace)
            .map(|policy| (policy, view.subject_matches(&policy.subject)))
            .filter(|(_, matches)| *matches != Some(false))
            .collect();
        let isolating =
            |direction: Direction| selecting.iter().filter(move |(policy, _)| policy.rules(direction).is_some());
        let isolated_by = Direction::BOTH
            .map(|direction| isolating(direction).map(|(policy, _)| policy.key.clone()).collect::<Vec<_>>());
        let contents = Direction::BOTH.map(|direction| {
            isolating(direction).next()?;
            let mut content = Content::default();
            // A subject that depends on a label which is not known is isolated, and the policy allows it nothing.
            for (policy, _) in isolating(direction).filter(|(_, matches)| *matches == Some(true)) {
                let scope = scope(policy, index.namespace(&namespace), index.config());
                content.add_policy(policy, direction, scope, own_ports);
            }
            Some(content)
        });
        Some(Wanted { contents, isolated_by })
    }

    /// Puts a subject's policies in place; returns whether that changed anything, and the policies it had before.
    pub fn replace(&mut self, key: &PodKey, wanted: Option<&SubjectPolicies>) -> (bool, Vec<PolicyId>) {
        let before = match wanted {
            Some(policies) => {
                self.by_namespace.entry(key.namespace.clone()).or_default().insert(key.clone());
                self.subjects.insert(key.clone(), policies.clone())
            }
            None => {
                take_from(&mut self.by_namespace, &key.namespace, key);
                self.subjects.remove(key)
            }
        };
        let changed = before.as_ref() != wanted;
        (changed, before.into_iter().flat_map(|before| before.policies).flatten().collect())
    }
}

/// The scope of a policy's unqualified peers, for rules that allow (docs/semantics.md §2.3).
pub fn scope(policy: &NetworkPolicy, namespace: Option<&Namespace>, config: &ClusterConfig) -> Scope {
    let inherited = || namespace.and_then(|namespace| namespace.peer_scope.as_ref());
    match policy.peer_scope.as_ref().or_else(inherited) {
        Some(ScopeAnnotation::Known(scope)) => *scope,
        Some(ScopeAnnotation::Unknown(_)) => Scope::Local,
        None => config.default_scope,
    }
}
