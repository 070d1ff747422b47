//! What the local API says, version 1: shared by the agent that answers and `policyctl` that asks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use policy_core::model::Issue;
use serde::{Deserialize, Serialize};

use super::services::{Behind, Service};

/// A question, and by its variant where it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// [`Status`].
    Status,
    /// A list of [`Endpoint`].
    Endpoints,
    /// A list of [`Identity`].
    Identities,
    /// A list of [`Policy`].
    Policies,
    /// A list of [`Cluster`].
    Clusters,
    /// A list of [`Service`].
    Services,
    /// A list of [`Issue`].
    Issues,
    /// [`Explanation`].
    Explain(ExplainRequest),
}

/// What [`Request::Explain`] is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExplainRequest {
    /// CLUSTER/NAMESPACE/POD, or an address.
    pub from: String,
    /// CLUSTER/NAMESPACE/POD, or an address.
    pub to: String,
    /// `tcp/5432`, `udp/53`, `sctp/9`, `icmp`.
    pub transport: String,
    /// The address family; absent: IPv4 where both ends have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
}

/// An answer; its kind follows from the request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Endpoints`].
    Endpoints(Vec<Endpoint>),
    /// To [`Request::Identities`].
    Identities(Vec<Identity>),
    /// To [`Request::Policies`].
    Policies(Vec<Policy>),
    /// To [`Request::Clusters`].
    Clusters(Vec<Cluster>),
    /// To [`Request::Services`].
    Services(Vec<Service>),
    /// To [`Request::Issues`].
    Issues(Vec<Issue>),
    /// To [`Request::Explain`].
    Explanation(Box<Explanation>),
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For a person.
    pub error: String,
}

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Its node.
    pub node: String,
    /// The cluster whose policies it enforces.
    pub cluster: String,
    /// The ClusterSet file.
    pub cluster_set: String,
    /// Whether it enforces already.
    pub phase: Phase,
    /// How long it has run.
    pub uptime_s: u64,
    /// The scope of peers that name no cluster.
    pub default_peer_scope: String,
    /// Where the cluster label exists.
    pub cluster_labels: String,
    /// The commit in force in the kernel.
    pub commit: u64,
    /// When the last commit was made, in seconds before now; absent: none since the agent began.
    pub committed_ago_s: Option<u64>,
    /// Pods of this node that policies can isolate.
    pub endpoints: usize,
    /// Those of them whose interface is not found.
    pub endpoints_without_interface: usize,
    /// Policies of the local cluster.
    pub policies: usize,
    /// Identities in use.
    pub identities: usize,
    /// Members of the ClusterSet.
    pub clusters: usize,
    /// Those of them that have told all they have.
    pub clusters_synced: usize,
    /// Issues by level.
    pub issues: IssueCounts,
    /// The kernel's tables.
    pub tables: Vec<TableUse>,
}

/// Where the agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It waits for the clusters; the kernel goes on enforcing what it held before.
    Starting,
    /// It keeps the kernel's tables up to date.
    Enforcing,
}

/// How many issues there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueCounts {
    /// Errors.
    pub errors: usize,
    /// Warnings.
    pub warnings: usize,
}

/// How full a table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableUse {
    /// Its name.
    pub table: String,
    /// Its elements.
    pub entries: usize,
    /// The most it can have; absent: no limit.
    pub limit: Option<usize>,
}

/// A value for each direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByDirection<T> {
    /// Connections that the pod opens.
    pub egress: T,
    /// Connections that it accepts.
    pub ingress: T,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The pod.
    pub pod: String,
    /// Its number in the tables.
    pub id: Option<u32>,
    /// Its host-side interface.
    pub interface: Option<String>,
    /// That interface's number.
    pub ifindex: Option<u32>,
    /// The bridge that the interface is a port of.
    pub bridge: Option<u32>,
    /// Whether packets are judged.
    pub state: EndpointState,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether a policy isolates it.
    pub isolated: ByDirection<bool>,
    /// Who isolates it.
    pub policies: ByDirection<Vec<String>>,
    /// Its packets since it became an endpoint.
    pub packets: Packets,
}

/// Whether an endpoint's packets are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// The programs judge its packets.
    Enforced,
    /// No interface was found for its addresses: its packets are not judged.
    NoInterface,
    /// Its interface is known, but the programs are not attached yet: its packets are not judged.
    NotAttached,
    /// Nothing passes before a commit succeeds, but for what always does.
    Held,
}

