//! Answers to what the local API and the metrics ask.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use policy_common::reason::Reason;
use policy_common::table::{Counter, EndpointCounters};
use policy_core::compile::{Compiler, Identity, facet_of, scope};
use policy_core::facet::FacetId;
use policy_core::model::{ClusterConfig, Direction, Issue, NetworkPolicy, Peer, PodKey, PolicyKey, Rule, Scope};
use policy_core::plan::Table;
use tokio::time::Instant;

use super::control::Control;
use super::explain;
use super::problems::count;
use super::seams::{Datapath, Discovery};
use super::services;
use crate::api::types::{
    Admitted, Answer, ByDirection, Cluster, Endpoint, EndpointState, Identity as IdentityView, Packets, Policy,
    Refusal, Request, Status, TableUse,
};
use crate::metrics::{Scrape, Snapshot, Told};

impl<D: Datapath, N: Discovery> Control<D, N> {
    /// The answer to a question.
    pub(super) fn answer(&mut self, request: &Request) -> Result<Answer, Refusal> {
        Ok(match request {
            Request::Status => Answer::Status(Box::new(self.status())),
            Request::Endpoints => Answer::Endpoints(self.endpoints()),
            Request::Identities => Answer::Identities(identities(self.node.compiler())),
            Request::Policies => {
                let issues = self.issues();
                Answer::Policies(policies(self.node.compiler(), &issues))
            }
            Request::Clusters => Answer::Clusters(self.clusters()),
            Request::Services => Answer::Services(services::services(self.node.compiler())),
            Request::Issues => Answer::Issues(self.issues()),
            Request::Explain(question) => {
                let explanation = explain::explain(&self.node, question);
                Answer::Explanation(Box::new(explanation.map_err(|error| Refusal { error: error.to_string() })?))
            }
        })
    }

    /// Hands out what a scrape asks for; whoever asked may have gone.
    pub(super) fn scrape(&mut self, scrape: Scrape) {
        match scrape {
            Scrape::Phase(answer) => drop(answer.send(self.phase)),
            Scrape::Everything(answer) => drop(answer.send(Told::Agent(Box::new(self.snapshot())))),
        }
    }

    fn issues(&mut self) -> Vec<Issue> {
        self.problems.all(self.node.compiler(), Instant::now())
    }

    fn config(&self) -> &ClusterConfig {
        self.node.compiler().index().config()
    }

