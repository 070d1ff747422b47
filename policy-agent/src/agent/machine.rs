//! The machine that the agent runs on: the datapath and discovery behind the loop's two traits.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;

use policy_common::table::EndpointCounters;
use policy_core::plan::{Limits, Plan, Step};

use super::seams::{self, Failure};
use crate::datapath::{Datapath, Swept};
use crate::discovery::{Discovery, Interface, Located};

impl seams::Datapath for Datapath {
    fn limits(&self) -> Limits {
        self.limits().clone()
    }

    fn execute(&mut self, plan: &Plan, done: &mut dyn FnMut(&Step)) -> Result<(), Failure> {
        self.execute(plan, done).map_err(|error| Failure::of(&error))
    }

    fn attach(&mut self, interface: &Interface) -> Result<(), Failure> {
        self.attach(interface.attachment.ifindex, &interface.name).map_err(|error| Failure::of(&error))
    }

    fn prune(&mut self) -> Result<BTreeSet<u32>, Failure> {
        self.prune().map_err(|error| Failure::of(&error))
    }

    fn counters(&mut self, element: u32) -> Result<Box<EndpointCounters>, Failure> {
        Datapath::counters(self, element).map_err(|error| Failure::of(&error))
    }

    fn tick(&mut self, seconds: u32) {
        self.tick(seconds);
    }

    fn sweep_flows(&mut self) -> Result<Swept, Failure> {
        self.sweep_flows().map_err(|error| Failure::of(&error))
    }
}

impl seams::Discovery for Discovery {
    fn refresh(&mut self) {
        self.refresh();
    }

    fn locate(&mut self, addresses: &[IpAddr]) -> Result<Located, Failure> {
        self.locate(addresses).map_err(|error| Failure::of(&error))
    }

    fn interface(&mut self, ifindex: u32) -> Result<Option<Interface>, Failure> {
        self.interface(ifindex).map_err(|error| Failure::of(&error))
    }

    fn host_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Failure> {
        self.host_addresses().map_err(|error| Failure::of(&error))
    }

    fn changed(&mut self) -> impl Future<Output = ()> {
        self.changed()
    }
}
