//! `policyctl get`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use comfy_table::{Cell, CellAlignment};

use super::ask::AskOptions;
use super::output::{bad, counted, doubtful, good, lines, listing, right, short_policy, trimmed};
use super::services::services;
use super::status::duration;
use crate::api::services::Service;
use crate::api::types::{
    Admitted, ByDirection, Cluster, Endpoint, EndpointState, Identity, Policy, Request, SyncState,
};

const EXAMPLES: &str = "\
Examples:
  policyctl get endpoints
  policyctl get policies -o yaml
  policyctl get identities -o json | jq '.[].facets'
  policyctl get services";

/// What to list.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The pods of this node: interface, isolation, policies, packets.
    #[command(visible_alias = "endpoint")]
    Endpoints(AskOptions),
    /// Who live rules can tell apart: addresses by the peers that they match.
    #[command(visible_alias = "identity")]
    Identities(AskOptions),
    /// The NetworkPolicies of the local cluster: whom they isolate here, and whom they admit.
    #[command(visible_alias = "policy")]
    Policies(AskOptions),
    /// The members of the ClusterSet.
    #[command(visible_alias = "cluster")]
    Clusters(AskOptions),
    /// The Services of the local cluster: addresses, ports, and the pods that get their traffic.
    #[command(visible_alias = "service")]
    Services(AskOptions),
}

/// Lists it.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    match &options.what {
        What::Endpoints(ask) => ask.ask(&Request::Endpoints, |all: &Vec<Endpoint>| endpoints(all))?,
        What::Identities(ask) => ask.ask(&Request::Identities, |all: &Vec<Identity>| identities(all))?,
        What::Policies(ask) => ask.ask(&Request::Policies, |all: &Vec<Policy>| policies(all))?,
        What::Clusters(ask) => ask.ask(&Request::Clusters, |all: &Vec<Cluster>| clusters(all))?,
        What::Services(ask) => ask.ask(&Request::Services, |all: &Vec<Service>| services(all))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn endpoints(endpoints: &[Endpoint]) -> String {
    if endpoints.is_empty() {
        return "No pod of this node has an address.\n".to_owned();
    }
    let mut table =
        listing(["POD", "ID", "INTERFACE", "ADDRESSES", "STATE", "ISOLATED", "POLICIES", "ALLOWED", "DENIED"]);
    for endpoint in endpoints {
        let ByDirection { egress, ingress } = &endpoint.policies;
        let mut policies: Vec<&str> = egress.iter().chain(ingress).map(|name| short_policy(name)).collect();
        policies.sort_unstable();
        policies.dedup();
        let state = match endpoint.state {
            EndpointState::Enforced => good("enforced"),
            EndpointState::NoInterface => bad("no interface"),
            EndpointState::NotAttached => bad("not attached"),
            EndpointState::Held => doubtful("held"),
        };
        let isolated = match (endpoint.isolated.ingress, endpoint.isolated.egress) {
            (true, true) => "in, out",
            (true, false) => "in",
            (false, true) => "out",
            (false, false) => "-",
        };
        let denied = endpoint.packets.denied;
        table.add_row([
            Cell::new(&endpoint.pod),
            Cell::new(endpoint.id.map_or_else(|| "-".to_owned(), |id| id.to_string())),
            Cell::new(endpoint.interface.as_deref().unwrap_or("-")),
            Cell::new(lines(&endpoint.addresses)),
            state,
            Cell::new(isolated),
            Cell::new(lines(policies)),
            right(endpoint.packets.allowed),
            if denied > 0 { bad(denied).set_alignment(CellAlignment::Right) } else { right(denied) },
        ]);
    }
    trimmed(&table)
}

fn identities(identities: &[Identity]) -> String {
    if identities.is_empty() {
        return "No identities: no live rule names a peer that exists.\n".to_owned();
    }
    let mut table = listing(["IDENTITY", "ADDRESSES", "PREFIXES", "MATCHES"]);
    for Identity { id, addresses, prefixes, facets } in identities {
        table.add_row([right(id), right(addresses), Cell::new(lines(prefixes)), Cell::new(lines(facets))]);
    }
    trimmed(&table)
}

