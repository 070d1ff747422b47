//! All pods of all members, in the least memory in which they can be told apart: there may be a million of them, of
//! which this node has a few dozen.
//!
//! What pods of one Deployment share their group holds. What is left of a pod is a record of 48 bytes and the end of its
//! name; whoever needs a whole [`Pod`] gets it put together again.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use smallvec::SmallVec;
use uuid::Uuid;

use super::groups::{Group, GroupId, Groups, Share};
use super::names::{Name, Names};
use super::numbers;
use super::slots::{PIECE, Slots, split};
use crate::intern::Interner;
use crate::model::{ClusterId, ContainerPort, Labels, Lifecycle, NamespaceKey, Pod, PodKey, Text, Timestamp};

/// A pod's number inside the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodIndex(u32);

/// A pod's addresses, in the order in which the object has them.
pub type Addresses = SmallVec<[IpAddr; 2]>;

/// A number that the compiler notes of an address, with the pod whose it is: a table of its own would weigh more than a
/// third of all that is kept of the pod.
pub type Note = Option<NonZeroU32>;

/// What is kept of a pod alone.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
struct Record {
    /// Its name, without the stem of its group where [`flag::STEM`] says so.
    name: Name,
    flags: NonZeroU16,
    group: GroupId,
    node: u32,
    created_s: i64,
    v4: [u8; 4],
    /// Of the IPv4 address.
    note: Note,
    uid: [u8; 16],
}

const _: () = assert!(size_of::<Option<Record>>() == 48);

/// An IPv6 address.
#[derive(Clone, Copy, Debug, Default)]
struct V6 {
    address: [u8; 16],
    note: Note,
}

/// The node of a pod that is bound to none.
const NO_NODE: u32 = u32::MAX;

mod flag {
    /// Always set.
    pub const KNOWN: std::num::NonZeroU16 = std::num::NonZeroU16::MIN;
    /// The stem of the group stands before the name.
    pub const STEM: u16 = 256;
    pub const HOST_NETWORK: u16 = 2;
    pub const TERMINATING: u16 = 4;
    pub const FINISHED: u16 = 8;
    pub const V4: u16 = 16;
    pub const V6: u16 = 32;
    /// The IPv6 address stands first.
    pub const V6_FIRST: u16 = 64;
    /// The uid is no UUID, and the record holds its number.
    pub const UID_BY_NUMBER: u16 = 128;
    /// It says when it was made.
    pub const DATED: u16 = 512;
    /// And more exactly than to the second, which API servers do not.
    pub const FRACTION: u16 = 1024;
}

/// All pods.
#[derive(Debug, Default)]
pub struct Pods {
    records: Slots<Record>,
    /// By number, as far as any pod has one.
    v6: Vec<Box<[V6; PIECE]>>,
    names: Names,
    numbers: HashTable<PodIndex>,
    hasher: DefaultHashBuilder,
    nodes: Shared,
    uids: Shared,
    /// The nanoseconds of the times at which pods were made, where they have any.
    fractions: HashMap<PodIndex, u32>,
    groups: Groups,
}

/// Texts by number.
#[derive(Debug)]
struct Shared(Interner<Text>);

impl Default for Shared {
    fn default() -> Self {
        Self(Interner::starting_at(0))
    }
}

/// A pod as the index holds it.
#[derive(Clone, Copy, Debug)]
pub struct PodEntry<'a> {
    pods: &'a Pods,
    number: PodIndex,
    record: &'a Record,
    group: &'a Group,
}

/// What joining or leaving did to a pod's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// It had pods before, and has now.
    None,
    /// It did not exist before.
    Born(GroupId),
    /// It exists no more.
    Died(GroupId),
}

