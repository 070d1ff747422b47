//! The agent's tables in the kernel: reading them back, and one plan's writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use aya::Pod;
use aya::maps::{Map, MapData, PerCpuArray};
use aya::util::nr_cpus;
use ipnet::IpNet;
use policy_common::table::{
    Answer, Counter, Endpoint, EndpointCounters, Ident, Local, NetIdent, NetKey, PortEntry, PortKey, REASON_SLOTS,
    RuleEntry, RuleKey,
};
use policy_core::plan::{Step, TableState, Write};

use super::error::DatapathError;
use super::local_bits::LocalBits;
use super::nearby::NearbyTable;
use super::pins::Pins;
use super::sys::{BatchError, ControlPage, Cursor, GracePeriod, LocalBitsPage, NearbyPage, TypedMap};

/// A table of the agent's.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    name: &'static str,
    map: TypedMap<K, V>,
}

impl<K: Pod + Debug, V: Pod> Table<K, V> {
    pub(super) fn open(pins: &Pins, name: &'static str) -> Result<Self, DatapathError> {
        let failed = |source| DatapathError::Table { operation: "open".to_owned(), table: name, source };
        Ok(Self { name, map: TypedMap::new(pins.open_map(name)?).map_err(failed)? })
    }

    /// Inserts, replaces or (`None`) deletes elements, in order. All must be of one kind.
    ///
    /// On an error, tells how many are done.
    fn write(&self, elements: impl Iterator<Item = (K, Option<V>)>) -> Result<(), (usize, DatapathError)> {
        let (keys, values): (Vec<K>, Vec<Option<V>>) = elements.unzip();
        let values: Vec<V> = values.into_iter().flatten().collect();
        let (operation, outcome) = if values.is_empty() {
            ("delete from", self.delete(&keys))
        } else {
            ("write to", self.map.update(&keys, &values).map_err(|BatchError { done, source }| (done, source)))
        };
        outcome.map_err(|(done, source)| {
            let key = keys.get(done).map_or_else(String::new, |key| format!("{key:?} "));
            let operation = format!("{operation} {key}in");
            (done, DatapathError::Table { operation, table: self.name, source })
        })
    }

    /// Deletes elements; what is gone already is as it should be.
    pub(super) fn delete(&self, keys: &[K]) -> Result<(), (usize, std::io::Error)> {
        let mut begin = 0;
        while let Err(BatchError { done, source }) = self.map.delete(&keys[begin..]) {
            if source.raw_os_error() != Some(libc::ENOENT) {
                return Err((begin + done, source));
            }
            begin += done + 1;
            if begin >= keys.len() {
                break;
            }
        }
        Ok(())
    }

    /// Reads one element.
    pub(super) fn get(&self, key: &K) -> Result<Option<V>, DatapathError> {
        self.map.get(key).map_err(|source| self.unreadable(source))
    }

    /// Reads the next batch of elements; returns whether it was the last one.
    pub(super) fn read_batch(
        &self,
        cursor: &mut Cursor<K>,
        each: impl FnMut(&[K], &[V]),
    ) -> Result<bool, DatapathError> {
        self.map.read_batch(cursor, each).map_err(|source| self.unreadable(source))
    }

    /// Reads all elements.
    fn read_into(&self, mut take: impl FnMut((K, V))) -> Result<(), DatapathError> {
        let each = |keys: &[K], values: &[V]| {
            keys.iter().copied().zip(values.iter().copied()).for_each(&mut take);
        };
        self.map.read(each).map_err(|source| self.unreadable(source))
    }

    fn unreadable(&self, source: std::io::Error) -> DatapathError {
        DatapathError::Table { operation: "read".to_owned(), table: self.name, source }
    }

    /// The table's name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }
}

/// All tables that the agent writes.
///
/// Entries with an [`Answer`] stand here as the numbers that they are made of, because a map could hold any number.
pub(super) struct Tables {
    control: ControlPage,
    grace: GracePeriod,
    endpoints: Table<u32, Endpoint>,
    nearby: NearbyTable,
    local_bits: LocalBits,
    local_v4: Table<[u8; 4], Local>,
    local_v6: Table<[u8; 16], Local>,
    ident_v4: Table<[u8; 4], Ident>,
    ident_v6: Table<[u8; 16], Ident>,
    nets_v4: Table<NetKey<[u8; 4]>, NetIdent>,
    nets_v6: Table<NetKey<[u8; 16]>, NetIdent>,
    rules: Table<RuleKey, [u32; 3]>,
    ports: Table<PortKey, [u32; 2]>,
    counters: PerCpuArray<MapData, EndpointCounters>,
    cpus: usize,
}

