//! Removes and changes what is in a lab: network and manifests agree at every step.

use super::{Lab, split_node, unknown_cluster, unknown_pod};
use crate::cleanup;
use crate::error::Result;
use crate::manifests::MemberSource;
use crate::spec::{Labels, NamespaceSpec, PodSpec, PortProtocol, Wiring};
use crate::wiring::{self, Batches, Change, PodLink};

impl Lab {
    /// Removes a cluster: its member record, its manifests, its nodes and pods, its control plane.
    pub fn remove_cluster(&mut self, cluster: &str) -> Result<()> {
        self.cluster(cluster)?;
        self.manifests.delete_cluster(cluster)?;
        for node in self.nodes_in(cluster) {
            self.remove_node(&node)?;
        }
        if let Some(gone) = self.control_planes.remove(cluster) {
            cleanup::end_processes(&[gone.netns.name()]);
            wiring::delete_link(&gone.netns, wiring::ETH0)?;
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

    /// Changes where agents learn a cluster's objects, in every ClusterSet file.
    pub fn set_source(&mut self, cluster: &str, source: MemberSource) -> Result<()> {
        let known = self.clusters.get_mut(cluster).ok_or_else(|| unknown_cluster(cluster))?;
        known.record.source = source;
        let record = known.record.clone();
        if self.manifests.is_member(cluster) { self.manifests.set_member(cluster, record) } else { Ok(()) }
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

    /// Writes a pod's manifest (again): after [`Lab::delete_pod_manifest`], or for a pod that was made without.
    pub fn write_pod_manifest(&mut self, pod: &str) -> Result<()> {
        let known = self.pods.get_mut(pod).ok_or_else(|| unknown_pod(pod))?;
        known.spec.in_manifests = true;
        self.write_pod(pod)
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
}

fn to_labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}
