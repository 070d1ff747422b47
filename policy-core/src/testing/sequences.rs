//! Generated histories: batches of events with repeats, late deletes, small changes, and members that come and go.

use std::collections::BTreeSet;
use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::strategies::{
    AddressSeed, address_seeds, cluster_labels, configs, container_ports, lifecycles, namespace_labels,
    namespace_objects, node_objects, pod_labels, pod_objects, policy_objects, rules, scopes, worlds,
};
use crate::model::{
    ClusterConfig, ClusterId, ClusterLabels, ContainerPort, Event, Labels, Lifecycle, Listing, Pod, Rule, Scope, Text,
};
use crate::show;
use crate::world::World;

/// What happened, batch by batch; a batch is one step.
#[derive(Clone, PartialEq, Eq)]
pub struct EventSequence {
    /// In order. Mostly the first begins with the configuration.
    pub batches: Vec<Vec<Event>>,
}

impl fmt::Debug for EventSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, batch) in self.batches.iter().enumerate() {
            write!(f, "\nbatch {index}:")?;
            batch.iter().try_for_each(|event| write!(f, "\n  {}", show::event(event)))?;
        }
        Ok(())
    }
}

impl EventSequence {
    /// The world after all of it.
    pub fn world(&self) -> World {
        World::from_events(self.batches.iter().flatten())
    }
}

/// A history: a listing of a world, whole or batch by batch, and then up to `steps` changes. Now and then the
/// configuration comes last, and nothing before it was heard.
pub fn event_sequences(steps: usize) -> impl Strategy<Value = EventSequence> {
    let beginning =
        prop_oneof![12 => Just(Beginning::Whole), 12 => Just(Beginning::Halved), 1 => Just(Beginning::TooEarly)];
    (worlds(), beginning, vec((step(), prop::bool::weighted(0.4)), 0..=steps)).prop_map(|(world, beginning, steps)| {
        let mut history = History::default();
        let mut events = world.events();
        let later = match beginning {
            Beginning::Whole => Vec::new(),
            Beginning::Halved => events.split_off(events.len() / 2),
            Beginning::TooEarly => vec![events.remove(0)],
        };
        for half in [events, later] {
            half.into_iter().for_each(|event| history.say(event));
            history.end_batch();
        }
        for (step, ends_batch) in steps {
            history.resolve(step).into_iter().for_each(|event| history.say(event));
            if ends_batch {
                history.end_batch();
            }
        }
        history.end_batch();
        EventSequence { batches: history.batches }
    })
}

#[derive(Clone, Copy, Debug)]
enum Beginning {
    Whole,
    Halved,
    TooEarly,
}

/// One step before it is known what there is to change.
#[derive(Clone, Debug)]
enum Step {
    Say(Event),
    /// An earlier event comes once more.
    Repeat(Index),
    ChangePod(Index, PodChange),
    DeletePod(Index),
    /// The pod goes, and another with its address comes in its place, in this order or the other.
    ReplacePod(Index, Pod, bool),
    RelabelNamespace(Index, Labels),
    DeleteNamespace(Index),
    ChangePolicy(Index, Vec<Rule>),
    DeletePolicy(Index),
    DeleteNode(Index),
    /// Some of what a cluster has of a kind is listed as all of it.
    Relist(Index, ListedKind, u64),
    Reconfigure(ConfigChange),
}

#[derive(Clone, Copy, Debug)]
enum ListedKind {
    Namespaces,
    Pods,
    Nodes,
    Policies,
}

#[derive(Clone, Debug)]
enum PodChange {
    Labels(Labels),
    Ports(Vec<ContainerPort>),
    Addresses(AddressSeed),
    Lifecycle(Lifecycle),
    Incarnation(Text),
}