/// What a write is to: writes of one kind can be made together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Endpoint,
    LocalV4,
    LocalV6,
    IdentV4,
    IdentV6,
    NetV4,
    NetV6,
    Rule,
    Port,
    Counters,
}

/// The kind of a write, and whether it deletes.
fn kind(write: &Write) -> (Kind, bool) {
    let family = |v4: bool, kinds: [Kind; 2]| if v4 { kinds[0] } else { kinds[1] };
    match write {
        Write::Endpoint(_, value) => (Kind::Endpoint, value.is_none()),
        Write::Local(address, value) => (family(address.is_ipv4(), [Kind::LocalV4, Kind::LocalV6]), value.is_none()),
        Write::Ident(address, value) => (family(address.is_ipv4(), [Kind::IdentV4, Kind::IdentV6]), value.is_none()),
        Write::Net(net, value) => (family(net.addr().is_ipv4(), [Kind::NetV4, Kind::NetV6]), value.is_none()),
        Write::Rule(_, value) => (Kind::Rule, value.is_none()),
        Write::Port(_, value) => (Kind::Port, value.is_none()),
        Write::ClearCounters(_) => (Kind::Counters, false),
    }
}

/// How many of the first steps are writes of one kind.
fn run_length(steps: &[Step]) -> usize {
    let Some(Step::Write(first)) = steps.first() else { return 0 };
    let alike = |step: &&Step| matches!(step, Step::Write(write) if kind(write) == kind(first));
    steps.iter().take_while(alike).count()
}

/// The identities in the two slots.
fn identities(ident: &Ident) -> [u32; 2] {
    ident.slots.map(|slot| slot.id)
}

