//! The modelled network of the node: which interface leads to which address. It outlives the agent.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use policy_agent::agent::{Discovery, Failure};
use policy_agent::discovery::{Interface, Located, Obstacle};
use policy_core::node::Attachment;
use tokio::sync::Notify;

use crate::script::{BRIDGE, Refusal};

/// Interfaces and routes.
#[derive(Debug, Default)]
pub struct Network {
    /// Whether interfaces are ports of a bridge.
    pub bridged: bool,
    /// What there is.
    pub interfaces: BTreeSet<u32>,
    /// By address, the interface that leads there.
    pub routes: BTreeMap<IpAddr, u32>,
    /// The node's own addresses.
    pub hosts: BTreeSet<IpAddr>,
    /// What is refused, how many times.
    pub refusals: BTreeMap<Refusal, usize>,
    /// Interfaces about which something changed while this agent lived, or before it as far as it can tell.
    pub touched: BTreeSet<u32>,
    /// Tells that something has changed.
    pub signal: Rc<Notify>,
}

impl Network {
    /// Addresses are behind an interface from now on.
    pub fn plug(&mut self, ifindex: u32, addresses: &[IpAddr]) {
        self.interfaces.insert(ifindex);
        self.touched.insert(ifindex);
        for address in addresses {
            self.touched.extend(self.routes.insert(*address, ifindex));
        }
    }

    /// An interface is gone.
    pub fn unplug(&mut self, ifindex: u32) {
        self.interfaces.remove(&ifindex);
        self.routes.retain(|_, route| *route != ifindex);
        self.touched.insert(ifindex);
    }

    /// Whether this is refused now.
    pub fn refuses(&mut self, refusal: Refusal) -> Result<(), Failure> {
        match self.refusals.get_mut(&refusal) {
            Some(times) if *times > 0 => {
                *times -= 1;
                Err(Failure(format!("{refusal:?} is refused")))
            }
            _ => Ok(()),
        }
    }

    fn interface(&self, ifindex: u32) -> Option<Interface> {
        let bridge = self.bridged.then_some(BRIDGE);
        let interface = Interface { attachment: Attachment { ifindex, bridge }, name: format!("veth{ifindex}") };
        self.interfaces.contains(&ifindex).then_some(interface)
    }

    /// The bridge of an interface, 0 without one.
    pub fn bridge(&self) -> u32 {
        if self.bridged { BRIDGE } else { 0 }
    }
}

/// An agent's eyes on the network.
#[derive(Clone, Debug)]
pub struct Eyes(pub Rc<RefCell<Network>>);

impl Discovery for Eyes {
    fn refresh(&mut self) {}

    fn locate(&mut self, addresses: &[IpAddr]) -> Result<Located, Failure> {
        let mut network = self.0.borrow_mut();
        network.refuses(Refusal::Locate)?;
        let found: BTreeSet<u32> =
            addresses.iter().filter_map(|address| network.routes.get(address)).copied().collect();
        match (found.first(), found.len()) {
            (Some(ifindex), 1) => {
                let interface = network.interface(*ifindex);
                Ok(interface.map_or(Located::Nowhere(Obstacle::Gone), Located::At))
            }
            (Some(_), _) => Err(Failure("the addresses are behind different interfaces".to_owned())),
            (None, _) => Ok(Located::Nowhere(Obstacle::NoRoute)),
        }
    }

    fn interface(&mut self, ifindex: u32) -> Result<Option<Interface>, Failure> {
        Ok(self.0.borrow().interface(ifindex))
    }

    fn host_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Failure> {
        let mut network = self.0.borrow_mut();
        network.refuses(Refusal::Hosts)?;
        Ok(network.hosts.clone())
    }

    async fn changed(&mut self) {
        let signal = Rc::clone(&self.0.borrow().signal);
        signal.notified().await;
    }
}
