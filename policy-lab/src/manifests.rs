//! The files that agents read: a ClusterSet file per member and a directory of Kubernetes objects per cluster.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::address::Addresses;
use crate::error::{Error, Result};
use crate::spec::{ClusterLabels, Labels, NamespaceSpec, PeerScope, PodSpec};

/// A directory with a ClusterSet file for each member and below it a directory of manifests for each.
///
/// Every file is replaced by a rename, so that a reader sees the old or the new content.
/// Needs no root: also of use for `policyctl simulate`.
#[derive(Debug)]
pub struct Manifests {
    root: PathBuf,
    settings: ClusterSetSettings,
    members: BTreeMap<String, MemberRecord>,
}

/// What a ClusterSet says besides its members.
#[derive(Debug, Clone, Default)]
pub struct ClusterSetSettings {
    /// `metadata.name`.
    pub name: String,
    /// `spec.defaultPeerScope`.
    pub default_peer_scope: PeerScope,
    /// `spec.clusterLabels`.
    pub cluster_labels: ClusterLabels,
}

/// A member of the ClusterSet.
#[derive(Debug, Clone, Default)]
pub struct MemberRecord {
    /// Cluster labels.
    pub labels: Labels,
    /// The networks its pods' addresses lie in.
    pub pod_cidrs: Vec<IpNet>,
    /// Where agents learn its objects.
    pub source: MemberSource,
}

/// Where agents learn a member's objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MemberSource {
    /// From the directory of its manifests.
    #[default]
    Directory,
    /// From the API server that a kubeconfig names.
    Kubeconfig(PathBuf),
    /// The same by two users: its own agents may read more there than those of other members.
    Kubeconfigs {
        /// That of its own agents.
        own: PathBuf,
        /// That of all others.
        others: PathBuf,
    },
}

impl MemberSource {
    /// As it stands for `id` in the file in which `local` is the local member.
    fn to_json(&self, id: &str, local: &str) -> Value {
        match self {
            Self::Directory => json!({"directory": {"path": id}}),
            Self::Kubeconfig(path) => json!({"kubeconfig": {"path": path}}),
            Self::Kubeconfigs { own, others } => {
                json!({"kubeconfig": {"path": if id == local { own } else { others }}})
            }
        }
    }
}

/// A pod as its manifest shows it.
#[derive(Debug, Clone)]
pub(crate) struct PodManifest<'a> {
    pub(crate) spec: &'a PodSpec,
    pub(crate) node: &'a str,
    pub(crate) addresses: Addresses,
    pub(crate) host_addresses: Addresses,
}

impl Manifests {
    /// Starts an empty set below `root`, which is made if it does not exist.
    pub fn create(root: impl Into<PathBuf>, settings: ClusterSetSettings) -> Result<Self> {
        let root = root.into();
        let staging = root.join(STAGING);
        fs::create_dir_all(&staging).map_err(Error::path("create", staging))?;
        Ok(Self { root, settings, members: BTreeMap::new() })
    }

    /// The ClusterSet file in which `cluster` is the local member.
    #[must_use]
    pub fn cluster_set(&self, cluster: &str) -> PathBuf {
        self.root.join(format!("clusterset.{cluster}.yaml"))
    }

    /// The directory of a cluster's manifests.
    #[must_use]
    pub fn directory(&self, cluster: &str) -> PathBuf {
        self.root.join(cluster)
    }

    /// Adds or replaces a member, in every ClusterSet file.
    pub fn set_member(&mut self, cluster: &str, record: MemberRecord) -> Result<()> {
        let directory = self.directory(cluster);
        fs::create_dir_all(&directory).map_err(Error::path("create", directory))?;
        self.members.insert(cluster.into(), record);
        self.write_cluster_sets()
    }

    /// Whether a cluster is in the ClusterSet files.
    #[must_use]
    pub fn is_member(&self, cluster: &str) -> bool {
        self.members.contains_key(cluster)
    }

    /// Removes a member from every ClusterSet file; its manifests stay, and so does the
    /// ClusterSet file in which it is the local member. Says whether it was one.
    pub fn remove_member(&mut self, cluster: &str) -> Result<bool> {
        let was_member = self.members.remove(cluster).is_some();
        self.write_cluster_sets()?;
        Ok(was_member)
    }

