//! What is said of Services: who answers for them, and what that means for a connection to one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use policy_core::compile::Compiler;
use policy_core::index::{PodEntry, ServiceEntry};
use policy_core::model::{Connection, Direction, Pod, Transport};
use policy_core::node::Node;

use super::explain::verdict;
use crate::api::services::{Backend, Behind, Service, ServicePort, Target};
use crate::api::types::ByDirection;

/// The Services of the local cluster, by name.
pub(super) fn services(compiler: &Compiler) -> Vec<Service> {
    let mut services: Vec<Service> = compiler.index().services().iter().map(|entry| service(compiler, entry)).collect();
    services.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    services
}

fn service(compiler: &Compiler, entry: ServiceEntry<'_>) -> Service {
    let mut pods: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    let mut others = Vec::new();
    for address in entry.backends() {
        match pod_at(compiler, address) {
            Some(pod) => pods.entry(pod).or_default().push(address),
            None => others.push(Backend { pod: None, addresses: vec![address] }),
        }
    }
    let pods = pods.into_iter().map(|(pod, addresses)| Backend { pod: Some(pod), addresses });
    Service {
        name: name(compiler, entry),
        addresses: entry.addresses().to_vec(),
        ports: entry.ports().iter().map(port).collect(),
        backends: pods.chain(others).collect(),
    }
}

fn name(compiler: &Compiler, entry: ServiceEntry<'_>) -> String {
    format!("{}/{}/{}", compiler.index().config().local, entry.namespace(), entry.name())
}

fn pod_at(compiler: &Compiler, address: IpAddr) -> Option<String> {
    compiler.index().owner(address).map(|pod| pod.key().to_string())
}

fn port(port: &policy_core::model::ServicePort) -> ServicePort {
    ServicePort {
        name: port.name.as_deref().map(str::to_owned),
        protocol: port.protocol.as_str().to_owned(),
        port: port.port,
    }
}

/// What stands behind the destination of a connection that a pod opens, if it is an address of a Service.
pub(super) fn behind(node: &Node, from: Option<&Pod>, connection: &Connection) -> Option<Behind> {
    let compiler = node.compiler();
    let Connection { source, destination, transport } = *connection;
    let entry = compiler.index().services().at(destination).next()?;
    let asked = entry.ports().iter().find(|port| transport == Transport::Port(port.protocol, port.port));
    let targets = asked.map(|port| entry.targets(port, destination.is_ipv4())).unwrap_or_default();
    let target = |target: policy_core::index::Target| {
        let pod = compiler.index().owner(target.address).map(PodEntry::to_pod);
        let transport = match transport {
            Transport::Port(protocol, _) => Transport::Port(protocol, target.port),
            other => other,
        };
        let straight = Connection { source, destination: target.address, transport };
        Target {
            pod: pod.as_ref().map(|pod| pod.key.to_string()),
            address: target.address,
            port: target.port,
            verdicts: ByDirection {
                egress: verdict(node, from, Direction::Egress, &straight),
                ingress: verdict(node, pod.as_ref(), Direction::Ingress, &straight),
            },
        }
    };
    let note = match asked {
        None => "the Service has no such port, so nothing answers there".to_owned(),
        Some(_) => format!(
            "in this version a packet is judged by the Service's address when it leaves its pod, and by the backend's when it \
             arrives: a rule that admits only the backends' pods does not admit {destination}, an ipBlock of {} does",
            ipnet::IpNet::from(destination)
        ),
    };
    Some(Behind {
        service: name(compiler, entry),
        port: asked.map(port),
        targets: targets.into_iter().map(target).collect(),
        note,
    })
}
