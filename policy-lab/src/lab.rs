//! A ClusterSet that runs on this machine: clusters, nodes and pods as network namespaces.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::address::{Addresses, ClusterIndex, Mac, NodeIndex, outside_addresses};
use crate::cleanup::{self, RunId};
use crate::error::{Error, Result};
use crate::host::{Host, NextHop};
use crate::manifests::{ClusterSetSettings, Manifests, MemberRecord, PodManifest};
use crate::netns::NetNs;
use crate::spec::{
    ClusterLabels, ClusterSpec, Labels, NamespaceSpec, NodeSpec, PeerScope, PodNetwork, PodSpec, PortProtocol, Wiring,
};
use crate::traffic::echo::EchoServers;
use crate::wiring::{self, Batches, Change, PodLink, Role};

/// A running lab. Dropping it removes everything it has made, processes included.
///
/// Hosts go by name: pods by `CLUSTER/NAMESPACE/POD`, nodes by `CLUSTER/NODE`, hosts
/// outside of every cluster by the name they were given.
#[derive(Debug)]
pub struct Lab {
    run: RunId,
    wiring: Wiring,
    fabric: Arc<NetNs>,
    clusters: BTreeMap<String, Cluster>,
    nodes: BTreeMap<String, Node>,
    pods: BTreeMap<String, Pod>,
    outside: BTreeMap<String, Host>,
    next_cluster: u8,
    next_port: u32,
    manifests: Manifests,
    echo: EchoServers,
}

/// Describes a lab; see [`Lab::builder`].
#[derive(Debug, Clone)]
pub struct LabBuilder {
    settings: ClusterSetSettings,
    wiring: Wiring,
    clusters: Vec<ClusterSpec>,
    outside: Vec<String>,
}

#[derive(Debug)]
struct Cluster {
    index: ClusterIndex,
    next_node: u8,
    record: MemberRecord,
    namespaces: BTreeMap<String, NamespaceSpec>,
}

#[derive(Debug)]
struct Node {
    name: String,
    index: NodeIndex,
    wiring: Wiring,
    host: Host,
    next_interface: u16,
}

#[derive(Debug)]
struct Pod {
    spec: PodSpec,
    node: String,
    host: Host,
    /// The host-side interface; host-network pods have none.
    interface: Option<String>,
}

impl LabBuilder {
    /// How pods are attached, unless their node says otherwise.
    #[must_use]
    pub fn wiring(mut self, wiring: Wiring) -> Self {
        self.wiring = wiring;
        self
    }

    /// The ClusterSet's default peer scope.
    #[must_use]
    pub fn default_peer_scope(mut self, scope: PeerScope) -> Self {
        self.settings.default_peer_scope = scope;
        self
    }

    /// The ClusterSet's label mode.
    #[must_use]
    pub fn cluster_labels(mut self, mode: ClusterLabels) -> Self {
        self.settings.cluster_labels = mode;
        self
    }

    /// Adds a cluster.
    #[must_use]
    pub fn cluster(mut self, cluster: ClusterSpec) -> Self {
        self.clusters.push(cluster);
        self
    }

    /// Adds a host outside of every cluster, that reaches all pods (192.0.2.0/24, 2001:db8::/64).
    #[must_use]
    pub fn outside_host(mut self, name: impl Into<String>) -> Self {
        self.outside.push(name.into());
        self
    }

    /// Makes it all. When this fails, nothing stays behind.
    pub fn build(self) -> Result<Lab> {
        cleanup::sweep_dead_runs();
        raise_file_limit()?;
        let run = RunId::new();
        let mut lab = Lab::empty(run, self.wiring, self.settings).inspect_err(|_| cleanup::sweep(run))?;
        for name in &self.outside {
            lab.add_outside_host(name)?;
        }
        lab.add_clusters(&self.clusters)?;
        Ok(lab)
    }
}

impl Lab {
    /// Starts to describe a lab. `name` is that of its ClusterSet.
    pub fn builder(name: impl Into<String>) -> LabBuilder {
        LabBuilder {
            settings: ClusterSetSettings { name: name.into(), ..ClusterSetSettings::default() },
            wiring: Wiring::default(),
            clusters: Vec::new(),
            outside: Vec::new(),
        }
    }

