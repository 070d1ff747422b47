//! A generated ClusterSet: the same on every machine, told one cluster at a time, so that it never exists as a whole.

mod names;
pub mod policies;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use policy_core::model::{
    ClusterConfig, ClusterId, ClusterLabels, ContainerPort, Event, Labels, Lifecycle, Member, Namespace, NamespaceKey,
    Pod, PodKey, Protocol, Scope, Text, Timestamp,
};

use names::{APPS, STAGES, TEAMS};

/// How many pods the local cluster has.
pub const LOCAL_PODS: u32 = 10_000;
/// How many namespaces a large cluster has.
pub const NAMESPACES: u32 = 50;
/// The pods of a Deployment.
pub const REPLICAS: u32 = 10;
/// How many more each can get.
pub const SPARE_REPLICAS: u32 = 22;
/// The node whose endpoints are judged: one pod in a hundred of the local cluster.
pub const NODE: &str = "worker-000.cluster-000.example.com";
/// A namespace that no listing has, of 100 Deployments.
pub const BULK: &str = "analytics";
/// How many Deployments a large cluster has; those of [`BULK`] come after them.
const DEPLOYMENTS: u32 = NAMESPACES * APPS.len() as u32;
/// How many addresses a Deployment may take.
const ADDRESSES: u32 = REPLICAS + SPARE_REPLICAS;
/// The pods of a node.
const PODS_PER_NODE: u32 = 100;

/// Which addresses pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// One of each.
    Both,
}

/// The policies of the local cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policies {
    /// So many, of all kinds.
    Mix(u32),
    /// So many, and one that matches every pod.
    MixAndEverybody(u32),
    /// One that matches no pod.
    Nobody,
}

/// A ClusterSet whose local cluster is the first.
#[derive(Clone, Copy, Debug)]
pub struct ClusterSet {
    /// How many clusters there are.
    pub clusters: u32,
    /// The pods of each cluster but the local one: a multiple of [`REPLICAS`], at most [`LOCAL_PODS`].
    pub remote_pods: u32,
    /// The policies.
    pub policies: Policies,
    /// The addresses of pods.
    pub families: Families,
}

/// Names a pod.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The cluster.
    pub cluster: u32,
    /// The Deployment in it.
    pub deployment: u32,
    /// The pod in that; from [`REPLICAS`] on no listing has it.
    pub replica: u32,
}

/// The id of a cluster.
pub fn cluster_name(cluster: u32) -> String {
    format!("cluster-{cluster:03}")
}

/// The name of a namespace, the same in all clusters.
pub fn namespace_name(number: u32) -> String {
    let (stage, team) = (number as usize / TEAMS.len(), number as usize % TEAMS.len());
    format!("{}{}", TEAMS[team], STAGES[stage])
}

fn id(cluster: u32) -> ClusterId {
    cluster_name(cluster).parse().expect("an RFC 1123 label")
}

fn labels<const N: usize>(labels: [(&str, String); N]) -> Labels {
    labels.into_iter().map(|(key, value)| (Text::from(key), Text::from(value))).collect()
}

impl ClusterSet {
    /// How many pods all clusters have.
    pub fn pods(&self) -> u32 {
        (0..self.clusters).map(|cluster| self.pods_of(cluster)).sum()
    }

    fn pods_of(&self, cluster: u32) -> u32 {
        if cluster == 0 { LOCAL_PODS } else { self.remote_pods }
    }

    /// How many Deployments a cluster has.
    pub fn deployments(&self, cluster: u32) -> u32 {
        self.pods_of(cluster) / REPLICAS
    }

    /// The join records.
    pub fn config(&self) -> ClusterConfig {
        let member = |cluster| Member { id: id(cluster), pod_cidrs: self.cidrs(cluster), labels: Labels::new() };
        ClusterConfig {
            local: id(0),
            default_scope: Scope::ClusterSet,
            cluster_labels: ClusterLabels::Implicit,
            members: (0..self.clusters).map(member).collect(),
        }
    }

    /// The first addresses of a cluster's pods, and how many bits tell its pods apart in IPv4.
    fn range(&self, cluster: u32) -> (u32, u8) {
        const FIRST: u32 = 0x0a00_0000;
        let bits = if self.clusters <= 200 { 16 } else { 10 };
        match cluster.checked_sub(1) {
            None => (FIRST, 16),
            Some(remote) => (FIRST + (1 << 16) + (remote << bits), bits),
        }
    }

    fn cidrs(&self, cluster: u32) -> Vec<IpNet> {
        let (first, bits) = self.range(cluster);
        let v4 = Ipv4Net::new(first.into(), 32 - bits).expect("at most 32 bits");
        let v6 = Ipv6Net::new(v6(cluster, 0), 48).expect("at most 128 bits");
        vec![v4.into(), v6.into()]
    }

    /// The addresses of a pod.
    pub fn addresses(&self, place: Place) -> Vec<IpAddr> {
        let Place { cluster, deployment, replica } = place;
        let number = deployment * ADDRESSES + replica;
        let v4 = IpAddr::V4(Ipv4Addr::from(self.range(cluster).0 + number));
        let v6 = IpAddr::V6(v6(cluster, number));
        match self.families {
            Families::V4 => vec![v4],
            Families::V6 => vec![v6],
            Families::Both => vec![v4, v6],
        }
    }