    /// Removes a cluster's manifests and its ClusterSet file.
    pub fn delete_cluster(&mut self, cluster: &str) -> Result<()> {
        self.remove_member(cluster)?;
        let file = self.cluster_set(cluster);
        if file.exists() {
            fs::remove_file(&file).map_err(Error::path("delete", file))?;
        }
        let directory = self.directory(cluster);
        if directory.exists() {
            fs::remove_dir_all(&directory).map_err(Error::path("delete", directory))?;
        }
        Ok(())
    }

    /// Changes the default peer scope, in every ClusterSet file.
    pub fn set_default_peer_scope(&mut self, scope: PeerScope) -> Result<()> {
        self.settings.default_peer_scope = scope;
        self.write_cluster_sets()
    }

    /// Changes the label mode, in every ClusterSet file.
    pub fn set_cluster_labels(&mut self, mode: ClusterLabels) -> Result<()> {
        self.settings.cluster_labels = mode;
        self.write_cluster_sets()
    }

    /// Writes or replaces a file of a cluster: `("cluster-a", "policies/web.yaml", text)`.
    pub fn write(&self, cluster: &str, file: &str, content: &str) -> Result<PathBuf> {
        let path = self.directory(cluster).join(file);
        self.replace(&path, content)?;
        Ok(path)
    }

    /// Writes or replaces a file of a cluster with one object, as JSON.
    pub fn write_object(&self, cluster: &str, file: &str, object: &Value) -> Result<PathBuf> {
        self.write(cluster, file, &format!("{object:#}\n"))
    }

    /// Deletes a file of a cluster. Says whether there was one.
    pub fn delete(&self, cluster: &str, file: &str) -> Result<bool> {
        let path = self.directory(cluster).join(file);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::path("delete", path)(error)),
        }
    }

    /// The content of all files of a cluster: namespaces, nodes, pods, and whatever else was written.
    pub(crate) fn by_kind(&self, cluster: &str) -> Result<[Vec<String>; 4]> {
        let mut found = [const { Vec::new() }; 4];
        let root = self.directory(cluster);
        for path in files_below(&root)? {
            let folder = path.strip_prefix(&root).ok().and_then(|path| path.iter().next()?.to_str());
            let kind = folder.and_then(|folder| FOLDERS.iter().position(|known| *known == folder));
            let content = fs::read_to_string(&path).map_err(Error::path("read", &path))?;
            found[kind.unwrap_or(FOLDERS.len())].push(content);
        }
        Ok(found)
    }

    /// Writes or replaces a Namespace.
    pub fn write_namespace(&self, cluster: &str, namespace: &NamespaceSpec) -> Result<()> {
        let NamespaceSpec { name, labels, annotations } = namespace;
        let mut labels = labels.clone();
        labels.insert("kubernetes.io/metadata.name".into(), name.clone());
        let object = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
        });
        self.write_object(cluster, &namespace_file(name), &object)?;
        Ok(())
    }

    /// Deletes a Namespace.
    pub fn delete_namespace(&self, cluster: &str, namespace: &str) -> Result<bool> {
        self.delete(cluster, &namespace_file(namespace))
    }

    pub(crate) fn write_node(
        &self,
        cluster: &str,
        node: &str,
        addresses: Addresses,
        pod_cidrs: &[IpNet],
    ) -> Result<()> {
        let status: Vec<Value> =
            addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
        let object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node, "labels": {"kubernetes.io/hostname": node}},
            "spec": {"podCIDR": pod_cidrs.first(), "podCIDRs": pod_cidrs},
            "status": {"addresses": status},
        });
        self.write_object(cluster, &node_file(node), &object)?;
        Ok(())
    }

    pub(crate) fn delete_node(&self, cluster: &str, node: &str) -> Result<bool> {
        self.delete(cluster, &node_file(node))
    }

    pub(crate) fn write_pod(&self, cluster: &str, pod: &PodManifest<'_>) -> Result<()> {
        let file = pod_file(&pod.spec.namespace, &pod.spec.name);
        self.write_object(cluster, &file, &pod.to_json())?;
        Ok(())
    }

    pub(crate) fn delete_pod(&self, cluster: &str, namespace: &str, name: &str) -> Result<bool> {
        self.delete(cluster, &pod_file(namespace, name))
    }

    fn write_cluster_sets(&self) -> Result<()> {
        let ClusterSetSettings { name, default_peer_scope, cluster_labels } = &self.settings;
        for local in self.members.keys() {
            let members: Vec<Value> = self
                .members
                .iter()
                .map(|(id, MemberRecord { labels, pod_cidrs, source })| {
                    json!({
                        "id": id,
                        "source": source.to_json(id, local),
                        "podCIDRs": pod_cidrs,
                        "labels": labels,
                    })
                })
                .collect();
            let object = json!({
                "apiVersion": "crosswall.dev/v1alpha1",
                "kind": "ClusterSet",
                "metadata": {"name": name},
                "spec": {
                    "local": local,
                    "defaultPeerScope": default_peer_scope,
                    "clusterLabels": cluster_labels,
                    "members": members,
                },
            });
            self.replace(&self.cluster_set(local), &format!("{object:#}\n"))?;
        }
        Ok(())
    }

    fn replace(&self, path: &Path, content: &str) -> Result<()> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::path("create", parent))?;
        }
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let staged = self.root.join(STAGING).join(serial.to_string());
        fs::write(&staged, content).map_err(Error::path("write", &staged))?;
        fs::rename(&staged, path).map_err(Error::path("replace", path))
    }
}

