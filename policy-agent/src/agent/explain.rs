//! What both ends say of a connection, as far as this node decides them, and why.

use std::net::IpAddr;

use policy_common::table::IFINDEX_HOST;
use policy_core::index::PodEntry;
use policy_core::judge::{self, Origin};
use policy_core::model::{ClusterId, Connection, Direction, Pod, PodKey, Protocol, Transport};
use policy_core::node::Node;

use super::answer::{facets, identity_of};
use super::services;
use crate::api::types::{Decision, End, ExplainRequest, Explanation, Family, Finding, Party, Verdict};

/// Why a connection cannot be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// An end is neither.
    #[error("{0:?} is neither CLUSTER/NAMESPACE/POD nor an address")]
    Reference(String),
    /// The cluster is no member.
    #[error("{0} is no member of the ClusterSet; `policyctl get clusters` lists them")]
    UnknownCluster(String),
    /// There is no such pod.
    #[error("pod {0} is not known to this agent; `policyctl issues` tells of manifests that cannot be read")]
    UnknownPod(String),
    /// The pod has no address yet.
    #[error("pod {0} has no address; ask again once its status.podIPs has one, or name an address")]
    NoAddress(String),
    /// The two ends have no address of one family.
    #[error("{from} and {to} have no address of one family; ask for the other family, or name addresses of one")]
    NoCommonFamily {
        /// The source.
        from: String,
        /// The destination.
        to: String,
    },
    /// What is asked cannot be read.
    #[error("{0:?} is not PROTOCOL/PORT: tcp/5432, udp/53, sctp/9 or icmp")]
    Transport(String),
}

/// Explains a new connection.
pub fn explain(node: &Node, request: &ExplainRequest) -> Result<Explanation, ExplainError> {
    let transport = transport(&request.transport)?;
    let (from, to) = (Place::find(node, &request.from)?, Place::find(node, &request.to)?);
    let (source, destination) = common(&from, &to, request.family)
        .ok_or_else(|| ExplainError::NoCommonFamily { from: request.from.clone(), to: request.to.clone() })?;
    let connection = Connection { source, destination, transport };
    let egress = end(node, from.pod.as_ref(), source, Direction::Egress, &connection);
    let ingress = end(node, to.pod.as_ref(), destination, Direction::Ingress, &connection);
    let verdicts: Vec<Verdict> = [&egress, &ingress].into_iter().filter_map(decided).collect();
    let all_allow = verdicts.iter().all(|verdict| *verdict == Verdict::Allow);
    Ok(Explanation {
        from: party(node, from.pod.as_ref(), source),
        to: party(node, to.pod.as_ref(), destination),
        transport: written(transport),
        verdict: (!verdicts.is_empty()).then(|| Verdict::of(all_allow)),
        egress,
        ingress,
        service: services::behind(node, from.pod.as_ref(), &connection),
    })
}

fn decided(end: &End) -> Option<Verdict> {
    match end {
        End::Decided(decision) => Some(decision.verdict),
        End::Elsewhere { .. } => None,
    }
}

/// What a reference means.
struct Place {
    pod: Option<Pod>,
    addresses: Vec<IpAddr>,
}

impl Place {
    fn find(node: &Node, reference: &str) -> Result<Self, ExplainError> {
        let compiler = node.compiler();
        if let Ok(address) = reference.parse::<IpAddr>() {
            let address = address.to_canonical();
            let pod = compiler.index().owner(address).map(PodEntry::to_pod);
            return Ok(Self { pod, addresses: vec![address] });
        }
        let parts: Vec<&str> = reference.split('/').collect();
        let [cluster, namespace, name] = parts[..] else { return Err(ExplainError::Reference(reference.to_owned())) };
        let unknown = || ExplainError::UnknownCluster(cluster.to_owned());
        let cluster: ClusterId = cluster.parse().map_err(|_| unknown())?;
        compiler.index().config().member(&cluster).ok_or_else(unknown)?;
        let key = PodKey { cluster, namespace: namespace.into(), name: name.into() };
        let pod = compiler.pod(&key).ok_or_else(|| ExplainError::UnknownPod(reference.to_owned()))?.to_pod();
        if pod.addresses.is_empty() {
            return Err(ExplainError::NoAddress(reference.to_owned()));
        }
        Ok(Self { addresses: pod.addresses.clone(), pod: Some(pod) })
    }

    fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == (family == Family::IPv4))
    }
}

fn common(from: &Place, to: &Place, family: Option<Family>) -> Option<(IpAddr, IpAddr)> {
    let families = family.map_or_else(|| vec![Family::IPv4, Family::IPv6], |family| vec![family]);
    families.into_iter().find_map(|family| Some((from.address(family)?, to.address(family)?)))
}