    /// All that a cluster's API server lists, as one batch.
    pub fn listing(&self, cluster: u32) -> Vec<Event> {
        let id = id(cluster);
        let namespaces = (0..NAMESPACES.min(self.deployments(cluster))).map(|number| {
            let name = namespace_name(self.namespace_number(cluster, number * APPS.len() as u32));
            namespace(cluster, &name, name.split('-').next().unwrap_or_default())
        });
        let pods = (0..self.pods_of(cluster)).map(|number| Place {
            cluster,
            deployment: number / REPLICAS,
            replica: number % REPLICAS,
        });
        let pods = pods.map(|place| Event::PodApplied(self.pod_of(&id, place)));
        let policies = if cluster == 0 { self.policies() } else { Vec::new() };
        namespaces.chain(pods).chain(policies).chain([Event::Synced(id.clone())]).collect()
    }

    fn policies(&self) -> Vec<Event> {
        let mix = |count| (0..count).map(|number| Event::PolicyApplied(policies::mix(self, number)));
        match self.policies {
            Policies::Mix(count) => mix(count).collect(),
            Policies::MixAndEverybody(count) => mix(count).chain([policies::everybody()]).collect(),
            Policies::Nobody => vec![policies::nobody()],
        }
    }

    /// Small clusters have few of the namespaces, and not all the same ones.
    fn namespace_number(&self, cluster: u32, deployment: u32) -> u32 {
        (deployment / APPS.len() as u32 + cluster * 7) % NAMESPACES
    }

    /// A pod.
    pub fn pod(&self, place: Place) -> Pod {
        self.pod_of(&id(place.cluster), place)
    }

    /// A pod of a source, which has its cluster's id but once; every other string is the pod's own.
    fn pod_of(&self, id: &ClusterId, place: Place) -> Pod {
        let Place { cluster, deployment, replica } = place;
        let number = (deployment + cluster) as usize;
        let app = APPS[number % APPS.len()];
        let namespace = match deployment {
            DEPLOYMENTS.. => BULK.to_owned(),
            _ => namespace_name(self.namespace_number(cluster, deployment)),
        };
        let hash = names::letters(names::mixed([cluster, deployment, u32::MAX]), 9);
        let [one, other] = [1, 2].map(|salt| names::mixed([cluster, deployment, salt << 16 | replica]));
        let name = format!("{app}-{hash}-{}", names::letters(one, 5));
        let key = PodKey { cluster: id.clone(), namespace: namespace.as_str().into(), name: name.into() };
        Pod {
            key,
            uid: names::uuid(one, other).into(),
            labels: labels([
                ("app", app.to_owned()),
                ("app.kubernetes.io/part-of", namespace),
                ("app.kubernetes.io/version", format!("1.{}.{}", number % 7, number % 3)),
                ("pod-template-hash", hash),
                ("tier", ["backend", "edge", "data"][number % 3].to_owned()),
            ]),
            addresses: self.addresses(place),
            ports: ports(number as u32),
            node: Some(self.node_of(place).into()),
            host_network: false,
            lifecycle: Lifecycle::Live,
            created: Some(Timestamp { s: 1_760_000_000 + i64::from(deployment * ADDRESSES + replica), ns: 0 }),
        }
    }

    /// The pods of a Deployment are on different nodes.
    fn node_of(&self, place: Place) -> String {
        let Place { cluster, deployment, replica } = place;
        let nodes = (self.pods_of(cluster) / PODS_PER_NODE).max(1);
        format!("worker-{:03}.{}.example.com", (deployment + 7 * replica) % nodes, cluster_name(cluster))
    }

    /// Whether a pod is on [`NODE`].
    pub fn is_endpoint(&self, place: Place) -> bool {
        place.cluster == 0 && self.node_of(place) == NODE
    }
}

/// A namespace of a team.
pub fn namespace(cluster: u32, name: &str, team: &str) -> Event {
    Event::NamespaceApplied(Namespace {
        key: NamespaceKey { cluster: id(cluster), name: name.into() },
        labels: labels([
            ("kubernetes.io/metadata.name", name.to_owned()),
            ("pod-security.kubernetes.io/enforce", "baseline".to_owned()),
            ("team", team.to_owned()),
        ]),
        peer_scope: None,
    })
}

/// The places of the 1,000 pods of [`BULK`] in a large cluster.
pub fn bulk(cluster: u32) -> impl Iterator<Item = Place> {
    let deployments = DEPLOYMENTS..DEPLOYMENTS + 100;
    deployments.flat_map(move |deployment| (0..REPLICAS).map(move |replica| Place { cluster, deployment, replica }))
}

fn v6(cluster: u32, number: u32) -> Ipv6Addr {
    Ipv6Addr::from(0xfd00 << 112 | u128::from(cluster) << 96 | u128::from(number))
}

/// Most serve HTTP on the usual port, some on another; some serve gRPC too.
fn ports(number: u32) -> Vec<ContainerPort> {
    let port = |name: &str, number| ContainerPort { name: Some(name.into()), protocol: Protocol::Tcp, number };
    let http = port("http", if number % 4 == 3 { 8000 } else { 8080 });
    let grpc = number.is_multiple_of(3).then(|| port("grpc", 50_051));
    [http, port("metrics", 9090)].into_iter().chain(grpc).collect()
}