impl Tables {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let unmapped = |table| move |source| DatapathError::Table { operation: "map".to_owned(), table, source };
        let control = ControlPage::map(pins.open_map("control")?.as_fd()).map_err(unmapped("control"))?;
        let nearby = NearbyPage::map(pins.open_map("nearby")?.as_fd()).map_err(unmapped("nearby"))?;
        let unusable = |source| DatapathError::Table { operation: "open".to_owned(), table: "counters", source };
        let local_bits = LocalBitsPage::map(pins.open_map("local_bits")?.as_fd()).map_err(unmapped("local_bits"))?;
        let counters = MapData::from_pin(pins.map("counters"))
            .and_then(|data| PerCpuArray::try_from(Map::from_map_data(data)?))
            .map_err(|error| unusable(std::io::Error::other(error)))?;
        let grace = GracePeriod::new();
        Ok(Self {
            control,
            grace: grace.map_err(|source| DatapathError::System { operation: "make a map of maps", source })?,
            endpoints: Table::open(pins, "endpoints")?,
            nearby: NearbyTable::new(nearby),
            local_bits: LocalBits::new(local_bits),
            local_v4: Table::open(pins, "local_v4")?,
            local_v6: Table::open(pins, "local_v6")?,
            ident_v4: Table::open(pins, "ident_v4")?,
            ident_v6: Table::open(pins, "ident_v6")?,
            nets_v4: Table::open(pins, "nets_v4")?,
            nets_v6: Table::open(pins, "nets_v6")?,
            rules: Table::open(pins, "rules")?,
            ports: Table::open(pins, "ports")?,
            counters,
            cpus: nr_cpus().map_err(|(operation, source)| DatapathError::System { operation, source })?,
        })
    }

    /// The word that says which slot is live, and who made the tables.
    pub(super) fn control(&self) -> &ControlPage {
        &self.control
    }

    /// Makes `nearby` and `local_bits` say what the tables do of which they tell, however they were left.
    pub(super) fn take_over(&mut self, state: &TableState) -> Result<(), DatapathError> {
        let addresses: Vec<IpAddr> = state.local.iter().map(|(address, _)| address).collect();
        self.local_bits.take_over(addresses.iter().copied());
        self.nearby.take_over(&state.endpoints);
        self.wait_for_grace()
    }

    /// What the tables hold.
    pub(super) fn read(&self) -> Result<TableState, DatapathError> {
        let mut state = TableState { commit: self.control.commit(), ..TableState::default() };
        self.endpoints.read_into(|element| state.endpoints.extend([element]))?;
        self.local_v4.read_into(|(address, local)| state.local.extend([(IpAddr::from(address), local)]))?;
        self.local_v6.read_into(|(address, local)| state.local.extend([(IpAddr::from(address), local)]))?;
        self.ident_v4
            .read_into(|(address, ident)| state.idents.extend([(IpAddr::from(address), identities(&ident))]))?;
        self.ident_v6
            .read_into(|(address, ident)| state.idents.extend([(IpAddr::from(address), identities(&ident))]))?;
        let mut strange = None;
        let mut take = |table, address: IpAddr, length: u32, ident| match u8::try_from(length)
            .ok()
            .and_then(|length| IpNet::new(address, length).ok())
        {
            Some(net) => state.nets.extend([(net, ident)]),
            None => strange = Some((table, format!("prefix {address}/{length}"))),
        };
        self.nets_v4.read_into(|(key, ident)| take("nets_v4", key.address.into(), key.prefix_len, ident))?;
        self.nets_v6.read_into(|(key, ident)| take("nets_v6", key.address.into(), key.prefix_len, ident))?;
        self.rules.read_into(|(key, entry)| match rule_entry(entry) {
            Some(entry) => state.rules.extend([(key, entry)]),
            None => strange = Some(("rules", format!("answer {} at {key:?}", entry[0]))),
        })?;
        self.ports.read_into(|(key, entry)| match port_entry(entry) {
            Some(entry) => state.ports.entry(key.place.table).or_default().extend([(key, entry)]),
            None => strange = Some(("ports", format!("answer {} at {key:?}", entry[0]))),
        })?;
        match strange {
            Some((table, what)) => Err(DatapathError::Corrupt { table, what }),
            None => Ok(state),
        }
    }

    /// Carries out steps in order, telling each that is done.
    pub(super) fn execute(&mut self, steps: &[Step], mut done: impl FnMut(&Step)) -> Result<(), DatapathError> {
        let mut rest = steps;
        while let Some(first) = rest.first() {
            let length = match first {
                Step::Flip(commit) => {
                    // Programs load the commit before the slots, in that order on x86 and perhaps not elsewhere: there
                    // all that may still have loaded a slot before it was staged end first.
                    #[cfg(not(target_arch = "x86_64"))]
                    self.wait_for_grace()?;
                    self.control.flip(*commit);
                    1
                }
                Step::Grace => {
                    self.wait_for_grace()?;
                    1
                }
                Step::Write(_) => {
                    let run = &rest[..run_length(rest)];
                    self.control.begin_writing();
                    let outcome = self.write(run);
                    self.control.end_writing();
                    if let Err((written, error)) = outcome {
                        run[..written].iter().for_each(&mut done);
                        return Err(error);
                    }
                    run.len()
                }
            };
            rest[..length].iter().for_each(&mut done);
            rest = &rest[length..];
        }
        Ok(())
    }

    fn wait_for_grace(&mut self) -> Result<(), DatapathError> {
        let waited = self.grace.wait();
        waited.map_err(|source| DatapathError::System { operation: "wait for a grace period", source })?;
        self.nearby.after_grace();
        Ok(())
    }

    /// Makes writes of one kind.
    fn write(&mut self, run: &[Step]) -> Result<(), (usize, DatapathError)> {
        let Some(Step::Write(first)) = run.first() else { return Ok(()) };
        let writes = || run.iter().filter_map(|step| if let Step::Write(write) = step { Some(*write) } else { None });
        macro_rules! elements {
            ($pattern:pat => $element:expr) => {
                writes().filter_map(|write| match write {
                    $pattern => Some($element),
                    _ => None,
                })
            };
        }
        match kind(first).0 {
            Kind::Endpoint => {
                let elements: Vec<(u32, Option<Endpoint>)> =
                    elements!(Write::Endpoint(key, value) => (key, value)).collect();
                elements.iter().for_each(|(ifindex, value)| self.nearby.before(*ifindex, value.as_ref()));
                let outcome = self.endpoints.write(elements.iter().copied());
                let written = outcome.as_ref().map_or_else(|(written, _)| *written, |()| elements.len());
                // Of several elements of one interface the last is the one that is there.
                let there: BTreeMap<u32, Option<Endpoint>> = elements[..written].iter().copied().collect();
                for (ifindex, endpoint) in there {
                    endpoint.iter().for_each(|endpoint| self.nearby.put(ifindex, endpoint));
                }
                outcome
            }
            kind @ (Kind::LocalV4 | Kind::LocalV6) => {
                let addresses: Vec<(IpAddr, bool)> =
                    elements!(Write::Local(address, value) => (address, value.is_some())).collect();
                let come = addresses.iter().filter(|(_, comes)| *comes);
                come.for_each(|(address, _)| self.local_bits.before(*address));
                if kind == Kind::LocalV4 {
                    self.local_v4.write(elements!(Write::Local(IpAddr::V4(key), value) => (key.octets(), value)))?;
                } else {
                    self.local_v6.write(elements!(Write::Local(IpAddr::V6(key), value) => (key.octets(), value)))?;
                }
                let gone = addresses.iter().filter(|(_, comes)| !*comes);
                gone.for_each(|(address, _)| self.local_bits.gone(*address));
                Ok(())
            }
            Kind::IdentV4 => {
                self.ident_v4.write(elements!(Write::Ident(IpAddr::V4(key), value) => (key.octets(), value)))
            }
            Kind::IdentV6 => {
                self.ident_v6.write(elements!(Write::Ident(IpAddr::V6(key), value) => (key.octets(), value)))
            }
            Kind::NetV4 => self.nets_v4.write(elements!(Write::Net(IpNet::V4(net), value) =>
                (NetKey { prefix_len: net.prefix_len().into(), address: net.network().octets() }, value))),
            Kind::NetV6 => self.nets_v6.write(elements!(Write::Net(IpNet::V6(net), value) =>
                (NetKey { prefix_len: net.prefix_len().into(), address: net.network().octets() }, value))),
            Kind::Rule => self.rules.write(elements!(Write::Rule(key, value) =>
                (key, value.map(|RuleEntry { answer, ports, rule }| [answer as u32, ports, rule])))),
            Kind::Port => self.ports.write(elements!(Write::Port(key, value) =>
                (key, value.map(|PortEntry { answer, rule }| [answer as u32, rule])))),
            Kind::Counters => {
                for (index, element) in elements!(Write::ClearCounters(element) => element).enumerate() {
                    self.clear_counters(element).map_err(|error| (index, error))?;
                }
                Ok(())
            }
        }
    }

    fn clear_counters(&mut self, element: u32) -> Result<(), DatapathError> {
        let zero = vec![NO_COUNTS; self.cpus].try_into();
        let cleared = zero
            .map_err(std::io::Error::other)
            .and_then(|values| self.counters.set(element, values, 0).map_err(std::io::Error::other));
        let operation = || format!("clear element {element} of");
        cleared.map_err(|source| DatapathError::Table { operation: operation(), table: "counters", source })
    }

    /// The sums of an element of `counters` over all CPUs.
    pub(super) fn counters(&self, element: u32) -> Result<Box<EndpointCounters>, DatapathError> {
        let cpus = self.counters.get(&element, 0).map_err(|error| DatapathError::Table {
            operation: format!("read element {element} of"),
            table: "counters",
            source: std::io::Error::other(error),
        })?;
        let mut sum = Box::new(NO_COUNTS);
        for cpu in cpus.iter() {
            let EndpointCounters { from_pod, to_pod } = cpu;
            add(&mut sum.from_pod, from_pod);
            add(&mut sum.to_pod, to_pod);
        }
        Ok(sum)
    }

    /// The ids of all endpoints.
    pub(super) fn endpoint_ids(&self) -> Result<BTreeSet<u32>, DatapathError> {
        let mut ids = BTreeSet::new();
        self.endpoints.read_into(|(_, endpoint)| ids.extend([endpoint.endpoint.id]))?;
        Ok(ids)
    }
}

const NO_COUNTS: EndpointCounters = EndpointCounters {
    from_pod: [Counter { packets: 0, bytes: 0 }; REASON_SLOTS],
    to_pod: [Counter { packets: 0, bytes: 0 }; REASON_SLOTS],
};

fn add(sum: &mut [Counter; REASON_SLOTS], counted: &[Counter; REASON_SLOTS]) {
    for (sum, Counter { packets, bytes }) in sum.iter_mut().zip(counted) {
        sum.packets = sum.packets.wrapping_add(*packets);
        sum.bytes = sum.bytes.wrapping_add(*bytes);
    }
}

fn answer(number: u32) -> Option<Answer> {
    [Answer::Deny, Answer::Allow, Answer::Ports].into_iter().find(|answer| *answer as u32 == number)
}

fn rule_entry([number, ports, rule]: [u32; 3]) -> Option<RuleEntry> {
    Some(RuleEntry { answer: answer(number)?, ports, rule })
}

fn port_entry([number, rule]: [u32; 2]) -> Option<PortEntry> {
    Some(PortEntry { answer: answer(number)?, rule })
}