    fn status(&mut self) -> Status {
        let issues = count(&self.issues());
        let compiler = self.node.compiler();
        let config = self.config();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.settings.node.to_string(),
            cluster: config.local.to_string(),
            cluster_set: self.settings.cluster_set.clone(),
            phase: self.phase,
            uptime_s: self.started_at.elapsed().as_secs(),
            default_peer_scope: format!("{:?}", config.default_scope),
            cluster_labels: format!("{:?}", config.cluster_labels),
            commit: self.node.tables().commit,
            committed_ago_s: self.committed_ago().map(|ago| ago.as_secs()),
            endpoints: compiler.subjects().len(),
            endpoints_without_interface: self.node.detached().count(),
            policies: compiler.policies().count(),
            identities: compiler.identity_count(),
            clusters: config.members.len(),
            clusters_synced: self.members.synced(),
            issues,
            tables: self.tables(),
        }
    }

    fn tables(&self) -> Vec<TableUse> {
        let limits = self.datapath.limits();
        let table_use = |table: Table| TableUse {
            table: table.as_str().to_owned(),
            entries: self.node.tables().len(table),
            limit: limits.most.get(&table).copied(),
        };
        Table::ALL.into_iter().map(table_use).collect()
    }

    fn endpoints(&mut self) -> Vec<Endpoint> {
        let compiler = self.node.compiler();
        let mut endpoints = Vec::new();
        for (key, subject) in compiler.subjects() {
            let Some(pod) = compiler.pod(key) else { continue };
            let attached = self.node.endpoints().get(key);
            let ifindex = attached.map(|endpoint| endpoint.attachment.ifindex);
            let counters = attached.and_then(|endpoint| self.datapath.counters(endpoint.counters).ok());
            let linked = ifindex.is_some_and(|ifindex| self.linked.contains(&ifindex));
            let held = ifindex.is_none_or(|ifindex| self.node.tables().is_held(ifindex));
            endpoints.push(Endpoint {
                pod: key.to_string(),
                id: attached.map(|endpoint| endpoint.id.0),
                interface: ifindex.and_then(|ifindex| self.names.get(&ifindex).cloned()),
                ifindex,
                bridge: attached.and_then(|endpoint| endpoint.attachment.bridge),
                state: match (ifindex, linked, held) {
                    (None, _, _) => EndpointState::NoInterface,
                    (Some(_), false, _) => EndpointState::NotAttached,
                    (Some(_), true, true) => EndpointState::Held,
                    (Some(_), true, false) => EndpointState::Enforced,
                },
                addresses: pod.addresses().into_vec(),
                isolated: by_direction(|direction| subject.policy(direction).is_some()),
                policies: by_direction(|direction| names(subject.isolated_by(direction))),
                packets: counters.map(|counters| packets(&counters)).unwrap_or_default(),
            });
        }
        endpoints
    }

    fn clusters(&self) -> Vec<Cluster> {
        let index = self.node.compiler().index();
        let config = self.config();
        let mut clusters: BTreeMap<&str, Cluster> = BTreeMap::new();
        for member in &config.members {
            let cluster = Cluster {
                id: member.id.to_string(),
                local: member.id == config.local,
                state: self.members.state(&member.id),
                age_s: self.members.age(&member.id).map(|age| age.as_secs()),
                error: self.problems.unusable(&member.id),
                pod_cidrs: member.pod_cidrs.iter().map(ToString::to_string).collect(),
                namespaces: 0,
                pods: 0,
                addresses_rejected: 0,
            };
            clusters.insert(member.id.as_str(), cluster);
        }
        let mut count = |id: &str, counted: fn(&mut Cluster) -> &mut usize| {
            if let Some(cluster) = clusters.get_mut(id) {
                *counted(cluster) += 1;
            }
        };
        for namespace in index.namespaces() {
            count(namespace.key.cluster.as_str(), |cluster| &mut cluster.namespaces);
        }
        for entry in index.pods() {
            count(entry.cluster().as_str(), |cluster| &mut cluster.pods);
        }
        for (_, pod) in index.outside() {
            count(pod.cluster.as_str(), |cluster| &mut cluster.addresses_rejected);
        }
        clusters.into_values().collect()
    }

    fn snapshot(&mut self) -> Snapshot {
        let issues = self.issues();
        let endpoints = self.node.endpoints().iter();
        let counted =
            endpoints.map(|(key, endpoint)| (key.to_string(), self.datapath.counters(endpoint.counters).ok()));
        Snapshot {
            endpoints: counted.collect(),
            phase: self.phase,
            commit: self.node.tables().commit,
            commits: self.commits,
            latency: self.latency.clone(),
            endpoints_without_interface: self.node.detached().count(),
            identities: self.node.compiler().identity_count(),
            policies: self.node.compiler().policies().count(),
            clusters: self.clusters().into_iter().map(|cluster| (cluster.id, cluster.state, cluster.pods)).collect(),
            issues,
            tables: self.tables(),
            flows_swept: self.flows_swept,
        }
    }
}

fn by_direction<T>(value: impl Fn(Direction) -> T) -> ByDirection<T> {
    ByDirection { egress: value(Direction::Egress), ingress: value(Direction::Ingress) }
}

fn names(policies: &[PolicyKey]) -> Vec<String> {
    policies.iter().map(ToString::to_string).collect()
}

/// Whether a packet that was counted under a reason passed.
fn passed(reason: Reason) -> bool {
    match reason {
        Reason::Rule
        | Reason::NotIsolated
        | Reason::SelfTraffic
        | Reason::Node
        | Reason::Established
        | Reason::Related
        | Reason::Neighbour => true,
        Reason::NoRule
        | Reason::DenyRule
        | Reason::SpoofedSource
        | Reason::MartianSource
        | Reason::Unparsable
        | Reason::Fragment
        | Reason::Hold
        | Reason::UnknownEndpoint
        | Reason::TableRace => false,
    }
}

fn packets(counters: &EndpointCounters) -> Packets {
    let mut packets = Packets::default();
    let mut count = |counted: &[Counter]| {
        let mut reasons = BTreeMap::new();
        for reason in Reason::ALL {
            let seen = counted[reason as usize].packets;
            *if passed(reason) { &mut packets.allowed } else { &mut packets.denied } += seen;
            if seen > 0 {
                reasons.insert(reason.as_str().to_owned(), seen);
            }
        }
        reasons
    };
    packets.reasons = ByDirection { egress: count(&counters.from_pod), ingress: count(&counters.to_pod) };
    packets
}

