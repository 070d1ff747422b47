//! Peers that hardly mean what they say: they name clusters that do not exist, or are one peer written as two.

use crate::compile::Compiler;
use crate::model::{
    Allowance, Direction, Issue, IssueCode, Level, NetworkPolicy, Operator, Peer, Rule, Selector, is_cluster_key,
};

/// A rule that allows, and where it stands.
pub struct Place<'a> {
    /// Its policy.
    pub policy: &'a NetworkPolicy,
    /// The direction.
    pub direction: Direction,
    /// The item of `spec.ingress` or `spec.egress`.
    pub item: usize,
    /// What it allows.
    pub allowance: &'a Allowance,
}

/// The rules of a policy that can be read.
pub fn rules(policy: &NetworkPolicy) -> impl Iterator<Item = Place<'_>> {
    Direction::BOTH.into_iter().flat_map(move |direction| {
        let rules = policy.rules(direction).unwrap_or_default().iter().enumerate();
        rules.filter_map(move |(item, rule)| match rule {
            Rule::Unreadable => None,
            Rule::Allow(allowance) => Some(Place { policy, direction, item, allowance }),
        })
    })
}

impl<'a> Place<'a> {
    /// The peers.
    pub fn peers(&self) -> &'a [Peer] {
        self.allowance.peers.as_deref().unwrap_or_default()
    }

    /// A peer's path.
    pub fn peer_path(&self, at: usize) -> String {
        let list = self.direction.peers_field();
        format!("spec.{}[{}].{list}[{at}]", self.direction.as_str(), self.item)
    }

    /// A warning about this rule.
    pub fn warning(&self, code: IssueCode, field: String, message: String) -> Issue {
        Issue { code, level: Level::Warning, object: self.policy.key.to_string(), field, message }
    }
}

/// Peers that name a cluster which is no member.
pub fn unknown_clusters(compiler: &Compiler, issues: &mut Vec<Issue>) {
    for place in compiler.policies().flat_map(rules) {
        for (at, peer) in place.peers().iter().enumerate() {
            let Peer::Pods { namespaces, pods } = peer else { continue };
            for (name, selector) in [("namespaceSelector", namespaces), ("podSelector", pods)] {
                for (id, outcome) in selector.iter().flat_map(|selector| strangers(selector, compiler)) {
                    let message = format!(
                        "no member of the ClusterSet has the id {id:?}: it {outcome}; name a member, or let the cluster join"
                    );
                    let field = format!("{}.{name}", place.peer_path(at));
                    issues.push(place.warning(IssueCode::UnknownClusterId, field, message));
                }
            }
        }
    }
}

/// The ids that a selector asks for and no member has, and what comes of each.
fn strangers<'a>(
    selector: &'a Selector,
    compiler: &'a Compiler,
) -> impl Iterator<Item = (&'a str, &'static str)> + use<'a> {
    let members = &compiler.index().config().members;
    let clusters = selector.requirements.iter().filter(|requirement| is_cluster_key(&requirement.key));
    let asked = clusters.flat_map(|requirement| {
        let (values, outcome): (&[_], _) = match &requirement.operator {
            Operator::In(values) => (values, "matches nobody"),
            Operator::NotIn(values) => (values, "excludes nobody"),
            Operator::Exists | Operator::DoesNotExist => (&[], ""),
        };
        values.iter().map(move |value| (&**value, outcome))
    });
    asked.filter(|(id, _)| !members.iter().any(|member| member.id.as_str() == *id))
}

/// Lists in which a `namespaceSelector` and a `podSelector` stand as two peers.
pub fn split_peers(compiler: &Compiler, issues: &mut Vec<Issue>) {
    for place in compiler.policies().flat_map(rules) {
        let find = |wanted: fn(&Peer) -> bool| place.peers().iter().position(wanted);
        let namespaces = find(|peer| matches!(peer, Peer::Pods { namespaces: Some(_), pods: None }));
        // Every pod of other namespaces is what their selector means alone, so `{}` was not to be a part of it.
        let pods = find(
            |peer| matches!(peer, Peer::Pods { namespaces: None, pods: Some(pods) } if *pods != Selector::default()),
        );
        if let (Some(namespaces), Some(pods)) = (namespaces, pods) {
            let (namespaces, pods) = (place.peer_path(namespaces), place.peer_path(pods));
            let message = format!(
                "these pods of the policy's own namespace, and beside them every pod of the namespaces of {namespaces}; if these pods of those namespaces are meant, write both selectors in one item"
            );
            issues.push(place.warning(IssueCode::SplitPeer, pods, message));
        }
    }
}