#[derive(Clone, Debug)]
enum ConfigChange {
    Whole(ClusterConfig),
    Scope(Scope),
    ClusterLabels(ClusterLabels),
    Leave(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        8 => pod_objects().prop_map(|pod| Step::Say(Event::PodApplied(pod))),
        4 => namespace_objects().prop_map(|namespace| Step::Say(Event::NamespaceApplied(namespace))),
        5 => policy_objects().prop_map(|policy| Step::Say(Event::PolicyApplied(policy))),
        1 => node_objects().prop_map(|node| Step::Say(Event::NodeApplied(node))),
        1 => strays().prop_map(Step::Say),
        2 => index().prop_map(Step::Repeat),
        5 => (index(), pod_changes()).prop_map(|(index, change)| Step::ChangePod(index, change)),
        2 => index().prop_map(Step::DeletePod),
        2 => (index(), pod_objects(), any::<bool>())
            .prop_map(|(index, pod, gone_first)| Step::ReplacePod(index, pod, gone_first)),
        2 => (index(), namespace_labels()).prop_map(|(index, labels)| Step::RelabelNamespace(index, labels)),
        1 => index().prop_map(Step::DeleteNamespace),
        2 => (index(), vec(rules(), 0..3)).prop_map(|(index, rules)| Step::ChangePolicy(index, rules)),
        1 => index().prop_map(Step::DeletePolicy),
        1 => index().prop_map(Step::DeleteNode),
        1 => (index(), listed_kinds(), any::<[u64; 3]>())
            .prop_map(|(index, kind, [one, two, three])| Step::Relist(index, kind, one | two | three)),
        1 => config_changes().prop_map(Step::Reconfigure),
    ]
}

fn listed_kinds() -> impl Strategy<Value = ListedKind> {
    use ListedKind::{Namespaces, Nodes, Pods, Policies};
    prop_oneof![3 => Just(Pods), 2 => Just(Namespaces), 2 => Just(Policies), 1 => Just(Nodes)]
}

fn pod_changes() -> impl Strategy<Value = PodChange> {
    prop_oneof![
        3 => pod_labels().prop_map(PodChange::Labels),
        2 => container_ports().prop_map(PodChange::Ports),
        2 => address_seeds().prop_map(PodChange::Addresses),
        2 => lifecycles().prop_map(PodChange::Lifecycle),
        1 => (0..3_u8).prop_map(|number| PodChange::Incarnation(format!("again#{number}").into())),
    ]
}

fn config_changes() -> impl Strategy<Value = ConfigChange> {
    prop_oneof![
        2 => configs().prop_map(ConfigChange::Whole),
        1 => scopes().prop_map(ConfigChange::Scope),
        1 => cluster_labels().prop_map(ConfigChange::ClusterLabels),
        2 => any::<Index>().prop_map(ConfigChange::Leave),
    ]
}

/// Events of objects that need not exist, and what changes nothing.
fn strays() -> impl Strategy<Value = Event> {
    prop_oneof![
        pod_objects().prop_map(|pod| Event::PodDeleted { key: pod.key, uid: pod.uid }),
        namespace_objects().prop_map(|namespace| Event::NamespaceDeleted(namespace.key)),
        policy_objects().prop_map(|policy| Event::PolicyDeleted(policy.key)),
        node_objects().prop_map(|node| Event::NodeDeleted(node.key)),
        pod_objects().prop_map(|pod| Event::Synced(pod.key.cluster)),
    ]
}

/// What was said so far, and the world that it made.
#[derive(Default)]
struct History {
    world: World,
    said: Vec<Event>,
    batch: Vec<Event>,
    batches: Vec<Vec<Event>>,
}

impl History {
    fn say(&mut self, event: Event) {
        self.world.apply(&event);
        self.said.push(event.clone());
        self.batch.push(event);
    }

    fn end_batch(&mut self) {
        if !self.batch.is_empty() {
            self.batches.push(std::mem::take(&mut self.batch));
        }
    }

