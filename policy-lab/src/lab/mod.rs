//! A ClusterSet that runs on this machine: clusters, nodes and pods as network namespaces.

mod add;
mod change;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::address::{ClusterIndex, Mac, NodeIndex};
use crate::bpffs;
use crate::cleanup::{self, RunId};
use crate::error::{Error, Result};
use crate::host::{Host, NextHop};
use crate::manifests::{ClusterSetSettings, Manifests, MemberRecord, PodManifest};
use crate::netns::NetNs;
use crate::spec::{ClusterLabels, ClusterSpec, NamespaceSpec, PeerScope, PodSpec, PortProtocol, Wiring};
use crate::traffic::echo::EchoServers;
use crate::wiring::{self, Batches, PodLink, Role};

/// A running lab. Dropping it removes everything it has made, processes included.
///
/// Hosts go by name: pods by `CLUSTER/NAMESPACE/POD`, nodes by `CLUSTER/NODE`, hosts
/// outside of every cluster by the name they were given, control planes by
/// `CLUSTER/control-plane`.
#[derive(Debug)]
pub struct Lab {
    run: RunId,
    wiring: Wiring,
    fabric: Arc<NetNs>,
    clusters: BTreeMap<String, Cluster>,
    nodes: BTreeMap<String, Node>,
    pods: BTreeMap<String, Pod>,
    outside: BTreeMap<String, Host>,
    /// By cluster.
    control_planes: BTreeMap<String, Host>,
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

    /// A pod, node, outside host or control plane by name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        let pod = self.pods.get(name).map(|pod| &pod.host);
        pod.or_else(|| self.nodes.get(name).map(|node| &node.host))
            .or_else(|| self.outside.get(name))
            .or_else(|| self.control_planes.values().find(|host| host.name == name))
            .ok_or_else(|| Error::Unknown { kind: "host", name: name.into() })
    }

    /// The host whose address this is.
    #[must_use]
    pub fn host_of(&self, address: IpAddr) -> Option<&Host> {
        self.pods()
            .chain(self.nodes())
            .chain(self.outside.values())
            .chain(self.control_planes.values())
            .find(|host| host.addresses.iter().any(|own| own == address))
    }

    /// A host whose `eth0` carries its own traffic and nobody else's.
    pub(crate) fn host_with_own_interface(&self, name: &str) -> Result<&Host> {
        let carries_others =
            self.nodes.contains_key(name) || self.pods.get(name).is_some_and(|pod| pod.interface.is_none());
        if carries_others {
            return Err(Error::Invalid { what: format!("the interface of {name} carries other hosts' traffic, too") });
        }
        self.host(name)
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
            bpffs::mount_at(&cleanup::bpffs_of(&directory))?;
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
            control_planes: BTreeMap::new(),
            next_cluster: 1,
            next_port: 1,
            manifests,
            echo: EchoServers::start()?,
        })
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
        self.nodes().chain(self.outside.values()).chain(self.control_planes.values())
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
}

impl Drop for Lab {
    fn drop(&mut self) {
        cleanup::sweep(self.run);
    }
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

fn split_node(name: &str) -> Result<(&str, &str)> {
    name.split_once('/').ok_or_else(|| unknown_node(name))
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
