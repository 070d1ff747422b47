//! One round of the loop: find interfaces, commit, attach programs; and looking at the network anew.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use policy_common::table::IFINDEX_HOST;
use policy_core::index::Addresses;
use policy_core::model::{IssueCode, PodKey};
use policy_core::node::Attachment;
use policy_core::plan::{Plan, TableFull};
use tokio::time::Instant;

use super::control::Control;
use super::problems::News;
use super::seams::{Datapath, Discovery, Failure};
use crate::discovery::{Interface, Located};

/// What went wrong in a round: nothing, what was wrong before, or something new.
type Trouble = Option<News>;

fn worse(one: Trouble, other: Trouble) -> Trouble {
    match (one, other) {
        (Some(News::New), _) | (_, Some(News::New)) => Some(News::New),
        (one, other) => one.or(other),
    }
}

impl<D: Datapath, N: Discovery> Control<D, N> {
    /// The first round of this process.
    pub(super) fn settle_first(&mut self) {
        self.forget_interfaces();
        self.remember();
        self.settle(None);
    }

    /// Brings the kernel up to date; `since`: when the first of the changes came.
    pub(super) fn settle(&mut self, since: Option<Instant>) {
        let located = self.locate();
        self.commit_and_attach(located, since);
        self.tell_contests();
    }

    /// An interface that has the programs no more may be another one of the same number: one that comes out of a namespace
    /// keeps its number where that is free (`__dev_change_net_namespace` in net/core/dev.c), and packets have passed unjudged.
    fn forget_interfaces(&mut self) {
        let live = self.datapath.prune().unwrap_or_else(|failure| {
            tracing::warn!(
                "cannot tell which interfaces are still the same; connections are judged as new ones: {failure}"
            );
            BTreeSet::new()
        });
        self.node.inherit_only(&live);
    }

    /// Believes the tables of an earlier life about endpoints whose interfaces are still there: a quiet pod's neighbour
    /// entry may have expired meanwhile, and what a bridge has learned since, any of its pods may have taught it.
    fn remember(&mut self) {
        for (key, addresses) in self.detached() {
            let tables = self.node.tables();
            let mut held = addresses.iter().filter_map(|address| tables.local.get(address)).map(|local| local.ifindex);
            let held = held.find(|ifindex| *ifindex != IFINDEX_HOST && tables.endpoints.contains_key(ifindex));
            if let Some(ifindex) = held
                && let Ok(Some(interface)) = self.network.interface(ifindex)
            {
                self.take_interface(&key, interface);
            }
        }
    }

    /// The pods of this node whose interfaces are not known.
    fn detached(&self) -> Vec<(PodKey, Vec<IpAddr>)> {
        self.node.detached().map(|pod| (pod.key(), pod.addresses().into_vec())).collect()
    }

    fn commit_and_attach(&mut self, located: Trouble, since: Option<Instant>) {
        let committed = self.commit(since);
        let attached = self.attach();
        let now = Instant::now();
        let trouble = worse(worse(located, committed), attached);
        match trouble {
            None => self.backoff.succeeded(),
            Some(News::New) => self.backoff.failed_anew(now),
            Some(News::Known) => self.backoff.failed_again(now),
        }
        if trouble.is_some() {
            self.plan_say();
        }
    }

    /// Finds the interfaces of endpoints that have none yet.
    fn locate(&mut self) -> Trouble {
        self.network.refresh();
        let mut trouble = None;
        for (key, addresses) in self.detached() {
            let why = match self.network.locate(&addresses) {
                Ok(Located::At(interface)) => match self.another_is_behind(&interface, &key) {
                    None => {
                        self.take_interface(&key, interface);
                        continue;
                    }
                    Some(other) => format!("{} is {other}'s", interface.name),
                },
                Ok(Located::Nowhere(obstacle)) => obstacle.to_string(),
                Err(failure) => failure.to_string(),
            };
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let example = addresses.first().map_or("ADDRESS", String::as_str);
            let message = format!(
                "no interface of this node leads to {} ({why}): its packets are not judged until one does; if the pod runs \
                 here, see that its network plugin has set it up (`ip route get {example}`)",
                addresses.join(" and ")
            );
            let news = self.problems.pod(&key, IssueCode::NoInterface, message, Instant::now());
            trouble = worse(trouble, Some(news));
        }
        let (node, subjects) = (&self.node, self.node.compiler().subjects());
        self.problems
            .keep_pods(IssueCode::NoInterface, |key| subjects.contains_key(key) && !node.endpoints().contains_key(key));
        trouble
    }