/// Where content is written before it is renamed: outside of every watched directory.
const STAGING: &str = ".staging";

/// The directories of the lab's own objects.
const FOLDERS: [&str; 3] = ["namespaces", "nodes", "pods"];

/// All files below a directory, in order.
fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory).map_err(Error::path("list", directory))?;
    for entry in entries {
        let path = entry.map_err(Error::path("list", directory))?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn namespace_file(name: &str) -> String {
    format!("namespaces/{name}.json")
}

fn node_file(name: &str) -> String {
    format!("nodes/{name}.json")
}

fn pod_file(namespace: &str, name: &str) -> String {
    format!("pods/{namespace}.{name}.json")
}

impl PodManifest<'_> {
    fn to_json(&self) -> Value {
        let spec = self.spec;
        let ports: Vec<Value> = spec
            .ports
            .iter()
            .filter(|port| port.declared)
            .map(|port| {
                let mut value = json!({"containerPort": port.port, "protocol": port.protocol});
                if let Some(name) = &port.name {
                    value["name"] = json!(name);
                }
                value
            })
            .collect();
        let ips: Vec<Value> = self.addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": spec.namespace, "name": spec.name, "labels": spec.labels},
            "spec": {
                "nodeName": self.node,
                "containers": [{"name": "main", "image": "example.org/echo:1", "ports": ports}],
            },
            "status": {
                "phase": "Running",
                "hostIP": self.host_addresses.iter().next(),
                "podIP": self.addresses.iter().next(),
                "podIPs": ips,
            },
        });
        if spec.network == crate::spec::PodNetwork::Host {
            object["spec"]["hostNetwork"] = json!(true);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cluster_set_file_names_each_members_own_source() {
        let root = std::env::temp_dir().join(format!("crosswall-manifests-{}", std::process::id()));
        let mut manifests = Manifests::create(&root, ClusterSetSettings::default()).expect("made");
        let kubeconfig = MemberSource::Kubeconfig("/run/b.kubeconfig".into());
        let b = MemberRecord { source: kubeconfig, ..MemberRecord::default() };
        let users = MemberSource::Kubeconfigs { own: "/run/agent".into(), others: "/run/reader".into() };
        let c = MemberRecord { source: users, ..MemberRecord::default() };
        for (id, record) in [("a", MemberRecord::default()), ("b", b), ("c", c)] {
            manifests.set_member(id, record).expect("written");
        }
        for local in ["a", "b", "c"] {
            let text = fs::read_to_string(manifests.cluster_set(local)).expect("read");
            let file: Value = serde_json::from_str(&text).expect("it is JSON");
            let sources = [0, 1, 2].map(|member| &file["spec"]["members"][member]["source"]);
            assert_eq!(sources[0], &json!({"directory": {"path": "a"}}));
            assert_eq!(sources[1], &json!({"kubeconfig": {"path": "/run/b.kubeconfig"}}));
            let user = if local == "c" { "/run/agent" } else { "/run/reader" };
            assert_eq!(sources[2], &json!({"kubeconfig": {"path": user}}));
        }
        fs::remove_dir_all(root).expect("removed");
    }
}
