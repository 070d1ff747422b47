//! Numbers and elements: none is used again while a packet, a slot or a flow could still mean what it was before.

use std::collections::{BTreeMap, BTreeSet};

use policy_common::table::{Endpoint, PortEntry, PortKey, RuleKey};
use policy_core::modelled::Flows;
use policy_core::plan::{Step, TableState, Write, address_tag};

/// What was taken away since the last grace period: packets on their way may have found it just before.
#[derive(Debug, Default)]
struct Taken {
    rules: BTreeSet<RuleKey>,
    port_tables: BTreeSet<u32>,
    endpoints: BTreeSet<u32>,
    /// Whether an element was deleted whose memory another one must not get yet.
    freed_endpoint: bool,
    freed_net: bool,
}

/// What is known of numbers.
#[derive(Debug, Default)]
pub struct Numbers {
    taken: Taken,
    /// The interface that each endpoint had last: there it may come back, as the same pod's.
    places: BTreeMap<u32, u32>,
}

impl Numbers {
    /// A step is about to be carried out.
    pub fn before(&mut self, tables: &TableState, flows: &Flows, step: &Step) -> Result<(), String> {
        match step {
            Step::Grace => self.taken = Taken::default(),
            Step::Flip(commit) if (1..=2).contains(&commit.wrapping_sub(tables.commit)) => {}
            Step::Flip(commit) => return Err(format!("the commit goes from {} to {commit}", tables.commit)),
            Step::Write(write) => return self.before_write(tables, flows, write),
        }
        Ok(())
    }

    fn before_write(&mut self, tables: &TableState, flows: &Flows, write: &Write) -> Result<(), String> {
        match write {
            Write::Endpoint(ifindex, Some(endpoint)) => self.endpoint(tables, flows, *ifindex, endpoint)?,
            Write::Endpoint(ifindex, None) => {
                self.taken.endpoints.extend(tables.endpoints.get(ifindex).map(|known| known.endpoint.id));
                self.taken.freed_endpoint = true;
            }
            Write::Rule(key, Some(entry)) => {
                if let Some(known) = tables.rules.get(key).filter(|known| *known != entry) {
                    return Err(format!("row {key:?} changes from {known:?} to {entry:?}"));
                }
                if self.taken.rules.contains(key) {
                    return Err(format!("row {key:?} comes back before a grace period"));
                }
            }
            Write::Rule(key, None) => drop(self.taken.rules.insert(*key)),
            Write::Port(key, Some(entry)) => self.port(tables, key, entry)?,
            Write::Port(key, None) => drop(self.taken.port_tables.insert(key.place.table)),
            Write::Net(prefix, Some(_)) => {
                if self.taken.freed_net && !tables.nets.contains_key(prefix) {
                    return Err(format!("prefix {prefix} comes before a grace period since another one went"));
                }
            }
            Write::Net(_, None) => self.taken.freed_net = true,
            Write::Ident(address, Some(ident)) => {
                if ident.slots.iter().any(|slot| slot.tag != address_tag(*address)) {
                    return Err(format!("the element of {address} carries another's tag: {ident:?}"));
                }
            }
            Write::Local(address, Some(local)) => {
                if local.tag != address_tag(*address) {
                    return Err(format!("the element of {address} carries another's tag: {local:?}"));
                }
            }
            Write::Ident(_, None) | Write::Local(_, None) | Write::ClearCounters(_) => {}
        }
        Ok(())
    }

    fn port(&self, tables: &TableState, key: &PortKey, entry: &PortEntry) -> Result<(), String> {
        let known = tables.ports.get(&key.place.table).and_then(|table| table.get(key));
        if let Some(known) = known.filter(|known| *known != entry) {
            return Err(format!("port {key:?} changes from {known:?} to {entry:?}"));
        }
        if self.taken.port_tables.contains(&key.place.table) {
            return Err(format!("port table {} comes back before a grace period", key.place.table));
        }
        Ok(())
    }

    fn endpoint(
        &mut self,
        tables: &TableState,
        flows: &Flows,
        ifindex: u32,
        endpoint: &Endpoint,
    ) -> Result<(), String> {
        let id = endpoint.endpoint.id;
        let words = endpoint.policy.iter().flat_map(|policy| [policy.egress, policy.ingress]);
        if endpoint.endpoint.tag != ifindex || words.clone().any(|word| word.tag != id) {
            return Err(format!("the element of interface {ifindex} carries another's tag: {endpoint:?}"));
        }
        let known = tables.endpoints.get(&ifindex);
        if known.is_none() && self.taken.freed_endpoint {
            return Err(format!("interface {ifindex} comes before a grace period since another one went"));
        }
        if known.is_some_and(|known| known.endpoint.id == id) {
            return Ok(());
        }
        if self.places.get(&id) == Some(&ifindex) {
            return Ok(());
        }
        self.places.insert(id, ifindex);
        if let Some(flow) = endpoints_of(flows).find(|endpoint| *endpoint == id) {
            return Err(format!("endpoint {flow} is given to interface {ifindex}, and a flow has it"));
        }
        let others = tables.endpoints.iter().filter(|(other, _)| **other != ifindex);
        if self.taken.endpoints.contains(&id) || others.clone().any(|(_, other)| other.endpoint.id == id) {
            return Err(format!("endpoint {id} is given to interface {ifindex}, and another one has it"));
        }
        if others.clone().any(|(_, other)| other.counters == endpoint.counters) {
            return Err(format!("counters {} are given to interface {ifindex} and another one", endpoint.counters));
        }
        self.taken.endpoints.extend(known.map(|known| known.endpoint.id));
        Ok(())
    }
}

/// The endpoints that flows and cuts are of.
fn endpoints_of(flows: &Flows) -> impl Iterator<Item = u32> {
    let v4 = flows.v4.flows.keys().chain(flows.v4.cuts.keys()).map(|key| key.endpoint);
    let v6 = flows.v6.flows.keys().chain(flows.v6.cuts.keys()).map(|key| key.endpoint);
    v4.chain(v6)
}

/// What slots name and no row has, when everything is quiet.
pub fn dangling(tables: &TableState) -> Option<String> {
    let mut counters = BTreeMap::new();
    for (ifindex, endpoint) in &tables.endpoints {
        if let Some(other) = counters.insert(endpoint.counters, ifindex) {
            return Some(format!("interfaces {other} and {ifindex} have the same counters"));
        }
        if endpoint.policy[0] != endpoint.policy[1] {
            return Some(format!("the slots of interface {ifindex} differ: {endpoint:?}"));
        }
    }
    let named: BTreeSet<u32> = tables.rules.values().map(|entry| entry.ports).collect();
    if let Some(table) = tables.ports.keys().find(|table| !named.contains(table)) {
        return Some(format!("no row names port table {table}"));
    }
    let uneven = tables.idents.iter().find(|(_, slots)| slots[0] != slots[1]);
    if let Some((address, slots)) = uneven {
        return Some(format!("the slots of {address} differ: {slots:?}"));
    }
    let uneven = tables.nets.iter().find(|(_, net)| net.slots[0] != net.slots[1]);
    uneven.map(|(prefix, net)| format!("the slots of {prefix} differ: {:?}", net.slots))
}
