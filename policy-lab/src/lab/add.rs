//! Adds clusters, nodes, pods and outside hosts to a lab, many at once where they come together.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Cluster, Lab, Node, Pod, split_node, unknown_cluster, unknown_node};
use crate::address::{Addresses, ClusterIndex, Mac, NodeIndex, outside_addresses};
use crate::error::{Error, Result};
use crate::host::{Host, NextHop};
use crate::ip::IpBatch;
use crate::links;
use crate::manifests::{MemberRecord, MemberSource};
use crate::netns::NetNs;
use crate::spec::{ClusterSpec, NamespaceSpec, NodeSpec, PodNetwork, PodSpec, Wiring};
use crate::wiring::{self, Batches, Change, PodLink, Role};

impl Lab {
    /// Adds clusters with all that is in them, all at once.
    pub fn add_clusters(&mut self, specs: &[ClusterSpec]) -> Result<()> {
        for spec in specs {
            self.register_cluster(spec)?;
        }
        let nodes: Vec<_> =
            specs.iter().flat_map(|spec| spec.nodes.iter().map(|node| (spec.id.as_str(), node))).collect();
        self.add_nodes(&nodes)
    }

    /// Adds a cluster with all that is in it.
    pub fn add_cluster(&mut self, spec: &ClusterSpec) -> Result<()> {
        self.add_clusters(std::slice::from_ref(spec))
    }

    /// Adds a node with its pods.
    pub fn add_node(&mut self, cluster: &str, spec: &NodeSpec) -> Result<()> {
        self.add_nodes(&[(cluster, spec)])
    }

    /// Adds a pod to a node (`CLUSTER/NODE`). Returns its name in the lab.
    pub fn add_pod(&mut self, node: &str, spec: &PodSpec) -> Result<String> {
        let mut batches = Stage::default();
        let name = self.register_pod(node, spec, &mut batches)?;
        batches.run()?;
        self.publish_pod(&name)?;
        Ok(name)
    }

    /// Adds a host outside of every cluster.
    pub fn add_outside_host(&mut self, name: &str) -> Result<()> {
        self.check_free(name)?;
        let number = u8::try_from(self.outside.len() + 10)
            .map_err(|_| Error::Invalid { what: "a lab has room for 245 outside hosts".into() })?;
        let (v4, v6) = outside_addresses(number);
        let addresses = Addresses { v4: Some(v4), v6: Some(v6) };
        let mac = Mac([0x02, 0xc2, 0, 0, 0, number]);
        let netns = Arc::new(NetNs::create(self.run, name)?);
        let port = self.fabric_port();
        let mut stage = Stage::default();
        stage.fresh.push((Arc::clone(&netns), Role::Leaf));
        let batch = stage.first.of(&netns);
        wiring::outside_host(batch, addresses, mac, &self.fabric, &port);
        for node in self.nodes.values() {
            wiring::routes_to_node(batch, Change::Add, node.index);
        }
        wiring::fabric_port(stage.second.of(&self.fabric), &port);
        stage.run()?;
        let host = Host { name: name.into(), netns, addresses, mac, next_hop: NextHop::Fabric };
        self.outside.insert(name.into(), host);
        Ok(())
    }

    /// The host of a cluster's control plane, made when it is first asked for: between the nodes, with routes to all
    /// pods, so that they reach it too.
    pub(crate) fn control_plane_host(&mut self, cluster: &str) -> Result<Host> {
        let index = self.cluster(cluster)?.index.control_plane();
        if let Some(known) = self.control_planes.get(cluster) {
            return Ok(known.clone());
        }
        let name = format!("{cluster}/control-plane");
        self.check_free(&name)?;
        let netns = Arc::new(NetNs::create(self.run, &name)?);
        let port = self.fabric_port();
        let mut stage = Stage::default();
        stage.fresh.push((Arc::clone(&netns), Role::Leaf));
        let batch = stage.first.of(&netns);
        wiring::node(batch, index, Wiring::Ptp, &self.fabric, &port);
        self.routes_to_pods(batch);
        wiring::fabric_port(stage.second.of(&self.fabric), &port);
        stage.run()?;
        let (v4, v6) = index.node_addresses();
        let addresses = Addresses { v4: Some(v4), v6: Some(v6) };
        let host = Host { name, netns, addresses, mac: index.mac(0), next_hop: NextHop::Fabric };
        self.control_planes.insert(cluster.into(), host.clone());
        Ok(host)
    }

