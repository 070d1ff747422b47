//! A machine for tests: tables as ordinary maps, interfaces as told, and a log of what was done to them in which order.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use policy_common::table::{Counter, EndpointCounters, REASON_SLOTS};
use policy_core::node::Attachment;
use policy_core::plan::{Limits, Plan, Step, TableState, Write};
use tokio::sync::Notify;

use super::super::seams::{Datapath, Discovery, Failure};
use crate::datapath::Swept;
use crate::discovery::{Interface, Located, Obstacle};

/// What was done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// An endpoint was written to the tables.
    Endpoint(u32),
    /// The live slot moved.
    Flip,
    /// Programs were attached.
    Attached(u32),
}

#[derive(Debug, Default)]
pub struct State {
    pub tables: TableState,
    pub limits: Limits,
    pub interfaces: BTreeMap<u32, Interface>,
    pub routes: BTreeMap<IpAddr, u32>,
    pub hosts: BTreeSet<IpAddr>,
    pub done: Vec<Done>,
    pub steps: usize,
    /// The step, counted from now, that fails once.
    pub fails_in: Option<usize>,
    /// How many seconds have passed.
    pub ticks_s: u32,
    /// How many slices are left of a sweep.
    pub slices: usize,
    /// Interfaces that have the programs.
    pub links: BTreeSet<u32>,
    /// Interfaces to which nothing can be attached.
    pub refuses: BTreeSet<u32>,
    pub signal: Rc<Notify>,
}

/// Both halves of the machine, and the test's hand in it.
#[derive(Clone, Debug, Default)]
pub struct Machine(pub Rc<RefCell<State>>);

impl Machine {
    /// An interface behind which an address is.
    pub fn interface(&self, ifindex: u32, address: &str) -> &Self {
        let interface = Interface { attachment: Attachment { ifindex, bridge: None }, name: format!("veth{ifindex}") };
        let mut state = self.0.borrow_mut();
        state.interfaces.insert(ifindex, interface);
        state.routes.insert(address.parse().expect("an address"), ifindex);
        drop(state);
        self
    }

    /// A port of a bridge behind which an address is, as far as the bridge knows.
    pub fn port(&self, ifindex: u32, address: &str) -> &Self {
        self.interface(ifindex, address);
        if let Some(interface) = self.0.borrow_mut().interfaces.get_mut(&ifindex) {
            interface.attachment.bridge = Some(3);
        }
        self
    }

    /// The interface is gone, and with it its routes.
    pub fn unplug(&self, ifindex: u32) {
        let mut state = self.0.borrow_mut();
        state.interfaces.remove(&ifindex);
        state.links.remove(&ifindex);
        state.routes.retain(|_, route| *route != ifindex);
        state.signal.notify_one();
    }

    /// The network says that something has changed.
    pub fn signal(&self) {
        self.0.borrow().signal.notify_one();
    }

    pub fn done(&self) -> Vec<Done> {
        self.0.borrow().done.clone()
    }
}

impl Datapath for Machine {
    fn limits(&self) -> Limits {
        self.0.borrow().limits.clone()
    }

    fn execute(&mut self, plan: &Plan, done: &mut dyn FnMut(&Step)) -> Result<(), Failure> {
        let mut state = self.0.borrow_mut();
        for step in &plan.steps {
            match state.fails_in {
                Some(0) => {
                    state.fails_in = None;
                    return Err(Failure("no memory".to_owned()));
                }
                Some(left) => state.fails_in = Some(left - 1),
                None => {}
            }
            state.tables.step(step);
            state.steps += 1;
            match step {
                Step::Write(Write::Endpoint(ifindex, Some(_))) => state.done.push(Done::Endpoint(*ifindex)),
                Step::Flip(_) => state.done.push(Done::Flip),
                Step::Write(_) | Step::Grace => {}
            }
            done(step);
        }
        Ok(())
    }

    fn attach(&mut self, interface: &Interface) -> Result<(), Failure> {
        let ifindex = interface.attachment.ifindex;
        let mut state = self.0.borrow_mut();
        if state.refuses.contains(&ifindex) {
            return Err(Failure("it takes no programs".to_owned()));
        }
        state.done.push(Done::Attached(ifindex));
        state.links.insert(ifindex);
        Ok(())
    }

    fn prune(&mut self) -> Result<BTreeSet<u32>, Failure> {
        Ok(self.0.borrow().links.clone())
    }

    fn counters(&mut self, _element: u32) -> Result<Box<EndpointCounters>, Failure> {
        let none = [Counter::default(); REASON_SLOTS];
        Ok(Box::new(EndpointCounters { from_pod: none, to_pod: none }))
    }

    fn tick(&mut self, seconds: u32) {
        let mut state = self.0.borrow_mut();
        state.ticks_s = state.ticks_s.saturating_add(seconds);
    }

    fn sweep_flows(&mut self) -> Result<Swept, Failure> {
        let mut state = self.0.borrow_mut();
        state.slices = state.slices.saturating_sub(1);
        Ok(Swept { kept: 0, removed: 1, is_over: state.slices == 0 })
    }
}

impl Discovery for Machine {
    fn refresh(&mut self) {}

    fn locate(&mut self, addresses: &[IpAddr]) -> Result<Located, Failure> {
        let state = self.0.borrow();
        let routes = addresses.iter().filter_map(|address| state.routes.get(address));
        let found = routes.filter_map(|ifindex| state.interfaces.get(ifindex)).next();
        Ok(found.map_or(Located::Nowhere(Obstacle::NoRoute), |interface| Located::At(interface.clone())))
    }

    fn interface(&mut self, ifindex: u32) -> Result<Option<Interface>, Failure> {
        Ok(self.0.borrow().interfaces.get(&ifindex).cloned())
    }

    fn host_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Failure> {
        Ok(self.0.borrow().hosts.clone())
    }

    async fn changed(&mut self) {
        let signal = self.0.borrow().signal.clone();
        signal.notified().await;
    }
}