impl Pods {
    /// The groups.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// A pod by its number.
    pub fn get(&self, number: PodIndex) -> Option<PodEntry<'_>> {
        let record = self.records.get(number.0)?;
        Some(PodEntry { pods: self, number, record, group: self.groups.get(record.group)? })
    }

    /// A pod by its name.
    pub fn find(&self, key: &PodKey) -> Option<PodEntry<'_>> {
        let hash = self.hash(key.cluster.as_str(), &key.namespace, key.name.as_bytes());
        self.get(*self.numbers.find(hash, |number| self.get(*number).is_some_and(|entry| entry.is_named(key)))?)
    }

    /// All pods.
    pub fn iter(&self) -> impl Iterator<Item = PodEntry<'_>> {
        self.records.iter().filter_map(|(number, _)| self.get(PodIndex(number)))
    }

    /// Adds a pod whose name no other has.
    pub fn insert(&mut self, pod: &Pod) -> (PodIndex, GroupChange) {
        let group = self.groups.of(pod);
        let mut flags = flags(pod);
        let stem = self.groups.get(group).map_or("", |group| &*group.stem);
        let rest = pod.key.name.strip_prefix(stem).inspect(|_| flags |= flag::STEM);
        let name = self.names.add(rest.unwrap_or(&pod.key.name));
        let (uid, uid_flag) = self.uids.number_uid(&pod.uid);
        let record = Record {
            name,
            flags: flag::KNOWN | flags | uid_flag,
            group,
            node: pod.node.as_ref().map_or(NO_NODE, |node| self.nodes.0.acquire(node.clone()).0),
            created_s: pod.created.map_or(0, |created| created.s),
            v4: pod.addresses.iter().find_map(v4).unwrap_or_default(),
            note: None,
            uid,
        };
        let number = PodIndex(self.records.insert(record));
        if let Some(Timestamp { ns: ns @ 1.., .. }) = pod.created {
            self.fractions.insert(number, ns);
        }
        if let Some(address) = pod.addresses.iter().find_map(v6) {
            self.set_v6(number, address);
        }
        let hash = self.hash(pod.key.cluster.as_str(), &pod.key.namespace, pod.key.name.as_bytes());
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers::add(&mut numbers, hash, number, |number| self.hash_of(number));
        self.numbers = numbers;
        let is_born = self.groups.join(group, share(pod.is_workload(), number));
        (number, if is_born { GroupChange::Born(group) } else { GroupChange::None })
    }

    /// Takes a pod out.
    pub fn remove(&mut self, number: PodIndex) -> GroupChange {
        let Some(entry) = self.get(number) else { return GroupChange::None };
        let share = share(entry.is_workload(), number);
        let hash = self.hash_of(number);
        if let Ok(entry) = self.numbers.find_entry(hash, |candidate| *candidate == number) {
            entry.remove();
        }
        let Some(record) = self.records.remove(number.0) else { return GroupChange::None };
        if record.node != NO_NODE {
            self.nodes.0.release(record.node);
        }
        if record.flags.get() & flag::UID_BY_NUMBER != 0 {
            self.uids.0.release(uid_number(record.uid));
        }
        if record.flags.get() & flag::FRACTION != 0 {
            self.fractions.remove(&number);
        }
        self.names.remove(record.name);
        self.names.tidy(self.records.values_mut().map(|record| &mut record.name));
        let has_died = self.groups.leave(record.group, share);
        if has_died { GroupChange::Died(record.group) } else { GroupChange::None }
    }

    fn set_v6(&mut self, number: PodIndex, address: [u8; 16]) {
        let (piece, place) = split(number.0);
        while self.v6.len() <= piece {
            self.v6.push(Box::new([V6::default(); PIECE]));
        }
        self.v6[piece][place] = V6 { address, note: None };
    }

    fn v6(&self, number: PodIndex) -> Option<V6> {
        let (piece, place) = split(number.0);
        self.v6.get(piece).map(|piece| piece[place])
    }

    /// Notes something of the address that a pod has of a family; returns the note before.
    pub fn set_note(&mut self, number: PodIndex, is_v4: bool, note: Note) -> Note {
        let record = self.records.get_mut(number.0)?;
        if is_v4 {
            return std::mem::replace(&mut record.note, note);
        }
        let (piece, place) = split(number.0);
        self.v6.get_mut(piece).and_then(|piece| std::mem::replace(&mut piece[place].note, note))
    }

    fn hash(&self, cluster: &str, namespace: &str, name: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        (cluster, namespace).hash(&mut hasher);
        hasher.write(name);
        hasher.finish()
    }

    fn hash_of(&self, number: PodIndex) -> u64 {
        self.get(number).map_or(0, |entry| {
            let NamespaceKey { cluster, name: namespace } = entry.namespace();
            let mut name: SmallVec<[u8; 253]> = SmallVec::new();
            entry.name_parts().iter().for_each(|part| name.extend_from_slice(part.as_bytes()));
            self.hash(cluster.as_str(), namespace, &name)
        })
    }
}

