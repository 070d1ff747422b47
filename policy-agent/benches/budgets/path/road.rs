//! The way from a client to a pod: two namespaces, and between them a node that forwards.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use nix::net::if_::if_nametoindex;
use policy_lab::{ClusterSpec, Host, Lab, NodeSpec, PodSpec};

/// One client, one node, one pod.
#[derive(Debug)]
pub struct Road {
    /// The node between them.
    pub node: Host,
    /// Who opens connections; to the node it is a pod of elsewhere.
    pub client: Host,
    /// Who serves them.
    pub pod: Host,
    /// The pod's interface on the node.
    pub interface: String,
    /// Its number.
    pub ifindex: u32,
}

/// Builds as many roads as there are names, all alike; they are gone with the lab.
pub fn build(names: &[&str]) -> Result<(Lab, Vec<Road>)> {
    let nodes = names.iter().zip(1..).map(|(name, number)| {
        let client = PodSpec::new(&format!("{name}/client")).ipv4(Ipv4Addr::new(10, 2, 0, number));
        NodeSpec::new(*name).pod(client).pod(PodSpec::new(&format!("{name}/web")))
    });
    let cluster = nodes.fold(ClusterSpec::new("a"), ClusterSpec::node);
    let lab = Lab::builder("path").cluster(cluster).build().context("build the roads")?;
    let roads = names.iter().map(|name| Road::of(&lab, name)).collect::<Result<_>>()?;
    Ok((lab, roads))
}

impl Road {
    fn of(lab: &Lab, name: &str) -> Result<Self> {
        let (node, client, pod) = (format!("a/{name}"), format!("a/{name}/client"), format!("a/{name}/web"));
        let interface = lab.interface_of(&pod)?.context("the pod has no interface of its own")?.to_owned();
        let node = lab.host(&node)?.clone();
        let ifindex = node.netns().enter(|| if_nametoindex(interface.as_str()))?.context("find the pod's interface")?;
        Ok(Self { node, client: lab.host(&client)?.clone(), pod: lab.host(&pod)?.clone(), interface, ifindex })
    }
}
