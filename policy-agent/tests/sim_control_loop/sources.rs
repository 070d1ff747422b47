//! The clusters as they are, and what of it an agent has been told.

use std::collections::BTreeSet;

use policy_core::model::{
    ClusterConfig, ClusterId, EndpointSliceKey, Event, Listing, NamespaceKey, Pod, PodKey, PolicyKey, ServiceKey,
};
use policy_core::world::World;

use crate::dice::Dice;
use crate::script::{Delivery, NODE};

/// Which object an event is about: of one object no event overtakes another.
#[derive(PartialEq)]
enum Object {
    Namespace(NamespaceKey),
    Pod(PodKey),
    Policy(PolicyKey),
    Service(ServiceKey),
    Slice(EndpointSliceKey),
    Other,
}

fn object(event: &Event) -> Object {
    match event {
        Event::NamespaceApplied(namespace) => Object::Namespace(namespace.key.clone()),
        Event::NamespaceDeleted(key) => Object::Namespace(key.clone()),
        Event::PodApplied(pod) => Object::Pod(pod.key.clone()),
        Event::PodDeleted { key, .. } => Object::Pod(key.clone()),
        Event::PolicyApplied(policy) => Object::Policy(policy.key.clone()),
        Event::PolicyDeleted(key) => Object::Policy(key.clone()),
        Event::ServiceApplied(service) => Object::Service(service.key.clone()),
        Event::ServiceDeleted(key) => Object::Service(key.clone()),
        Event::EndpointSliceApplied(slice) => Object::Slice(slice.key.clone()),
        Event::EndpointSliceDeleted(key) => Object::Slice(key.clone()),
        Event::Configured(_)
        | Event::Synced(_)
        | Event::Relisted(..)
        | Event::NodeApplied(_)
        | Event::NodeDeleted(_) => Object::Other,
    }
}

/// The cluster that an object is of.
pub fn cluster(event: &Event) -> Option<&ClusterId> {
    match event {
        Event::Configured(_) => None,
        Event::Synced(id) | Event::Relisted(id, _) => Some(id),
        Event::NamespaceApplied(namespace) => Some(&namespace.key.cluster),
        Event::NamespaceDeleted(key) => Some(&key.cluster),
        Event::PodApplied(pod) => Some(&pod.key.cluster),
        Event::PodDeleted { key, .. } => Some(&key.cluster),
        Event::NodeApplied(node) => Some(&node.key.cluster),
        Event::NodeDeleted(key) => Some(&key.cluster),
        Event::PolicyApplied(policy) => Some(&policy.key.cluster),
        Event::PolicyDeleted(key) => Some(&key.cluster),
        Event::ServiceApplied(service) => Some(&service.key.cluster),
        Event::ServiceDeleted(key) => Some(&key.cluster),
        Event::EndpointSliceApplied(slice) => Some(&slice.key.cluster),
        Event::EndpointSliceDeleted(key) => Some(&key.cluster),
    }
}

/// All clusters, members or not, and the sources of one agent.
#[derive(Debug)]
pub struct Sources {
    /// What there is. Whoever leaves the ClusterSet still has all its objects.
    pub truth: World,
    /// The ClusterSet.
    pub config: ClusterConfig,
    /// What the agent was told.
    pub heard: World,
    waiting: Vec<Event>,
    /// The clusters that have been listed to the agent.
    listed: BTreeSet<ClusterId>,
}

impl Sources {
    /// Empty clusters, and nobody to tell of them.
    pub fn new(config: ClusterConfig) -> Self {
        let truth = World { config: Some(config.clone()), ..World::default() };
        Self { truth, config, heard: World::default(), waiting: Vec::new(), listed: BTreeSet::new() }
    }

    /// A new agent, which has been told nothing but the ClusterSet.
    pub fn begin(&mut self) {
        self.heard = World { config: Some(self.config.clone()), ..World::default() };
        self.waiting.clear();
        self.listed.clear();
    }

    /// Whether the local cluster has been listed, and whether all have.
    pub fn synced(&self) -> (bool, bool) {
        let all = self.config.members.iter().all(|member| self.listed.contains(&member.id));
        (self.listed.contains(&self.config.local), all)
    }

    /// Objects change; returns the batches in which that is told now.
    pub fn change(&mut self, events: &[Event], delivery: Delivery) -> Vec<Vec<Event>> {
        events.iter().for_each(|event| self.truth.apply(event));
        let is_heard = |event: &&Event| cluster(event).is_some_and(|id| self.listed.contains(id));
        let (mut later, now): (Vec<Event>, Vec<Event>) =
            events.iter().filter(is_heard).cloned().partition(|event| delivery == Delivery::Later || self.waits(event));
        if delivery == Delivery::Lost {
            return Vec::new();
        }
        self.waiting.append(&mut later);
        let times = if delivery == Delivery::Twice { 2 } else { 1 };
        if now.is_empty() { Vec::new() } else { vec![now; times] }
    }

    /// The agent is told a batch.
    pub fn tell(&mut self, batch: &[Event]) {
        batch.iter().for_each(|event| self.heard.apply(event));
    }

    fn waits(&self, event: &Event) -> bool {
        self.waiting.iter().any(|waiting| object(waiting) == object(event))
    }