    /// The pod that an interface is already known to be another's by. Behind which port of a bridge an address is, the
    /// pods themselves say, and one that sends under another's hardware address must not become that other. Where a
    /// route leads straight to an interface, the node itself says it.
    fn another_is_behind(&self, interface: &Interface, key: &PodKey) -> Option<PodKey> {
        let Attachment { ifindex, bridge } = interface.attachment;
        let is_there = self.node.endpoints().get(key).is_some_and(|known| known.attachment.ifindex == ifindex);
        bridge.filter(|_| !is_there).and_then(|_| self.node.stranger(ifindex, key)).cloned()
    }

    fn take_interface(&mut self, key: &PodKey, interface: Interface) {
        let Interface { attachment, name } = interface;
        if self.node.attach(key, attachment) {
            tracing::info!("{key} is behind {name} (interface {})", attachment.ifindex);
        }
        self.names.insert(attachment.ifindex, name);
    }

    /// Says which pods are found where others are.
    fn tell_contests(&mut self) {
        let node = &self.node;
        self.strays.retain(|key, _| node.endpoints().contains_key(key));
        let mut contests = self.strays.clone();
        for (ifindex, pods) in node.contested() {
            let name = self.names.get(&ifindex).map_or("", String::as_str);
            for pod in &pods {
                let others: Vec<String> = pods.iter().filter(|other| *other != pod).map(ToString::to_string).collect();
                let message = format!(
                    "{} of other addresses is found behind {name} (interface {ifindex}) too: nothing passes there until \
                     only one of them is; find out which of them sends under the other's hardware address",
                    others.join(" and ")
                );
                contests.insert((*pod).clone(), message);
            }
        }
        self.problems.keep_pods(IssueCode::ContestedInterface, |key| contests.contains_key(key));
        for (key, message) in contests {
            if self.problems.pod(&key, IssueCode::ContestedInterface, message, Instant::now()) == News::New {
                self.plan_say();
            }
        }
    }

    /// Makes the kernel's tables say what is known now.
    fn commit(&mut self, since: Option<Instant>) -> Trouble {
        let plan = match self.node.plan() {
            Ok(plan) => plan,
            Err(full @ TableFull { .. }) => {
                self.full = true;
                // What came since waits for the next change: trying again alone would change nothing.
                let plan = self.node.hold();
                if let Err(failure) = self.execute(&plan) {
                    return Some(self.problems.commit_failed(&failure, self.node.tables().commit));
                }
                self.problems.table_full(&full);
                self.plan_say();
                return None;
            }
        };
        self.full = false;
        if !plan.is_empty() {
            if let Err(failure) = self.execute(&plan) {
                return Some(self.problems.commit_failed(&failure, self.node.tables().commit));
            }
            let now = Instant::now();
            self.commits += 1;
            self.committed_at = Some(now);
            if let Some(since) = since {
                self.latency.observe((now - since).as_secs_f64());
            }
            tracing::debug!("commit {}: {} steps", self.node.tables().commit, plan.steps.len());
            self.heap.drop_plan(plan);
        }
        self.problems.committed();
        None
    }

    fn execute(&mut self, plan: &Plan) -> Result<(), Failure> {
        let node = &mut self.node;
        let executed = self.datapath.execute(plan, &mut |step| node.stepped(step));
        if executed.is_err() {
            self.node.abandon();
        }
        executed
    }