fn policies(policies: &[Policy]) -> String {
    if policies.is_empty() {
        return "The local cluster has no NetworkPolicies.\n".to_owned();
    }
    let mut table = listing(["POLICY", "DIRECTION", "RULES", "PEER SCOPE", "SUBJECTS HERE", "ADMITS", "ISSUES"]);
    for policy in policies {
        let directions = [
            ("ingress", policy.rules.ingress, &policy.peers.ingress),
            ("egress", policy.rules.egress, &policy.peers.egress),
        ];
        let directions: Vec<_> =
            directions.into_iter().filter_map(|(name, rules, peers)| Some((name, rules?, peers))).collect();
        let namespaces_pods =
            policy.subjects.iter().map(|pod| pod.split_once('/').map_or(pod.as_str(), |(_, pod)| pod));
        table.add_row([
            Cell::new(short_policy(&policy.name)),
            Cell::new(lines(directions.iter().map(|(name, _, _)| name))),
            Cell::new(lines(directions.iter().map(|(_, rules, _)| rules))),
            Cell::new(&policy.peer_scope),
            Cell::new(lines(namespaces_pods)),
            Cell::new(lines(directions.iter().map(|(_, _, peers)| admits(peers.as_ref())))),
            if policy.issues > 0 { bad(policy.issues) } else { Cell::new("-") },
        ]);
    }
    trimmed(&table)
}

fn admits(admitted: Option<&Admitted>) -> String {
    let Some(Admitted { everybody, pods, blocks }) = admitted else { return "-".to_owned() };
    let mut parts = Vec::new();
    if *everybody {
        parts.push("everybody".to_owned());
    }
    parts.extend(pods.iter().map(|(cluster, count)| format!("{} of {cluster}", counted(*count, "pod"))));
    if *blocks > 0 {
        parts.push(counted(*blocks, "block"));
    }
    if parts.is_empty() { "nobody".to_owned() } else { parts.join(", ") }
}

fn clusters(clusters: &[Cluster]) -> String {
    let mut table = listing(["CLUSTER", "STATE", "AGE", "PODS", "NAMESPACES", "POD CIDRS", "REJECTED ADDRESSES"]);
    for cluster in clusters {
        let state = match cluster.state {
            SyncState::Synced => good("synced"),
            SyncState::Waiting => doubtful("waiting"),
            SyncState::Lost => bad("lost: last known state"),
            SyncState::Restored => bad("restored from a snapshot"),
            SyncState::Stale => bad("stale: counts no more"),
        };
        let name = if cluster.local { format!("{} (local)", cluster.id) } else { cluster.id.clone() };
        let rejected = cluster.addresses_rejected;
        table.add_row([
            Cell::new(name),
            state,
            Cell::new(cluster.age_s.map_or("-".to_owned(), duration)).set_alignment(CellAlignment::Right),
            right(cluster.pods),
            right(cluster.namespaces),
            Cell::new(lines(&cluster.pod_cidrs)),
            if rejected > 0 { bad(rejected).set_alignment(CellAlignment::Right) } else { right(rejected) },
        ]);
    }
    let troubles = clusters.iter().filter_map(|cluster| Some((&cluster.id, cluster.error.as_ref()?)));
    let troubles: String = troubles.map(|(id, error)| format!("\n {id}: {error}\n")).collect();
    trimmed(&table) + &troubles
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::types::Packets;

    #[test]
    fn an_endpoint_shows_what_happened_to_its_packets() {
        let endpoint = Endpoint {
            pod: "a/shop/web".to_owned(),
            id: Some(4),
            interface: Some("veth1".to_owned()),
            ifindex: Some(12),
            bridge: None,
            state: EndpointState::Enforced,
            addresses: vec!["10.1.0.1".parse().expect("an address"), "fd00:1::1".parse().expect("an address")],
            isolated: ByDirection { egress: false, ingress: true },
            policies: ByDirection { egress: vec![], ingress: vec!["a/NetworkPolicy/shop/web".to_owned()] },
            packets: Packets { allowed: 10, denied: 3, reasons: ByDirection::default() },
        };
        let text = format!("\n{}", endpoints(&[endpoint]));
        let expected = "
 POD          ID   INTERFACE   ADDRESSES   STATE      ISOLATED   POLICIES   ALLOWED   DENIED
─────────────────────────────────────────────────────────────────────────────────────────────
 a/shop/web   4    veth1       10.1.0.1    enforced   in         shop/web        10        3
                               fd00:1::1
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_policy_says_whom_it_admits_by_cluster() {
        let admitted = |everybody, pods: &[(&str, usize)], blocks| Admitted {
            everybody,
            pods: pods.iter().map(|(cluster, count)| ((*cluster).to_owned(), *count)).collect::<BTreeMap<_, _>>(),
            blocks,
        };
        let cases = [
            (None, "-"),
            (Some(admitted(false, &[], 0)), "nobody"),
            (Some(admitted(true, &[("b", 1)], 2)), "everybody, 1 pod of b, 2 blocks"),
        ];
        for (case, expected) in cases {
            assert_eq!(admits(case.as_ref()), expected);
        }
    }
}