fn transport(text: &str) -> Result<Transport, ExplainError> {
    let wrong = || ExplainError::Transport(text.to_owned());
    if text.eq_ignore_ascii_case("icmp") {
        return Ok(Transport::Icmp);
    }
    let (protocol, port) = text.split_once('/').ok_or_else(wrong)?;
    let known = |candidate: &Protocol| candidate.as_str().eq_ignore_ascii_case(protocol);
    let protocol = Protocol::ALL.into_iter().find(known).ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    Ok(Transport::Port(protocol, port))
}

fn written(transport: Transport) -> String {
    match transport {
        Transport::Port(protocol, port) => format!("{}/{port}", protocol.as_str()),
        Transport::Icmp => "ICMP".to_owned(),
        Transport::Other(number) => format!("protocol {number}"),
    }
}

fn party(node: &Node, pod: Option<&Pod>, address: IpAddr) -> Party {
    let identity = identity_of(node.compiler(), address);
    Party {
        pod: pod.map(|pod| pod.key.to_string()),
        address,
        identity: identity.0,
        facets: facets(node.compiler(), identity),
    }
}

/// The verdict of an end, if it is decided here.
pub(super) fn verdict(
    node: &Node,
    pod: Option<&Pod>,
    direction: Direction,
    connection: &Connection,
) -> Option<Verdict> {
    judge(node, pod?, direction, connection).map(|end| Verdict::of(end.allow))
}

fn is_host(node: &Node, address: IpAddr) -> bool {
    node.tables().local.get(&address).is_some_and(|it| it.ifindex == IFINDEX_HOST)
}

fn judge(node: &Node, pod: &Pod, direction: Direction, connection: &Connection) -> Option<judge::End> {
    let origin = match direction {
        Direction::Ingress if is_host(node, connection.source) => Origin::OwnNode,
        Direction::Ingress | Direction::Egress => Origin::Network,
    };
    node.judge(&pod.key, direction, connection, origin)
}

fn end(node: &Node, pod: Option<&Pod>, address: IpAddr, direction: Direction, connection: &Connection) -> End {
    let Some(pod) = pod else {
        let decided = if is_host(node, address) {
            "it is an address of this node, and nodes are never isolated"
        } else {
            "it is no workload of the ClusterSet, so nothing isolates it"
        };
        return End::Elsewhere { decided: decided.to_owned() };
    };
    match judge(node, pod, direction, connection) {
        Some(end) => End::Decided(Box::new(decision(node, pod, direction, connection, &end))),
        None => End::Elsewhere { decided: elsewhere(node, pod) },
    }
}

/// Who decides a pod's end that is not decided here.
fn elsewhere(node: &Node, pod: &Pod) -> String {
    let compiler = node.compiler();
    if !pod.is_workload() {
        return "it is no workload (host network, finished, or without an address), so nothing isolates it".to_owned();
    }
    if compiler.subjects().contains_key(&pod.key) {
        return "its interface on this node has not been found, so nothing is enforced for it yet".to_owned();
    }
    match (&pod.node, compiler.index().is_local(&pod.key.cluster)) {
        (Some(other), true) => format!("on node {other} of this cluster; ask the agent there"),
        (Some(other), false) => {
            format!("in {} on node {other}, by its own policies; ask the agent there", pod.key.cluster)
        }
        (None, true) => "on another node of this cluster; ask the agent there".to_owned(),
        (None, false) => format!("in {}, by its own policies; ask an agent there", pod.key.cluster),
    }
}

fn decision(node: &Node, pod: &Pod, direction: Direction, connection: &Connection, end: &judge::End) -> Decision {
    let judge::End { allow, reason, rule, isolated_by } = end;
    // Only isolation is a want of rules; other denials (a held endpoint) no rule would mend.
    let denial = (*reason == policy_common::reason::Reason::NoRule)
        .then(|| policy_core::explain::denial(node.compiler(), &pod.key, direction, connection))
        .flatten();
    let (findings, remedy) =
        denial.map_or((Vec::new(), None), |denial| (denial.findings, Some(denial.remedy.to_string())));
    let finding = |finding: policy_core::explain::Finding| Finding {
        policy: finding.policy.to_string(),
        field: finding.field,
        message: finding.message,
    };
    Decision {
        verdict: Verdict::of(*allow),
        reason: reason.as_str().to_owned(),
        isolated: !isolated_by.is_empty(),
        policy: rule.as_ref().map(|rule| rule.policy.to_string()),
        rule: rule.as_ref().map(policy_core::compile::RulePlace::rule),
        isolated_by: isolated_by.iter().map(ToString::to_string).collect(),
        findings: findings.into_iter().map(finding).collect(),
        remedy,
    }
}