    /// All that waits, in another order, in up to so many batches.
    pub fn deliver(&mut self, batches: usize, dice: &mut Dice) -> Vec<Vec<Event>> {
        let mut ordered = Vec::new();
        let mut waiting = std::mem::take(&mut self.waiting);
        while !waiting.is_empty() {
            let chosen = object(&waiting[dice.below(waiting.len())]);
            // The first of that object; what belongs to none keeps its place among its like.
            let first = waiting.iter().position(|event| object(event) == chosen).expect("it was just chosen");
            ordered.push(waiting.remove(first));
        }
        let length = ordered.len().div_ceil(batches.max(1)).max(1);
        ordered.chunks(length).map(<[Event]>::to_vec).collect()
    }

    /// A cluster is listed: all that it has, and the end of what it had, in any order, as one step.
    pub fn relist(&mut self, id: &ClusterId, dice: &mut Dice) -> Option<Vec<Event>> {
        self.config.members.iter().find(|member| member.id == *id)?;
        self.waiting.retain(|event| cluster(event) != Some(id));
        let is_of = |event: &Event| cluster(event) == Some(id);
        let mut events: Vec<Event> = self.truth.events().into_iter().filter(is_of).collect();
        if dice.percent(50) {
            events.extend(self.gone(id));
            dice.shuffle(&mut events);
        } else {
            dice.shuffle(&mut events);
            events.extend(self.listings(id));
        }
        if self.listed.insert(id.clone()) || dice.percent(20) {
            events.push(Event::Synced(id.clone()));
        }
        Some(events)
    }

    /// All that a cluster has, by name.
    fn listings(&self, id: &ClusterId) -> [Event; 6] {
        let World { config: _, namespaces, pods, nodes, policies, services, slices } = &self.truth;
        let listings = [
            Listing::Namespaces(namespaces.keys().filter(|key| key.cluster == *id).cloned().collect()),
            Listing::Nodes(nodes.keys().filter(|key| key.cluster == *id).cloned().collect()),
            Listing::Policies(policies.keys().filter(|key| key.cluster == *id).cloned().collect()),
            Listing::Pods(pods.keys().filter(|key| key.cluster == *id).cloned().collect()),
            Listing::Services(services.keys().filter(|key| key.cluster == *id).cloned().collect()),
            Listing::EndpointSlices(slices.keys().filter(|key| key.cluster == *id).cloned().collect()),
        ];
        listings.map(|listing| Event::Relisted(id.clone(), listing))
    }

    /// The end of what the agent was told of and is no more.
    fn gone(&self, id: &ClusterId) -> Vec<Event> {
        let Self { truth, heard, .. } = self;
        let pods = heard.pods.values().filter(|pod| truth.pods.get(&pod.key).is_none_or(|known| known.uid != pod.uid));
        let mut gone: Vec<Event> =
            pods.map(|pod| Event::PodDeleted { key: pod.key.clone(), uid: pod.uid.clone() }).collect();
        let namespaces = heard.namespaces.keys().filter(|key| !truth.namespaces.contains_key(*key));
        gone.extend(namespaces.cloned().map(Event::NamespaceDeleted));
        let policies = heard.policies.keys().filter(|key| !truth.policies.contains_key(*key));
        gone.extend(policies.cloned().map(Event::PolicyDeleted));
        let services = heard.services.keys().filter(|key| !truth.services.contains_key(*key));
        gone.extend(services.cloned().map(Event::ServiceDeleted));
        let slices = heard.slices.keys().filter(|key| !truth.slices.contains_key(*key));
        gone.extend(slices.cloned().map(Event::EndpointSliceDeleted));
        gone.retain(|event| cluster(event) == Some(id));
        gone
    }

    /// The ClusterSet changes; returns what is told, with the listings of those who join.
    pub fn configure(&mut self, config: &ClusterConfig, dice: &mut Dice) -> Vec<Event> {
        let is_member = |id: &ClusterId| config.members.iter().any(|member| member.id == *id);
        let joins: Vec<ClusterId> = config.members.iter().map(|member| member.id.clone()).collect();
        let joins = joins.into_iter().filter(|id| !self.config.members.iter().any(|member| member.id == *id));
        let joins: Vec<ClusterId> = joins.collect();
        self.config = config.clone();
        self.listed.retain(is_member);
        self.waiting.retain(|event| cluster(event).is_none_or(is_member));
        let mut events = vec![Event::Configured(config.clone())];
        for id in joins {
            events.extend(self.relist(&id, dice).into_iter().flatten());
        }
        events
    }

    /// Of several pods of the node that claim an address only the one of the highest uid is left.
    pub fn reap(&mut self) {
        let local = self.truth.pods.values().filter(|pod| pod.key.cluster == self.config.local && pod.is_workload());
        let local: Vec<Pod> = local.filter(|pod| pod.node.as_deref() == Some(NODE)).cloned().collect();
        let is_later = |one: &Pod, other: &Pod| {
            other.uid > one.uid && other.addresses.iter().any(|address| one.addresses.contains(address))
        };
        let replaced = local.iter().filter(|one| local.iter().any(|other| is_later(one, other)));
        for pod in replaced {
            self.truth.apply(&Event::PodDeleted { key: pod.key.clone(), uid: pod.uid.clone() });
        }
    }

    /// What there is, as the ClusterSet knows it.
    pub fn known(&self) -> World {
        let mut world = World::default();
        world.apply(&Event::Configured(self.config.clone()));
        self.truth.events().iter().filter(|event| cluster(event).is_some()).for_each(|event| world.apply(event));
        world
    }
}