/// Packets of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Packets {
    /// Those that passed.
    pub allowed: u64,
    /// Those that were dropped.
    pub denied: u64,
    /// By direction as the pod sees it (`egress`: packets that leave it) and reason.
    pub reasons: ByDirection<BTreeMap<String, u64>>,
}

/// An identity: addresses that live rules cannot tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its number, on this node, in this life of the agent.
    pub id: u32,
    /// How many exact addresses have it.
    pub addresses: usize,
    /// The prefixes that have it.
    pub prefixes: Vec<String>,
    /// The questions of live rules that its addresses answer with yes.
    pub facets: Vec<String>,
}

/// A NetworkPolicy of the local cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// As `cluster-a/NetworkPolicy/shop/web`.
    pub name: String,
    /// Its rules, in the directions that it isolates.
    pub rules: ByDirection<Option<usize>>,
    /// The scope of its peers that name no cluster.
    pub peer_scope: String,
    /// The pods of this node that it isolates.
    pub subjects: Vec<String>,
    /// Whom its rules admit; absent in directions that it does not isolate, and where it isolates no pod of this node.
    pub peers: ByDirection<Option<Admitted>>,
    /// Its issues.
    pub issues: usize,
}

/// Whom the rules of one direction admit, ports aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Admitted {
    /// Whether some rule admits everybody.
    pub everybody: bool,
    /// Pods that selectors match, by cluster.
    pub pods: BTreeMap<String, usize>,
    /// Address blocks.
    pub blocks: usize,
}

/// A member of the ClusterSet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its id.
    pub id: String,
    /// Whether it is the one whose policies this node enforces.
    pub local: bool,
    /// What is known of it.
    pub state: SyncState,
    /// How many seconds ago all that is known of it was last known to be so; `None` for a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
    /// Why it cannot be followed now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its ranges.
    pub pod_cidrs: Vec<String>,
    /// Its namespaces.
    pub namespaces: usize,
    /// Its pods.
    pub pods: usize,
    /// Addresses of its pods that count for nobody: outside its ranges.
    pub addresses_rejected: usize,
}

/// What is known of a member, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncState {
    /// It has told all it has.
    Synced,
    /// It has not told all it has yet.
    Waiting,
    /// It had, but cannot be reached now: its last known state counts.
    Lost,
    /// It has not told anything since the agent began, but the agent before it: what that one kept counts.
    Restored,
    /// It was not heard for as long as its `staleAfter`: what is that old counts no more.
    Stale,
}

/// What both ends say of a new connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Who opens it.
    pub from: Party,
    /// Who is asked.
    pub to: Party,
    /// What is asked, as `TCP/5432`.
    pub transport: String,
    /// The verdict of the ends that this node decides; absent: it decides neither.
    pub verdict: Option<Verdict>,
    /// The source's end.
    pub egress: End,
    /// The destination's end.
    pub ingress: End,
    /// Where the packets are sent, if the destination is an address of a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Behind>,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Party {
    /// The pod that has the address.
    pub pod: Option<String>,
    /// The address.
    pub address: IpAddr,
    /// Its identity on this node; 0: nobody, the world.
    pub identity: u32,
    /// The questions of live rules that it answers with yes.
    pub facets: Vec<String>,
}

/// Whether a connection may come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

impl Verdict {
    /// The verdict that allows or not.
    pub fn of(allow: bool) -> Self {
        if allow { Self::Allow } else { Self::Deny }
    }

    /// As JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// What one end says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum End {
    /// It is decided here.
    Decided(Box<Decision>),
    /// It is not.
    Elsewhere {
        /// Where it is decided, for a person.
        decided: String,
    },
}

/// The verdict of an end that is decided here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, as counters name it.
    pub reason: String,
    /// Whether a policy isolates the pod in this direction.
    pub isolated: bool,
    /// The policy whose rule decided.
    pub policy: Option<String>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// The policies that isolate the pod in this direction.
    pub isolated_by: Vec<String>,
    /// Of a denial for want of a rule: what keeps each rule from allowing it.
    pub findings: Vec<Finding>,
    /// What would have to change.
    pub remedy: Option<String>,
}

/// What keeps one part of a policy from allowing a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The policy.
    pub policy: String,
    /// The part of it.
    pub field: String,
    /// What keeps it.
    pub message: String,
}