/// The facets of an identity, readable.
pub(super) fn facets(compiler: &Compiler, identity: Identity) -> Vec<String> {
    let facet = |id: &FacetId| compiler.facets().facet(*id).map(ToString::to_string);
    compiler.signature(identity).unwrap_or_default().iter().filter_map(facet).collect()
}

fn identities(compiler: &Compiler) -> Vec<IdentityView> {
    let mut found: BTreeMap<Identity, IdentityView> = BTreeMap::new();
    let mut view = |identity: Identity, count: &dyn Fn(&mut IdentityView)| {
        count(found.entry(identity).or_insert_with(|| IdentityView {
            id: identity.0,
            addresses: 0,
            prefixes: Vec::new(),
            facets: facets(compiler, identity),
        }));
    };
    for (_, identity) in compiler.addresses() {
        view(identity, &|view| view.addresses += 1);
    }
    for (prefix, identity) in compiler.prefixes() {
        view(*identity, &|view| view.prefixes.push(prefix.to_string()));
    }
    found.remove(&Identity::WORLD);
    found.into_values().collect()
}

fn policies(compiler: &Compiler, issues: &[Issue]) -> Vec<Policy> {
    let mut subjects: BTreeMap<&PolicyKey, ByDirection<Vec<&PodKey>>> = BTreeMap::new();
    for (pod, policies) in compiler.subjects() {
        for key in policies.isolated_by(Direction::Egress) {
            subjects.entry(key).or_default().egress.push(pod);
        }
        for key in policies.isolated_by(Direction::Ingress) {
            subjects.entry(key).or_default().ingress.push(pod);
        }
    }
    let mut issues_of: HashMap<&str, usize> = HashMap::new();
    for issue in issues {
        *issues_of.entry(&issue.object).or_default() += 1;
    }
    let view = |policy: &NetworkPolicy| {
        let name = policy.key.to_string();
        let isolated = subjects.get(&policy.key).cloned().unwrap_or_default();
        let namespace = compiler.index().namespace(&policy.key.namespace_key());
        let scope = scope(policy, namespace, compiler.index().config());
        let peers =
            |direction, here: &[&PodKey]| (!here.is_empty()).then(|| admitted(compiler, policy, direction, scope));
        let mut pods: Vec<String> = isolated.egress.iter().chain(&isolated.ingress).map(ToString::to_string).collect();
        pods.sort();
        pods.dedup();
        Policy {
            issues: issues_of.get(&*name).copied().unwrap_or_default(),
            name,
            rules: by_direction(|direction| policy.rules(direction).map(<[Rule]>::len)),
            peer_scope: format!("{scope:?}"),
            subjects: pods,
            peers: ByDirection {
                egress: peers(Direction::Egress, &isolated.egress),
                ingress: peers(Direction::Ingress, &isolated.ingress),
            },
        }
    };
    compiler.policies().map(view).collect()
}

/// Whom the rules of a live policy admit.
fn admitted(compiler: &Compiler, policy: &NetworkPolicy, direction: Direction, scope: Scope) -> Admitted {
    let mut admitted = Admitted::default();
    let mut groups = None;
    for rule in policy.rules(direction).unwrap_or_default() {
        let Rule::Allow(allowance) = rule else { continue };
        let Some(peers) = &allowance.peers else {
            admitted.everybody = true;
            continue;
        };
        for peer in peers {
            match peer {
                Peer::Block(_) => admitted.blocks += 1,
                Peer::Pods { .. } => {
                    let facet = facet_of(peer, &policy.key.namespace, scope);
                    if let Some(matching) = compiler.facets().groups_of(&facet) {
                        match &mut groups {
                            None => groups = Some(matching),
                            Some(groups) => *groups |= matching,
                        }
                    }
                }
            }
        }
    }
    for group in groups.into_iter().flatten().filter_map(|id| compiler.index().group(policy_core::index::GroupId(id))) {
        *admitted.pods.entry(group.key.namespace.cluster.to_string()).or_default() += group.pods.len();
    }
    admitted
}

/// The identity of any address: its own, or that of the prefix around it.
pub(super) fn identity_of(compiler: &Compiler, address: IpAddr) -> Identity {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let covering = || {
        let prefixes = (0..=longest).rev().filter_map(|length| policy_core::compile::prefix_of(address, length));
        prefixes.into_iter().find_map(|prefix| compiler.prefixes().get(&prefix).copied())
    };
    compiler.address(address).or_else(covering).unwrap_or(Identity::WORLD)
}
