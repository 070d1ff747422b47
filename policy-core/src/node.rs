//! One node's enforcement: the compiler, the interfaces of its endpoints, and the plan that makes tables say so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};
use policy_common::table::{Endpoint, HAS_V4, HAS_V6, IFINDEX_HOST, Local, POLICY_HOLD, POLICY_OPEN};

use crate::compile::{Compiler, PolicyId, Subjects};
use crate::index::{Addresses, PodEntry};
use crate::model::{ClusterConfig, Direction, Event, PodKey, Text};
use crate::plan::{DesiredEndpoint, Goal, Limits, Own, Plan, Step, Table, TableFull, TableState, Write, address_tag};

/// The host side of an endpoint's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The interface.
    pub ifindex: u32,
    /// The bridge that it is a port of.
    pub bridge: Option<u32>,
}

/// The id of an endpoint: one pod's life on one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u32);

/// An endpoint: a subject whose interface is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedEndpoint {
    /// Its id.
    pub id: EndpointId,
    /// The pod's uid.
    pub uid: Text,
    /// Its addresses; with others it is another endpoint, on another interface.
    pub addresses: Addresses,
    /// Its interface.
    pub attachment: Attachment,
    /// Its element of `counters`, which the next plan tells.
    pub counters: u32,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    compiler: Compiler,
    endpoints: BTreeMap<PodKey, AttachedEndpoint>,
    host_addresses: BTreeSet<IpAddr>,
    limits: Limits,
    tables: TableState,
    next_endpoint: u32,
    /// Endpoints that the tables held before this process began, by ifindex: they keep their ids.
    inherited: BTreeMap<u32, Endpoint>,
    /// Whether a plan was cut off, so that the tables must be compared everywhere.
    unsettled: bool,
    /// Whether a plan may have been cut off between its only write and the flip that tells live connections of it.
    owes_flip: bool,
    /// Whether the tables may say anything else of this node's own endpoints and addresses than they should.
    own_moved: bool,
    /// Whether packets may still read what was deleted last.
    owes_grace: bool,
}

impl Node {
    /// A node whose tables hold `tables`, before any event.
    pub fn new(config: ClusterConfig, subjects: Subjects, tables: TableState, limits: Limits) -> Self {
        let mut compiler = Compiler::new(config, subjects);
        // The highest of all means something of its own (`POLICY_HOLD`, `IDENTITY_ABSENT`).
        let highest = |numbers: &mut dyn Iterator<Item = u32>| {
            numbers.filter(|number| *number != u32::MAX).max().unwrap_or_default()
        };
        let pointed = tables.idents.identities();
        let pointed = pointed.chain(tables.nets.values().flat_map(|net| net.slots));
        let held = tables.endpoints.values().flat_map(|endpoint| endpoint.policy);
        let held = held.flat_map(|policy| [policy.egress.id, policy.ingress.id]);
        let port_rules = tables.ports.values().flat_map(BTreeMap::values).map(|entry| entry.rule);
        compiler.skip_numbers(
            highest(&mut tables.rules.keys().map(|key| key.identity).chain(pointed)),
            highest(&mut tables.rules.keys().map(|key| key.policy).chain(held)),
            highest(&mut tables.ports.keys().copied().chain(tables.rules.values().map(|entry| entry.ports))),
            highest(&mut tables.rules.values().map(|entry| entry.rule).chain(port_rules)),
        );
        // Whoever had the tables before may have been cut off anywhere.
        let is_left = tables != TableState::default();
        let next_endpoint = 1 + highest(&mut tables.endpoints.values().map(|endpoint| endpoint.endpoint.id));
        Self {
            compiler,
            endpoints: BTreeMap::new(),
            host_addresses: BTreeSet::new(),
            limits,
            inherited: tables.endpoints.clone(),
            unsettled: is_left,
            owes_flip: is_left,
            owes_grace: is_left,
            tables,
            next_endpoint,
            own_moved: true,
        }
    }

    /// What the node knows and has compiled.
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// What the tables hold.
    pub fn tables(&self) -> &TableState {
        &self.tables
    }

    /// The endpoints, by pod.
    pub fn endpoints(&self) -> &BTreeMap<PodKey, AttachedEndpoint> {
        &self.endpoints
    }

    /// Leaves only to these interfaces the numbers that their endpoints had before this process began, and with them their
    /// connections: others may be new ones.
    pub fn inherit_only(&mut self, interfaces: &BTreeSet<u32>) {
        self.inherited.retain(|ifindex, _| interfaces.contains(ifindex));
    }