    /// Puts the programs on the interfaces of endpoints that the tables know. Where the tables are full, on those of all
    /// endpoints: what they do not know is not open, but shut.
    fn attach(&mut self) -> Trouble {
        let mut trouble = None;
        let mut attached = Vec::new();
        let mut failed = Vec::new();
        for (key, endpoint) in self.node.endpoints() {
            let ifindex = endpoint.attachment.ifindex;
            let known = self.full || self.node.tables().endpoints.contains_key(&ifindex);
            if !known || self.linked.contains(&ifindex) || attached.contains(&ifindex) {
                continue;
            }
            let name = self.names.get(&ifindex).cloned().unwrap_or_default();
            match self.datapath.attach(&Interface { attachment: endpoint.attachment, name }) {
                Ok(()) => attached.push(ifindex),
                Err(failure) => failed.push((key.clone(), failure)),
            }
        }
        self.linked.extend(attached);
        self.problems.keep_pods(IssueCode::AttachFailed, |key| failed.iter().any(|(failed, _)| failed == key));
        for (key, failure) in failed {
            let message = format!("its packets are not judged: {failure}");
            let news = self.problems.pod(&key, IssueCode::AttachFailed, message, Instant::now());
            trouble = worse(trouble, Some(news));
        }
        trouble
    }

    /// Learns the node's own addresses.
    pub(super) fn look_at_host(&mut self) {
        match self.network.host_addresses() {
            Ok(addresses) => self.node.set_host_addresses(addresses),
            Err(failure) => tracing::warn!("cannot tell the addresses of the node: {failure}"),
        }
    }

    /// Interfaces, routes or neighbours have changed: endpoints may be elsewhere, or gone.
    pub(super) fn look_again(&mut self) {
        self.look_at_host();
        let endpoints: Vec<(PodKey, Addresses, u32)> = self
            .node
            .endpoints()
            .iter()
            .map(|(key, endpoint)| (key.clone(), endpoint.addresses.clone(), endpoint.attachment.ifindex))
            .collect();
        self.network.refresh();
        self.strays.clear();
        for (key, addresses, ifindex) in endpoints {
            if let Ok(Located::At(interface)) = self.network.locate(&addresses) {
                let Some(other) = self.another_is_behind(&interface, &key) else {
                    self.take_interface(&key, interface);
                    continue;
                };
                let known = self.names.get(&ifindex).map_or("", String::as_str);
                let message = format!(
                    "it is found behind {}, which is {other}'s, and keeps {known}: {other} may be sending under its \
                     hardware address",
                    interface.name
                );
                self.strays.insert(key.clone(), message);
            }
            // An address that answers no more is no reason to give up its interface, as long as that exists.
            if let Ok(None) = self.network.interface(ifindex)
                && self.node.detach(&key)
            {
                tracing::info!("{key} has lost its interface {ifindex}");
            }
        }
        self.look_at_links();
    }

    /// Asks which interfaces really have the programs, whatever this process once attached: a number may be another
    /// interface's by now, and anybody may take a link off. Returns whether some have lost them.
    pub(super) fn look_at_links(&mut self) -> bool {
        let live = match self.datapath.prune() {
            Ok(live) => live,
            Err(failure) => {
                tracing::warn!(
                    "cannot tell which interfaces have lost the programs, nor remove what is left of those that are gone: {failure}"
                );
                return false;
            }
        };
        let lost: Vec<u32> = self.linked.difference(&live).copied().collect();
        for ifindex in &lost {
            self.linked.remove(ifindex);
            if let Ok(Some(Interface { name, .. })) = self.network.interface(*ifindex) {
                tracing::warn!("the programs on {name} (interface {ifindex}) are gone; they are attached again");
            }
        }
        let endpoints = self.node.endpoints();
        self.names.retain(|ifindex, _| endpoints.values().any(|it| it.attachment.ifindex == *ifindex));
        !lost.is_empty()
    }

    /// How long ago the last commit was made.
    pub(super) fn committed_ago(&self) -> Option<Duration> {
        self.committed_at.map(|committed| committed.elapsed())
    }
}