    fn register_cluster(&mut self, spec: &ClusterSpec) -> Result<()> {
        if self.clusters.contains_key(&spec.id) {
            return Err(Error::Taken { what: format!("a cluster {}", spec.id) });
        }
        let index = ClusterIndex(self.next_cluster);
        self.next_cluster = next(self.next_cluster, "clusters")?;
        let record = MemberRecord {
            labels: spec.labels.clone(),
            pod_cidrs: spec.pod_cidrs.clone().unwrap_or_else(|| index.pod_cidrs().to_vec()),
            source: MemberSource::Directory,
        };
        let namespaces: BTreeMap<_, _> =
            spec.namespaces.iter().map(|namespace| (namespace.name.clone(), namespace.clone())).collect();
        for namespace in namespaces.values() {
            self.manifests.write_namespace(&spec.id, namespace)?;
        }
        let cluster = Cluster { index, next_node: 1, record: record.clone(), namespaces };
        self.clusters.insert(spec.id.clone(), cluster);
        self.manifests.set_member(&spec.id, record)
    }

    fn add_nodes(&mut self, specs: &[(&str, &NodeSpec)]) -> Result<()> {
        let mut stage = Stage::default();
        let mut pods = Vec::new();
        for (cluster, spec) in specs {
            let node = self.register_node(cluster, spec, &mut stage)?;
            for pod in &spec.pods {
                pods.push(self.register_pod(&node, pod, &mut stage)?);
            }
        }
        stage.run()?;
        pods.iter().try_for_each(|pod| self.publish_pod(pod))
    }

    fn register_node(&mut self, cluster: &str, spec: &NodeSpec, stage: &mut Stage) -> Result<String> {
        let name = format!("{cluster}/{}", spec.name);
        self.check_free(&name)?;
        let known = self.clusters.get_mut(cluster).ok_or_else(|| unknown_cluster(cluster))?;
        let index = NodeIndex { cluster: known.index, node: known.next_node };
        known.next_node = next(known.next_node, "nodes in a cluster")?;
        let wiring = spec.wiring.unwrap_or(self.wiring);
        let netns = Arc::new(NetNs::create(self.run, &name)?);
        stage.fresh.push((Arc::clone(&netns), Role::Node));
        let port = self.fabric_port();
        let batch = stage.first.of(&netns);
        wiring::node(batch, index, wiring, &self.fabric, &port);
        self.routes_to_pods(batch);
        wiring::fabric_port(stage.second.of(&self.fabric), &port);
        for other in self.fabric_hosts() {
            wiring::routes_to_node(stage.second.of(&other.netns), Change::Add, index);
        }
        let (v4, v6) = index.node_addresses();
        let host = Host {
            name: name.clone(),
            netns,
            addresses: Addresses { v4: Some(v4), v6: Some(v6) },
            mac: index.mac(0),
            next_hop: NextHop::Fabric,
        };
        let cidrs = [IpNet::from(index.pod_net_v4()), index.pod_net_v6().into()];
        self.manifests.write_node(cluster, &spec.name, host.addresses, &cidrs)?;
        let node = Node { name: spec.name.clone(), index, wiring, host, next_interface: 1 };
        self.nodes.insert(name.clone(), node);
        Ok(name)
    }

    fn register_pod(&mut self, node_name: &str, spec: &PodSpec, stage: &mut Stage) -> Result<String> {
        let (cluster, _) = split_node(node_name)?;
        let name = format!("{cluster}/{}/{}", spec.namespace, spec.name);
        self.check_free(&name)?;
        let pod = match spec.network {
            PodNetwork::Host => Pod {
                spec: spec.clone(),
                node: node_name.into(),
                host: Host { name: name.clone(), ..self.node(node_name)?.host.clone() },
                interface: None,
            },
            PodNetwork::Own => self.attach_pod(node_name, name.clone(), spec, stage)?,
        };
        self.pods.insert(name.clone(), pod);
        Ok(name)
    }

    fn attach_pod(&mut self, node_name: &str, name: String, spec: &PodSpec, stage: &mut Stage) -> Result<Pod> {
        let addresses = self.choose_addresses(node_name, spec)?;
        let netns = Arc::new(NetNs::create(self.run, &name)?);
        stage.fresh.push((Arc::clone(&netns), Role::Leaf));
        let node = self.nodes.get_mut(node_name).ok_or_else(|| unknown_node(node_name))?;
        let number = node.next_interface;
        node.next_interface += 1;
        let interface = wiring::pod_interface(number);
        let link = PodLink {
            node: node.index,
            wiring: node.wiring,
            namespace: &netns,
            interface: &interface,
            mac: node.index.mac(number + 1),
            addresses,
        };
        let (mac, next_hop) = (link.mac, link.next_hop());
        link.node_side(stage.first.of(&node.host.netns));
        link.pod_side(stage.second.of(&netns));
        let index = link.node;
        let strays: Vec<_> = link.strays().collect();
        for address in strays {
            for other in self.fabric_hosts().filter(|host| host.name != node_name) {
                let batch = stage.third.of(&other.netns);
                wiring::route_to_stray(batch, Change::Add, address, index);
            }
        }
        Ok(Pod {
            spec: spec.clone(),
            node: node_name.into(),
            host: Host { name, netns, addresses, mac, next_hop },
            interface: Some(interface),
        })
    }