impl Shared {
    /// A uid as a record holds it, and its flag.
    fn number_uid(&mut self, uid: &Text) -> ([u8; 16], u16) {
        if let Ok(parsed) = Uuid::try_parse(uid)
            && *parsed.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()) == **uid
        {
            return (parsed.into_bytes(), 0);
        }
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.0.acquire(uid.clone()).0.to_ne_bytes());
        (bytes, flag::UID_BY_NUMBER)
    }
}

fn uid_number([a, b, c, d, ..]: [u8; 16]) -> u32 {
    u32::from_ne_bytes([a, b, c, d])
}

fn share(is_workload: bool, number: PodIndex) -> Share {
    if is_workload { Share::Workload(number) } else { Share::Idle }
}

fn v4(address: &IpAddr) -> Option<[u8; 4]> {
    match address {
        IpAddr::V4(address) => Some(address.octets()),
        IpAddr::V6(_) => None,
    }
}

fn v6(address: &IpAddr) -> Option<[u8; 16]> {
    match address {
        IpAddr::V6(address) => Some(address.octets()),
        IpAddr::V4(_) => None,
    }
}

fn flags(pod: &Pod) -> u16 {
    let has = |is_so: bool, flag: u16| if is_so { flag } else { 0 };
    has(pod.host_network, flag::HOST_NETWORK)
        | has(pod.lifecycle == Lifecycle::Terminating, flag::TERMINATING)
        | has(pod.lifecycle == Lifecycle::Finished, flag::FINISHED)
        | has(pod.addresses.iter().any(IpAddr::is_ipv4), flag::V4)
        | has(pod.addresses.iter().any(IpAddr::is_ipv6), flag::V6)
        | has(pod.addresses.first().is_some_and(IpAddr::is_ipv6), flag::V6_FIRST)
        | has(pod.created.is_some(), flag::DATED)
        | has(pod.created.is_some_and(|created| created.ns != 0), flag::FRACTION)
}

impl<'a> PodEntry<'a> {
    /// Its number.
    pub fn number(self) -> PodIndex {
        self.number
    }

