//! The plain current state of the ClusterSet: what the events up to now say, and nothing derived from it.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{
    ClusterConfig, ClusterId, EndpointSlice, EndpointSliceKey, Event, Listing, Namespace, NamespaceKey, NetworkPolicy,
    Node, NodeKey, Pod, PodKey, PolicyKey, Service, ServiceKey,
};
use crate::show;

/// Everything that is known, object by object; only objects of members are in it.
///
/// Written for readability: the oracle and the tests stand on it, the agent's index is another thing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct World {
    /// The ClusterSet; `None` before it is configured, and then nothing else is known either.
    pub config: Option<ClusterConfig>,
    /// The namespace objects of all members.
    pub namespaces: BTreeMap<NamespaceKey, Namespace>,
    /// The pods of all members.
    pub pods: BTreeMap<PodKey, Pod>,
    /// The nodes of all members.
    pub nodes: BTreeMap<NodeKey, Node>,
    /// The policies of all members; who judges looks only at those of his own cluster.
    pub policies: BTreeMap<PolicyKey, NetworkPolicy>,
    /// The Services of all members; who tells of them tells of those of his own cluster.
    pub services: BTreeMap<ServiceKey, Service>,
    /// The slices of their backends.
    pub slices: BTreeMap<EndpointSliceKey, EndpointSlice>,
}

impl World {
    /// The world after these events, from nothing.
    pub fn from_events<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut world = Self::default();
        for event in events {
            world.apply(event);
        }
        world
    }

    /// Takes one event in. What is said of a cluster that is no member is not heard: its source speaks again, from
    /// the beginning, when the cluster joins.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Configured(config) => {
                self.config = Some(config.clone());
                self.forget_strangers();
            }
            Event::Synced(_) => {}
            Event::Relisted(cluster, listing) => self.keep_only(cluster, listing),
            Event::NamespaceApplied(namespace) => {
                if self.is_member(&namespace.key.cluster) {
                    self.namespaces.insert(namespace.key.clone(), namespace.clone());
                }
            }
            Event::NamespaceDeleted(key) => {
                self.namespaces.remove(key);
            }
            Event::PodApplied(pod) => {
                if self.is_member(&pod.key.cluster) {
                    self.pods.insert(pod.key.clone(), pod.clone());
                }
            }
            Event::PodDeleted { key, uid } => {
                if self.pods.get(key).is_some_and(|pod| pod.uid == *uid) {
                    self.pods.remove(key);
                }
            }
            Event::NodeApplied(node) => {
                if self.is_member(&node.key.cluster) {
                    self.nodes.insert(node.key.clone(), node.clone());
                }
            }
            Event::NodeDeleted(key) => {
                self.nodes.remove(key);
            }
            Event::PolicyApplied(policy) => {
                if self.is_member(&policy.key.cluster) {
                    self.policies.insert(policy.key.clone(), policy.clone());
                }
            }
            Event::PolicyDeleted(key) => {
                self.policies.remove(key);
            }
            Event::ServiceApplied(service) => {
                if self.is_member(&service.key.cluster) {
                    self.services.insert(service.key.clone(), service.clone());
                }
            }
            Event::ServiceDeleted(key) => {
                self.services.remove(key);
            }
            Event::EndpointSliceApplied(slice) => {
                if self.is_member(&slice.key.cluster) {
                    self.slices.insert(slice.key.clone(), slice.clone());
                }
            }
            Event::EndpointSliceDeleted(key) => {
                self.slices.remove(key);
            }
        }
    }

    /// Events that make this world from nothing: the ClusterSet first, then every object.
    pub fn events(&self) -> Vec<Event> {
        let Self { config, namespaces, pods, nodes, policies, services, slices } = self;
        let mut events: Vec<Event> = config.iter().cloned().map(Event::Configured).collect();
        events.extend(namespaces.values().cloned().map(Event::NamespaceApplied));
        events.extend(nodes.values().cloned().map(Event::NodeApplied));
        events.extend(pods.values().cloned().map(Event::PodApplied));
        events.extend(policies.values().cloned().map(Event::PolicyApplied));
        events.extend(services.values().cloned().map(Event::ServiceApplied));
        events.extend(slices.values().cloned().map(Event::EndpointSliceApplied));
        events
    }

    /// Whether `cluster` has a join record.
    pub fn is_member(&self, cluster: &ClusterId) -> bool {
        self.config.as_ref().is_some_and(|config| config.members.iter().any(|member| member.id == *cluster))
    }

    fn keep_only(&mut self, cluster: &ClusterId, listing: &Listing) {
        match listing {
            Listing::Namespaces(keys) => self.namespaces.retain(|key, _| key.cluster != *cluster || keys.contains(key)),
            Listing::Pods(keys) => self.pods.retain(|key, _| key.cluster != *cluster || keys.contains(key)),
            Listing::Nodes(keys) => self.nodes.retain(|key, _| key.cluster != *cluster || keys.contains(key)),
            Listing::Policies(keys) => self.policies.retain(|key, _| key.cluster != *cluster || keys.contains(key)),
            Listing::Services(keys) => self.services.retain(|key, _| key.cluster != *cluster || keys.contains(key)),
            Listing::EndpointSlices(keys) => self.slices.retain(|key, _| key.cluster != *cluster || keys.contains(key)),
        }
    }

    fn forget_strangers(&mut self) {
        let members: Vec<ClusterId> =
            self.config.iter().flat_map(|config| &config.members).map(|member| member.id.clone()).collect();
        let Self { config: _, namespaces, pods, nodes, policies, services, slices } = self;
        namespaces.retain(|key, _| members.contains(&key.cluster));
        pods.retain(|key, _| members.contains(&key.cluster));
        nodes.retain(|key, _| members.contains(&key.cluster));
        policies.retain(|key, _| members.contains(&key.cluster));
        services.retain(|key, _| members.contains(&key.cluster));
        slices.retain(|key, _| members.contains(&key.cluster));
    }
}

/// One line per object, so that a failing test shows its world on one screen.
impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, namespaces, pods, nodes, policies, services, slices } = self;
        match config {
            Some(config) => writeln!(f, "{}", show::config(config))?,
            None => writeln!(f, "not configured")?,
        }
        namespaces.values().try_for_each(|namespace| writeln!(f, "{}", show::namespace(namespace)))?;
        nodes.values().try_for_each(|node| writeln!(f, "{}", show::node(node)))?;
        pods.values().try_for_each(|pod| writeln!(f, "{}", show::pod(pod)))?;
        policies.values().try_for_each(|policy| writeln!(f, "{}", show::policy(policy)))?;
        services.values().try_for_each(|service| writeln!(f, "{}", show::service(service)))?;
        slices.values().try_for_each(|slice| writeln!(f, "{}", show::slice(slice)))
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}