    /// The addresses that the pod asks for, or the first free ones of its node.
    fn choose_addresses(&self, node: &str, spec: &PodSpec) -> Result<Addresses> {
        use crate::spec::PodFamilies::{Dual, OnlyV4, OnlyV6};
        let index = self.node(node)?.index;
        let taken: BTreeSet<IpAddr> = self.pods().flat_map(|pod| pod.addresses.iter().collect::<Vec<_>>()).collect();
        let free = (10..=250)
            .map(|number| index.pod_addresses(number))
            .find(|(v4, v6)| !taken.contains(&(*v4).into()) && !taken.contains(&(*v6).into()));
        let (v4, v6) = free.ok_or_else(|| Error::Invalid { what: format!("{node} has no free pod address") })?;
        let addresses = Addresses {
            v4: (spec.families != OnlyV6).then_some(spec.v4.unwrap_or(v4)),
            v6: (spec.families != OnlyV4).then_some(spec.v6.unwrap_or(v6)),
        };
        debug_assert!(spec.families == Dual || addresses.iter().count() == 1);
        match addresses.iter().find(|address| taken.contains(address)) {
            Some(address) => Err(Error::Taken { what: format!("a pod with the address {address}") }),
            None => Ok(addresses),
        }
    }

    /// Starts a pod's servers and writes its manifest.
    fn publish_pod(&mut self, name: &str) -> Result<()> {
        let pod = self.pod(name)?;
        let ports: BTreeSet<_> = pod.spec.ports.iter().map(|port| (port.protocol, port.port)).collect();
        let ports: Vec<_> = ports.into_iter().collect();
        self.echo.open(name, &pod.host, &ports)?;
        let (cluster, _) = split_node(&pod.node)?;
        let (cluster, namespace) = (cluster.to_owned(), pod.spec.namespace.clone());
        let known = self.clusters.get_mut(&cluster).ok_or_else(|| unknown_cluster(&cluster))?;
        if let Entry::Vacant(vacant) = known.namespaces.entry(namespace) {
            let spec = NamespaceSpec::new(vacant.key());
            self.manifests.write_namespace(&cluster, &spec)?;
            vacant.insert(spec);
        }
        self.write_pod(name)
    }

    /// Routes of a new host to the pods of all nodes.
    fn routes_to_pods(&self, batch: &mut IpBatch) {
        for node in self.nodes.values() {
            wiring::routes_to_node(batch, Change::Add, node.index);
        }
        for (address, node) in self.strays() {
            wiring::route_to_stray(batch, Change::Add, address, node);
        }
    }

    fn fabric_port(&mut self) -> String {
        let port = self.next_port;
        self.next_port += 1;
        format!("port{port}")
    }

    fn check_free(&self, name: &str) -> Result<()> {
        match self.host(name) {
            Ok(_) => Err(Error::Taken { what: format!("a host {name}") }),
            Err(_) => Ok(()),
        }
    }
}

/// Work on namespaces in the order in which it depends on each other.
#[derive(Debug, Default)]
struct Stage {
    fresh: Vec<(Arc<NetNs>, Role)>,
    first: Batches,
    second: Batches,
    third: Batches,
}

impl Stage {
    fn run(&self) -> Result<()> {
        wiring::in_parallel(&self.fresh, |(netns, role)| wiring::prepare(netns, *role))?;
        self.first.run()?;
        self.second.run()?;
        self.third.run()?;
        let fresh = self.fresh.iter().map(|(netns, _)| netns);
        let touched: Vec<_> = self.first.namespaces().chain(fresh).collect();
        wiring::in_parallel(&touched, |netns| links::wait_until_up(netns))
    }
}

fn next(number: u8, what: &str) -> Result<u8> {
    if number >= 250 {
        return Err(Error::Invalid { what: format!("a lab has room for 250 {what}") });
    }
    Ok(number + 1)
}