    /// Its cluster and namespace.
    pub fn namespace(self) -> &'a NamespaceKey {
        &self.group.key.namespace
    }

    /// Its cluster.
    pub fn cluster(self) -> &'a ClusterId {
        &self.namespace().cluster
    }

    /// Its name.
    pub fn name(self) -> String {
        self.name_parts().concat()
    }

    fn name_parts(self) -> [&'a str; 2] {
        let stem = if self.has(flag::STEM) { &*self.group.stem } else { "" };
        [stem, self.pods.names.get(self.record.name)]
    }

    /// What names it among all pods.
    pub fn key(self) -> PodKey {
        let NamespaceKey { cluster, name } = self.namespace();
        PodKey { cluster: cluster.clone(), namespace: name.clone(), name: self.name().into() }
    }

    /// Whether this is its name.
    pub fn is_named(self, key: &PodKey) -> bool {
        let own = self.pods.names.get(self.record.name);
        let rest = if self.has(flag::STEM) { key.name.strip_prefix(&*self.group.stem) } else { Some(&*key.name) };
        rest == Some(own) && self.namespace().name == key.namespace && *self.cluster() == key.cluster
    }

    /// Its labels, as the object has them.
    pub fn labels(self) -> &'a Labels {
        &self.group.key.labels
    }

    /// The ports of its containers, then of its init containers, in written order.
    pub fn ports(self) -> &'a [ContainerPort] {
        &self.group.key.ports
    }

    /// Its group, if it is a workload.
    pub fn group(self) -> Option<GroupId> {
        self.is_workload().then_some(self.record.group)
    }

    /// Its addresses, at most one of each family.
    pub fn addresses(self) -> Addresses {
        let v4 = self.has(flag::V4).then(|| IpAddr::from(Ipv4Addr::from(self.record.v4)));
        let v6 = self.v6().map(|address| IpAddr::from(Ipv6Addr::from(address)));
        let [first, second] = if self.has(flag::V6_FIRST) { [v6, v4] } else { [v4, v6] };
        first.into_iter().chain(second).collect()
    }

    /// Whether it has an address.
    pub fn has_address(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.has(flag::V4) && self.record.v4 == address.octets(),
            IpAddr::V6(address) => self.v6() == Some(address.octets()),
        }
    }

    /// The node it is bound to.
    pub fn node(self) -> Option<&'a Text> {
        self.pods.nodes.0.get(self.record.node).map(|node| &**node)
    }

    /// Whether it shares its node's network.
    pub fn is_host_network(self) -> bool {
        self.has(flag::HOST_NETWORK)
    }

    /// Where it stands in its life.
    pub fn lifecycle(self) -> Lifecycle {
        if self.has(flag::FINISHED) {
            Lifecycle::Finished
        } else if self.has(flag::TERMINATING) {
            Lifecycle::Terminating
        } else {
            Lifecycle::Live
        }
    }

    /// When it was made.
    pub fn created(self) -> Option<Timestamp> {
        let fraction = self.has(flag::FRACTION).then(|| self.pods.fractions.get(&self.number).copied()).flatten();
        self.has(flag::DATED).then_some(Timestamp { s: self.record.created_s, ns: fraction.unwrap_or_default() })
    }

    /// Which of all pods that ever had this name.
    pub fn uid(self) -> Text {
        let Record { uid, .. } = *self.record;
        if self.has(flag::UID_BY_NUMBER) {
            return self.pods.uids.0.get(uid_number(uid)).map(|uid| (**uid).clone()).unwrap_or_default();
        }
        (&*Uuid::from_bytes(uid).as_hyphenated().encode_lower(&mut Uuid::encode_buffer())).into()
    }

    /// Whether policies can speak of it: it has an address of its own and has not finished.
    pub fn is_workload(self) -> bool {
        !self.has(flag::HOST_NETWORK | flag::FINISHED) && self.has(flag::V4 | flag::V6)
    }

    /// The whole pod.
    pub fn to_pod(self) -> Pod {
        Pod {
            key: self.key(),
            uid: self.uid(),
            labels: self.labels().clone(),
            addresses: self.addresses().into_vec(),
            ports: self.ports().to_vec(),
            node: self.node().cloned(),
            host_network: self.is_host_network(),
            lifecycle: self.lifecycle(),
            created: self.created(),
        }
    }

    /// Whether it is this pod, just so.
    pub fn is(self, pod: &Pod) -> bool {
        self.is_named(&pod.key)
            && self.uid() == pod.uid
            && *self.labels() == pod.labels
            && *self.addresses() == *pod.addresses
            && *self.ports() == *pod.ports
            && self.node() == pod.node.as_ref()
            && self.is_host_network() == pod.host_network
            && self.lifecycle() == pod.lifecycle
            && self.created() == pod.created
    }

    fn has(self, flags: u16) -> bool {
        self.record.flags.get() & flags != 0
    }

    /// What is noted of one of its addresses.
    pub fn note(self, address: IpAddr) -> Note {
        match address {
            _ if !self.has_address(address) => None,
            IpAddr::V4(_) => self.record.note,
            IpAddr::V6(_) => self.pods.v6(self.number)?.note,
        }
    }

    fn v6(self) -> Option<[u8; 16]> {
        self.has(flag::V6).then(|| self.pods.v6(self.number)).flatten().map(|v6| v6.address)
    }
}
