//! The probes of a matrix: every pod to every pod, over the ports that the asked one declares.

use std::collections::BTreeSet;

use policy_core::index::PodEntry;
use policy_core::model::Pod;
use policy_core::simulate::Simulation;

use super::probe::Fields;

/// All probes between workloads that have an address family in common, sorted by from, to, protocol and port.
pub fn probes(simulation: &Simulation) -> serde_json::Result<Vec<Fields>> {
    let mut pods: Vec<Pod> = Vec::new();
    for (id, node) in simulation.members() {
        let own = node.compiler().index().pods().filter(|pod| pod.cluster() == id && pod.is_workload());
        pods.extend(own.map(PodEntry::to_pod));
    }
    pods.sort_by_key(|pod| pod.key.to_string());
    let mut probes = Vec::new();
    for from in &pods {
        for to in &pods {
            let Some(family) = common_family(from, to) else { continue };
            let ports: BTreeSet<(&str, u16)> =
                to.ports.iter().map(|port| (port.protocol.as_str(), port.number)).collect();
            for (protocol, port) in ports {
                let mut fields = Fields::default();
                fields.add("from", &from.key.to_string())?;
                fields.add("to", &to.key.to_string())?;
                fields.add("protocol", &protocol)?;
                fields.add("port", &port)?;
                fields.add("family", &family)?;
                probes.push(fields);
            }
        }
    }
    Ok(probes)
}

/// IPv4 where both have it.
fn common_family(from: &Pod, to: &Pod) -> Option<&'static str> {
    let both = |v4: bool| [from, to].iter().all(|pod| pod.addresses.iter().any(|address| address.is_ipv4() == v4));
    match (both(true), both(false)) {
        (true, _) => Some("IPv4"),
        (false, true) => Some("IPv6"),
        (false, false) => None,
    }
}