    /// The events of a step; none when there is nothing to change.
    fn resolve(&self, step: Step) -> Vec<Event> {
        match step {
            Step::Say(event) => vec![event],
            Step::Repeat(index) => one(&self.said, index).cloned().into_iter().collect(),
            Step::ChangePod(index, change) => {
                self.pod(index).map(|pod| Event::PodApplied(changed(pod, change))).into_iter().collect()
            }
            Step::DeletePod(index) => {
                self.pod(index).map(|pod| Event::PodDeleted { key: pod.key, uid: pod.uid }).into_iter().collect()
            }
            Step::ReplacePod(index, mut new, gone_first) => {
                let Some(old) = self.pod(index) else { return Vec::new() };
                new.addresses.clone_from(&old.addresses);
                let deleted = Event::PodDeleted { key: old.key, uid: old.uid };
                let applied = Event::PodApplied(new);
                if gone_first { vec![deleted, applied] } else { vec![applied, deleted] }
            }
            Step::RelabelNamespace(index, labels) => {
                let known: Vec<_> = self.world.namespaces.values().collect();
                let namespace = one(&known, index).map(|known| (*known).clone());
                namespace
                    .map(|mut it| {
                        it.labels = labels;
                        Event::NamespaceApplied(it)
                    })
                    .into_iter()
                    .collect()
            }
            Step::DeleteNamespace(index) => {
                let known: Vec<_> = self.world.namespaces.keys().cloned().collect();
                one(&known, index).cloned().map(Event::NamespaceDeleted).into_iter().collect()
            }
            Step::ChangePolicy(index, rules) => {
                let known: Vec<_> = self.world.policies.values().collect();
                let policy = one(&known, index).map(|known| (*known).clone());
                policy
                    .map(|mut it| {
                        it.ingress = Some(rules);
                        Event::PolicyApplied(it)
                    })
                    .into_iter()
                    .collect()
            }
            Step::DeletePolicy(index) => {
                let known: Vec<_> = self.world.policies.keys().cloned().collect();
                one(&known, index).cloned().map(Event::PolicyDeleted).into_iter().collect()
            }
            Step::DeleteNode(index) => {
                let known: Vec<_> = self.world.nodes.keys().cloned().collect();
                one(&known, index).cloned().map(Event::NodeDeleted).into_iter().collect()
            }
            Step::Relist(index, kind, kept) => self.relisted(index, kind, kept).into_iter().collect(),
            Step::Reconfigure(change) => self.reconfigured(change).map(Event::Configured).into_iter().collect(),
        }
    }

    /// Some of what is known of the cluster of a pod; a bit says whether an object is kept.
    fn relisted(&self, index: Index, kind: ListedKind, kept: u64) -> Option<Event> {
        fn some<K: Clone + Ord>(known: impl Iterator<Item = K>, kept: u64) -> BTreeSet<K> {
            known.enumerate().filter(|(at, _)| kept >> (at % 64) & 1 == 1).map(|(_, key)| key).collect()
        }
        let cluster = self.pod(index)?.key.cluster;
        let World { config: _, namespaces, pods, nodes, policies, services: _, slices: _ } = &self.world;
        let listing = match kind {
            ListedKind::Namespaces => {
                Listing::Namespaces(some(namespaces.keys().filter(|key| key.cluster == cluster).cloned(), kept))
            }
            ListedKind::Pods => Listing::Pods(some(pods.keys().filter(|key| key.cluster == cluster).cloned(), kept)),
            ListedKind::Nodes => Listing::Nodes(some(nodes.keys().filter(|key| key.cluster == cluster).cloned(), kept)),
            ListedKind::Policies => {
                Listing::Policies(some(policies.keys().filter(|key| key.cluster == cluster).cloned(), kept))
            }
        };
        Some(Event::Relisted(cluster, listing))
    }

    fn pod(&self, index: Index) -> Option<Pod> {
        let known: Vec<&Pod> = self.world.pods.values().collect();
        one(&known, index).map(|pod| (*pod).clone())
    }

    fn reconfigured(&self, change: ConfigChange) -> Option<ClusterConfig> {
        let mut config = self.world.config.clone()?;
        match change {
            ConfigChange::Whole(whole) => config = whole,
            ConfigChange::Scope(scope) => config.default_scope = scope,
            ConfigChange::ClusterLabels(mode) => config.cluster_labels = mode,
            ConfigChange::Leave(index) => {
                let remote: Vec<ClusterId> =
                    config.members.iter().map(|member| member.id.clone()).filter(|id| *id != config.local).collect();
                let leaving = one(&remote, index)?;
                config.members.retain(|member| member.id != *leaving);
            }
        }
        Some(config)
    }
}

fn changed(mut pod: Pod, change: PodChange) -> Pod {
    match change {
        PodChange::Labels(labels) => pod.labels = labels,
        PodChange::Ports(ports) => pod.ports = ports,
        PodChange::Addresses(seed) => pod.addresses = seed.resolve(1),
        PodChange::Lifecycle(lifecycle) => pod.lifecycle = lifecycle,
        PodChange::Incarnation(uid) => pod.uid = uid,
    }
    pod
}

fn one<T>(of: &[T], index: Index) -> Option<&T> {
    if of.is_empty() { None } else { Some(index.get(of)) }
}