    /// The lab's own directory (manifests, sockets, state, logs), removed with it.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.run.directory()
    }

    /// The prefix of the names of everything the lab makes.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.run
    }

    /// The lab's files for agents, to read.
    #[must_use]
    pub fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// The lab's files for agents, to change the ClusterSet itself.
    pub fn manifests_mut(&mut self) -> &mut Manifests {
        &mut self.manifests
    }

    /// The ids of all clusters.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.clusters.keys().map(String::as_str)
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Host> {
        self.nodes.values().map(|node| &node.host)
    }

    /// All pods.
    pub fn pods(&self) -> impl Iterator<Item = &Host> {
        self.pods.values().map(|pod| &pod.host)
    }

    /// A pod, node or outside host by name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        let pod = self.pods.get(name).map(|pod| &pod.host);
        pod.or_else(|| self.nodes.get(name).map(|node| &node.host))
            .or_else(|| self.outside.get(name))
            .ok_or_else(|| Error::Unknown { kind: "host", name: name.into() })
    }

    /// The host whose address this is.
    #[must_use]
    pub fn host_of(&self, address: IpAddr) -> Option<&Host> {
        self.pods()
            .chain(self.nodes())
            .chain(self.outside.values())
            .find(|host| host.addresses.iter().any(|own| own == address))
    }

    /// The node (`CLUSTER/NODE`) that a pod runs on.
    pub fn node_of(&self, pod: &str) -> Result<&str> {
        Ok(&self.pod(pod)?.node)
    }

    /// The host-side interface of a pod: the one that carries its programs. `None` for
    /// host-network pods.
    pub fn interface_of(&self, pod: &str) -> Result<Option<&str>> {
        Ok(self.pod(pod)?.interface.as_deref())
    }

    /// The ports that a pod serves.
    pub fn ports_of(&self, pod: &str) -> Result<impl Iterator<Item = (PortProtocol, u16)>> {
        let ports = &self.pod(pod)?.spec.ports;
        Ok(ports.iter().map(|port| (port.protocol, port.port)))
    }

    /// A node's directory on the lab's own bpffs, made when it is first asked for.
    pub fn bpffs(&self, node: &str) -> Result<PathBuf> {
        self.node(node)?;
        let path = cleanup::bpffs_of(&self.directory()).join(node.replace('/', "-"));
        fs::create_dir_all(&path).map_err(Error::path("create", &path))?;
        Ok(path)
    }

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

    /// Removes a cluster: its member record, its manifests, its nodes and pods.
    pub fn remove_cluster(&mut self, cluster: &str) -> Result<()> {
        self.cluster(cluster)?;
        self.manifests.delete_cluster(cluster)?;
        for node in self.nodes_in(cluster) {
            self.remove_node(&node)?;
        }
        self.clusters.remove(cluster);
        Ok(())
    }

    /// Takes a cluster out of the ClusterSet; its pods go on. Says whether it was in.
    pub fn leave(&mut self, cluster: &str) -> Result<bool> {
        self.cluster(cluster)?;
        self.manifests.remove_member(cluster)
    }

    /// Puts a cluster (back) into the ClusterSet.
    pub fn join(&mut self, cluster: &str) -> Result<()> {
        let record = self.cluster(cluster)?.record.clone();
        self.manifests.set_member(cluster, record)
    }

    /// Adds a node with its pods.
    pub fn add_node(&mut self, cluster: &str, spec: &NodeSpec) -> Result<()> {
        self.add_nodes(&[(cluster, spec)])
    }

    /// Removes a node (`CLUSTER/NODE`) with its pods.
    pub fn remove_node(&mut self, node: &str) -> Result<()> {
        let index = self.node(node)?.index;
        let pods: Vec<String> =
            self.pods.iter().filter(|(_, pod)| pod.node == node).map(|(name, _)| name.clone()).collect();
        for pod in pods {
            self.remove_pod(&pod)?;
        }
        let mut batches = Batches::default();
        for other in self.fabric_hosts().filter(|host| host.name != node) {
            wiring::routes_to_node(batches.of(&other.netns), Change::Remove, index);
        }
        batches.run()?;
        if let Some(gone) = self.nodes.remove(node) {
            self.echo.close(node);
            let (cluster, name) = split_node(node)?;
            self.manifests.delete_node(cluster, name)?;
            cleanup::end_processes(&[gone.host.netns.name()]);
            wiring::delete_link(&gone.host.netns, wiring::ETH0)?;
        }
        Ok(())
    }

    /// Adds a pod to a node (`CLUSTER/NODE`). Returns its name in the lab.
    pub fn add_pod(&mut self, node: &str, spec: &PodSpec) -> Result<String> {
        let mut batches = Stage::default();
        let name = self.register_pod(node, spec, &mut batches)?;
        batches.run()?;
        self.publish_pod(&name)?;
        Ok(name)
    }

    /// Removes a pod: its manifest first, as Kubernetes does, then its network.
    pub fn remove_pod(&mut self, pod: &str) -> Result<()> {
        self.delete_pod_manifest(pod)?;
        let Some(gone) = self.pods.remove(pod) else {
            return Ok(());
        };
        self.echo.close(pod);
        let node = self.node(&gone.node)?;
        let mut batches = Batches::default();
        if let Some(interface) = &gone.interface {
            cleanup::end_processes(&[gone.host.netns.name()]);
            // Takes the pod's end and the node's routes with it.
            wiring::delete_link(&node.host.netns, interface)?;
            for address in gone.host.addresses.iter() {
                if !PodLink::is_at_home(node.index, address) {
                    if node.wiring == Wiring::Bridge {
                        wiring::remove_stray_from_bridge(batches.of(&node.host.netns), address);
                    }
                    for other in self.fabric_hosts().filter(|host| host.name != gone.node) {
                        let batch = batches.of(&other.netns);
                        wiring::route_to_stray(batch, Change::Remove, address, node.index);
                    }
                }
            }
        }
        batches.run()
    }

    /// Removes only a pod's manifest; the pod goes on.
    pub fn delete_pod_manifest(&self, pod: &str) -> Result<bool> {
        let known = self.pod(pod)?;
        let (cluster, _) = split_node(&known.node)?;
        let PodSpec { namespace, name, .. } = &known.spec;
        self.manifests.delete_pod(cluster, namespace, name)
    }

    /// Replaces a pod's labels in its manifest.
    pub fn relabel_pod(&mut self, pod: &str, labels: &[(&str, &str)]) -> Result<()> {
        let known = self.pods.get_mut(pod).ok_or_else(|| unknown_pod(pod))?;
        known.spec.labels = to_labels(labels);
        self.write_pod(pod)
    }

    /// Replaces a namespace's labels in its manifest.
    pub fn relabel_namespace(&mut self, cluster: &str, namespace: &str, labels: &[(&str, &str)]) -> Result<()> {
        let known = self.clusters.get_mut(cluster).ok_or_else(|| unknown_cluster(cluster))?;
        let spec = known.namespaces.entry(namespace.into()).or_insert_with(|| NamespaceSpec::new(namespace));
        spec.labels = to_labels(labels);
        self.manifests.write_namespace(cluster, spec)
    }

    /// Serves one more port of a host (a node's or an outside host's, too).
    pub fn serve(&self, host: &str, protocol: PortProtocol, port: u16) -> Result<()> {
        self.echo.open(host, self.host(host)?, &[(protocol, port)])
    }

    /// Closes all servers and their connections on a host.
    pub fn stop_serving(&self, host: &str) -> Result<()> {
        self.host(host)?;
        self.echo.close(host);
        Ok(())
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
        wiring::prepare(&netns, Role::Leaf)?;
        let port = self.fabric_port();
        let mut stage = Stage::default();
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

    /// The link-layer address to which `from` sends a frame for `to`.
    #[must_use]
    pub fn next_hop(&self, from: &Host, to: IpAddr) -> Option<Mac> {
        match from.next_hop {
            NextHop::Gateway(mac) => Some(mac),
            NextHop::Bridge(gateway) => {
                let node = &self.pods.get(&from.name)?.node;
                let neighbour =
                    self.pods.values().find(|pod| pod.node == *node && pod.host.addresses.iter().any(|own| own == to));
                Some(neighbour.map_or(gateway, |pod| pod.host.mac))
            }
            NextHop::Fabric => {
                let host = self.host_of(to)?;
                let node = self.pods.get(&host.name).and_then(|pod| self.nodes.get(&pod.node));
                Some(node.map_or(host.mac, |node| node.host.mac))
            }
        }
    }

    fn empty(run: RunId, wiring: Wiring, settings: ClusterSetSettings) -> Result<Self> {
        let directory = run.directory();
        {
            let _open = cleanup::permit()?;
            let bpffs = cleanup::bpffs_of(&directory);
            fs::create_dir_all(&bpffs).map_err(Error::path("create", &bpffs))?;
            mount_bpffs(&bpffs)?;
        }
        let manifests = Manifests::create(directory.join("manifests"), settings)?;
        let fabric = Arc::new(NetNs::create(run, "fabric")?);
        wiring::prepare(&fabric, Role::Fabric)?;
        let mut batches = Batches::default();
        wiring::fabric(batches.of(&fabric));
        batches.run()?;
        Ok(Self {
            run,
            wiring,
            fabric,
            clusters: BTreeMap::new(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            outside: BTreeMap::new(),
            next_cluster: 1,
            next_port: 1,
            manifests,
            echo: EchoServers::start()?,
        })
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
        for other in self.nodes.values() {
            wiring::routes_to_node(batch, Change::Add, other.index);
        }
        for (address, node) in self.strays() {
            wiring::route_to_stray(batch, Change::Add, address, node);
        }
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

    fn write_pod(&self, name: &str) -> Result<()> {
        let pod = self.pod(name)?;
        if !pod.spec.in_manifests {
            return Ok(());
        }
        let node = self.node(&pod.node)?;
        let (cluster, _) = split_node(&pod.node)?;
        let manifest = PodManifest {
            spec: &pod.spec,
            node: &node.name,
            addresses: pod.host.addresses,
            host_addresses: node.host.addresses,
        };
        self.manifests.write_pod(cluster, &manifest)
    }

    fn cluster(&self, name: &str) -> Result<&Cluster> {
        self.clusters.get(name).ok_or_else(|| unknown_cluster(name))
    }

    fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.get(name).ok_or_else(|| unknown_node(name))
    }

    fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods.get(name).ok_or_else(|| unknown_pod(name))
    }

    fn nodes_in(&self, cluster: &str) -> Vec<String> {
        let of_cluster = |name: &&String| split_node(name).is_ok_and(|(of, _)| of == cluster);
        self.nodes.keys().filter(of_cluster).cloned().collect()
    }

    /// All hosts that are on the fabric and so need routes to the others.
    fn fabric_hosts(&self) -> impl Iterator<Item = &Host> {
        self.nodes().chain(self.outside.values())
    }

    /// All addresses that are not of their node's pod network, with that node.
    fn strays(&self) -> impl Iterator<Item = (IpAddr, NodeIndex)> {
        self.pods
            .values()
            .filter(|pod| pod.interface.is_some())
            .filter_map(|pod| Some((pod, self.nodes.get(&pod.node)?.index)))
            .flat_map(|(pod, node)| {
                let addresses: Vec<_> = pod.host.addresses.iter().collect();
                addresses.into_iter().map(move |address| (address, node))
            })
            .filter(|(address, node)| !PodLink::is_at_home(*node, *address))
    }

    fn check_free(&self, name: &str) -> Result<()> {
        match self.host(name) {
            Ok(_) => Err(Error::Taken { what: format!("a host {name}") }),
            Err(_) => Ok(()),
        }
    }

    fn fabric_port(&mut self) -> String {
        let port = self.next_port;
        self.next_port += 1;
        format!("port{port}")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        cleanup::sweep(self.run);
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
        self.third.run()
    }
}

fn mount_bpffs(at: &Path) -> Result<()> {
    mount(Some("bpf"), at, Some("bpf"), MsFlags::empty(), None::<&str>).map_err(Error::path("mount a bpffs at", at))
}

/// A matrix opens more sockets at once than the usual soft limit of 1024 files.
fn raise_file_limit() -> Result<()> {
    let failed = "cannot raise the limit of open files";
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Error::io(failed))?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(Error::io(failed))?;
    }
    Ok(())
}

fn next(number: u8, what: &str) -> Result<u8> {
    if number >= 250 {
        return Err(Error::Invalid { what: format!("a lab has room for 250 {what}") });
    }
    Ok(number + 1)
}

fn split_node(name: &str) -> Result<(&str, &str)> {
    name.split_once('/').ok_or_else(|| unknown_node(name))
}

fn to_labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn unknown_cluster(name: &str) -> Error {
    unknown("cluster", name)
}

fn unknown_node(name: &str) -> Error {
    unknown("node", name)
}

fn unknown_pod(name: &str) -> Error {
    unknown("pod", name)
}

fn unknown(kind: &'static str, name: &str) -> Error {
    Error::Unknown { kind, name: name.into() }
}