    /// Takes a batch of events as one step.
    pub fn apply<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) {
        self.compiler.apply(events);
        let moved = &self.compiler.dirty().subjects;
        if moved.is_empty() {
            return;
        }
        self.own_moved = true;
        let Self { compiler, endpoints, inherited, .. } = self;
        endpoints.retain(|key, endpoint| {
            let same = |pod: PodEntry<'_>| pod.uid() == endpoint.uid && pod.addresses() == endpoint.addresses;
            let stays = compiler.subjects().contains_key(key) && compiler.pod(key).is_some_and(same);
            if !stays {
                inherited.remove(&endpoint.attachment.ifindex);
            }
            stays
        });
    }

    /// The subjects whose interface is not known, or may be another one than known.
    pub fn detached(&self) -> impl Iterator<Item = PodEntry<'_>> {
        let detached = self.compiler.subjects().keys().filter(|key| !self.endpoints.contains_key(*key));
        detached.filter_map(|key| self.compiler.pod(key))
    }

    /// Tells the interface of a subject; returns whether that is news. A pod that is no subject is left alone.
    pub fn attach(&mut self, key: &PodKey, attachment: Attachment) -> bool {
        let Some(pod) = self.compiler.pod(key).filter(|_| self.compiler.subjects().contains_key(key)) else {
            return false;
        };
        if let Some(known) = self.endpoints.get_mut(key)
            && known.uid == pod.uid()
            && known.attachment.ifindex == attachment.ifindex
        {
            let news = known.attachment != attachment;
            known.attachment = attachment;
            self.own_moved |= news;
            return news;
        }
        let (uid, addresses) = (pod.uid(), pod.addresses());
        self.detach(key);
        let id = EndpointId(self.number_behind(attachment.ifindex, key));
        let endpoint = AttachedEndpoint { id, uid, addresses, attachment, counters: 0 };
        self.endpoints.insert(key.clone(), endpoint);
        self.own_moved = true;
        true
    }

    /// The interface of a pod is gone.
    pub fn detach(&mut self, key: &PodKey) -> bool {
        let Some(known) = self.endpoints.remove(key) else { return false };
        self.inherited.remove(&known.attachment.ifindex);
        self.own_moved = true;
        true
    }

    /// Tells the addresses of the node itself.
    pub fn set_host_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.own_moved |= self.host_addresses != addresses;
        self.host_addresses = addresses;
    }

    /// The plan that makes the tables say what is known now.
    ///
    /// Each of its steps must be told by [`Self::stepped`] once it is carried out, or the plan given up by
    /// [`Self::abandon`]. A plan that does not fit is not made: what it was for is tried again with the next change, and
    /// meanwhile [`Self::hold`] tells what can be done for new endpoints.
    pub fn plan(&mut self) -> Result<Plan, TableFull> {
        let dirty = self.compiler.take_dirty();
        let own = (self.own_moved || self.unsettled).then(|| self.own());
        let goal = Goal { compiler: &self.compiler, own: own.as_ref() };
        let everywhere;
        let places = if self.unsettled {
            everywhere = goal.everywhere(&self.tables);
            &everywhere
        } else {
            &dirty
        };
        let mut plan = match goal.plan(&self.tables, places, &self.limits) {
            Ok(plan) => plan,
            Err(full) => {
                self.compiler.put_back(dirty);
                return Err(full);
            }
        };
        // What is written at one blow has changed verdicts before the flip that tells live connections.
        if std::mem::take(&mut self.owes_flip) && plan.commit().is_none() {
            plan.steps.insert(0, Step::Flip(self.tables.commit + 2));
        }
        self.unsettled = false;
        self.own_moved = false;
        // From now on the numbers are of those who have them: whoever comes later has other connections.
        self.inherited.clear();
        self.pay_grace(&mut plan);
        Ok(plan)
    }

    /// The plan that only makes endpoints known which the tables do not have yet, held, as many as there is room for:
    /// unlike one that the tables do not know, a held endpoint can be found by its neighbours, and nothing else passes.
    pub fn hold(&mut self) -> Plan {
        let goal = self.desired_endpoints();
        let mut room = self.limits.room(Table::Endpoints, &self.tables);
        let mut steps = Vec::new();
        if std::mem::take(&mut self.owes_flip) {
            steps.push(Step::Flip(self.tables.commit + 2));
        }
        for (ifindex, wanted) in goal {
            let known = self.tables.endpoints.get(&ifindex);
            if known.is_some_and(|known| known.endpoint.id == wanted.id) {
                continue;
            }
            if known.is_none() {
                let Some(left) = room.checked_sub(1) else { continue };
                room = left;
            }
            steps.push(Step::Write(Write::ClearCounters(wanted.counters)));
            steps.push(Step::Write(Write::Endpoint(ifindex, Some(wanted.held(ifindex)))));
        }
        let mut plan = Plan { steps };
        self.pay_grace(&mut plan);
        plan
    }

    /// Whoever was cut off may just have deleted what a plan adds, this one or the first after it that adds anything.
    fn pay_grace(&mut self, plan: &mut Plan) {
        if self.owes_grace && !plan.is_empty() {
            plan.steps.insert(0, Step::Grace);
            self.owes_grace = false;
        }
    }

    /// A step of the plan has been carried out.
    pub fn stepped(&mut self, step: &Step) {
        self.tables.step(step);
    }

    /// The plan was cut off: the next one compares everything, and the next that does anything waits first.
    pub fn abandon(&mut self) {
        self.unsettled = true;
        self.owes_flip = true;
        self.owes_grace = true;
    }

    /// Plans, and carries the plan out on the modelled tables alone.
    pub fn settle(&mut self) -> Result<Plan, TableFull> {
        let plan = self.plan()?;
        for step in &plan.steps {
            self.stepped(step);
        }
        Ok(plan)
    }

    /// The number of a pod that is found behind an interface: what an earlier process gave to a pod of its addresses there,
    /// or the next one. If several are found there, it is for the one that owns them, which may be found later, but before
    /// the first plan.
    fn number_behind(&mut self, ifindex: u32, key: &PodKey) -> u32 {
        let next = self.next_endpoint;
        let Some(number) = self.inherited_number(ifindex, key) else {
            self.next_endpoint += 1;
            return next;
        };
        let Self { compiler, endpoints, .. } = self;
        let holder = endpoints.values_mut().find(|other| other.attachment.ifindex == ifindex && other.id.0 == number);
        self.next_endpoint += u32::from(holder.is_some());
        if compiler.pod(key).is_some_and(|pod| is_overruled(compiler, pod)) {
            return if holder.is_some() { next } else { number };
        }
        if let Some(holder) = holder {
            holder.id = EndpointId(next);
        }
        self.inherited.remove(&ifindex);
        number
    }

    /// The number that an earlier process gave to a pod of these addresses behind an interface. It stays as long as the
    /// tables hold it: after that another's flows may have it.
    fn inherited_number(&self, ifindex: u32, key: &PodKey) -> Option<u32> {
        let inherited = self.inherited.get(&ifindex)?;
        let known = self.tables.endpoints.get(&ifindex).filter(|known| known.endpoint == inherited.endpoint)?;
        let (v4, v6) = addresses(self.compiler.pod(key)?);
        has_addresses(known, v4, v6).then_some(known.endpoint.id)
    }

    /// Gives each interface its element of `counters`: the one that it has in the tables, else the lowest that is nobody's
    /// there. So as many elements are enough as there are elements of `endpoints`.
    fn number_counters(&mut self) {
        let Self { endpoints, tables, .. } = self;
        let used: HashSet<u32> = tables.endpoints.values().map(|endpoint| endpoint.counters).collect();
        let mut free = (0..).filter(|element| !used.contains(element));
        let mut given: HashMap<u32, u32> =
            tables.endpoints.iter().map(|(ifindex, it)| (*ifindex, it.counters)).collect();
        for endpoint in endpoints.values_mut() {
            let ifindex = endpoint.attachment.ifindex;
            endpoint.counters = *given.entry(ifindex).or_insert_with(|| free.next().unwrap_or_default());
        }
    }

    /// The pods behind each interface, with their endpoints.
    fn by_interface(&self) -> BTreeMap<u32, Vec<(PodEntry<'_>, &AttachedEndpoint)>> {
        let mut behind: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (key, endpoint) in &self.endpoints {
            if let Some(pod) = self.compiler.pod(key) {
                behind.entry(endpoint.attachment.ifindex).or_default().push((pod, endpoint));
            }
        }
        behind
    }

    /// The interfaces behind which several pods are found that each own an address: whoever sends there could be any of
    /// them.
    pub fn contested(&self) -> BTreeMap<u32, Vec<PodKey>> {
        let mut contested = BTreeMap::new();
        for (ifindex, pods) in self.by_interface() {
            let owners = pods.into_iter().map(|(pod, _)| pod).filter(|pod| self.owns_an_address(*pod));
            let owners: Vec<PodKey> = owners.map(PodEntry::key).collect();
            if owners.len() > 1 {
                contested.insert(ifindex, owners);
            }
        }
        contested
    }

    /// The pod that the tables know behind an interface, if it shares no address with the one of this name.
    pub fn stranger(&self, ifindex: u32, to: &PodKey) -> Option<&PodKey> {
        let known = self.tables.endpoints.get(&ifindex)?.endpoint.id;
        let own = self.compiler.pod(to)?.addresses();
        let is_strange = |endpoint: &AttachedEndpoint| {
            endpoint.attachment.ifindex == ifindex
                && endpoint.id.0 == known
                && !endpoint.addresses.iter().any(|address| own.contains(address))
        };
        self.endpoints.iter().find(|(key, endpoint)| *key != to && is_strange(endpoint)).map(|(key, _)| key)
    }

    fn own(&mut self) -> Own {
        self.number_counters();
        Own { endpoints: self.desired_endpoints(), local: self.desired_local() }
    }

    fn desired_endpoints(&self) -> BTreeMap<u32, DesiredEndpoint> {
        let mut desired = BTreeMap::new();
        for (ifindex, pods) in self.by_interface() {
            // Two pods behind one interface claim one address: its owner decides. Without an owner, or with several,
            // nothing passes.
            let mut owners = pods.iter().filter(|(pod, _)| self.owns_an_address(*pod));
            let decides = match (pods.as_slice(), owners.next(), owners.next()) {
                ([alone], ..) => Some(alone),
                (_, Some(owner), None) => Some(owner),
                _ => None,
            };
            let wanted = match decides {
                Some((pod, endpoint)) => self.desired_endpoint(*pod, endpoint),
                None => {
                    let (pod, endpoint) = pods[0];
                    DesiredEndpoint { policies: [POLICY_HOLD; 2], ..self.desired_endpoint(pod, endpoint) }
                }
            };
            desired.insert(ifindex, wanted);
        }
        desired
    }

    fn owns(&self, pod: PodEntry<'_>, address: IpAddr) -> bool {
        self.compiler.index().owner(address).is_some_and(|owner| owner.number() == pod.number())
    }

    fn owns_an_address(&self, pod: PodEntry<'_>) -> bool {
        pod.addresses().into_iter().any(|address| self.owns(pod, address))
    }

    fn desired_endpoint(&self, pod: PodEntry<'_>, endpoint: &AttachedEndpoint) -> DesiredEndpoint {
        let subject = self.compiler.subjects().get(&pod.key());
        let policy =
            |direction| subject.and_then(|subject| subject.policy(direction)).map_or(POLICY_OPEN, |PolicyId(id)| id);
        let (v4, v6) = addresses(pod);
        DesiredEndpoint {
            id: endpoint.id.0,
            policies: Direction::BOTH.map(policy),
            counters: endpoint.counters,
            v4,
            v6,
        }
    }

    fn desired_local(&self) -> BTreeMap<IpAddr, Local> {
        let local = |address, ifindex, bridge| Local { tag: address_tag(address), ifindex, bridge, reserved: 0 };
        let mut desired = BTreeMap::new();
        for (key, endpoint) in &self.endpoints {
            let Attachment { ifindex, bridge } = endpoint.attachment;
            let Some(pod) = self.compiler.pod(key) else { continue };
            for address in pod.addresses() {
                // Of several pods that claim it, its owner has it.
                if self.owns(pod, address) || !desired.contains_key(&address) {
                    desired.insert(address, local(address, ifindex, bridge.unwrap_or_default()));
                }
            }
        }
        // An address of the node is the node's, whatever a pod says.
        desired.extend(self.host_addresses.iter().map(|address| (*address, local(*address, IFINDEX_HOST, 0))));
        desired
    }
}

/// Whether another pod of this node has the same addresses and owns one of them: if both are found behind one interface,
/// it is the other's.
fn is_overruled(compiler: &Compiler, pod: PodEntry<'_>) -> bool {
    let owners = pod.addresses().into_iter().filter_map(|address| compiler.index().owner(address));
    let mut others = owners.filter(|owner| owner.number() != pod.number());
    others.any(|owner| compiler.subjects().contains_key(&owner.key()) && addresses(owner) == addresses(pod))
}

fn addresses(pod: PodEntry<'_>) -> (Option<[u8; 4]>, Option<[u8; 16]>) {
    let v4 = pod.addresses().iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(address.octets()),
        IpAddr::V6(_) => None,
    });
    let v6 = pod.addresses().iter().find_map(|address| match address {
        IpAddr::V6(address) => Some(address.octets()),
        IpAddr::V4(_) => None,
    });
    (v4, v6)
}

fn has_addresses(endpoint: &Endpoint, v4: Option<[u8; 4]>, v6: Option<[u8; 16]>) -> bool {
    (endpoint.flags & HAS_V4 != 0).then_some(endpoint.v4) == v4
        && (endpoint.flags & HAS_V6 != 0).then_some(endpoint.v6) == v6
}
