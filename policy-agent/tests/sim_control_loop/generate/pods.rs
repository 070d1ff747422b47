//! Pods that come, change, are replaced and go, on the node and elsewhere.

use std::net::IpAddr;

use policy_core::model::{Event, Pod, Timestamp};
use policy_core::testing::{labels, pod, strategies};

use super::{Maker, NAMESPACES, Placed, SLOTS, slot_addresses};
use crate::probes;
use crate::script::{Action, NODE};

impl Maker {
    /// A pod of the node comes, goes, changes, moves or is replaced.
    pub(super) fn local(&mut self) {
        let slot = self.dice.below(SLOTS);
        let Some(placed) = self.slots[slot].clone() else { return self.start(slot) };
        match self.dice.below(10) {
            0..3 => self.stop(slot, &placed),
            3..6 => self.replace(slot, &placed),
            6 => {
                let ifindex = self.plug(slot);
                self.unplug(placed.ifindex);
                self.slots[slot] = Some(Placed { ifindex, ..placed });
            }
            _ => {
                let mut pod = placed.pod.clone();
                self.vary(&mut pod);
                self.change(vec![pod.clone().into_event()]);
                self.slots[slot] = Some(Placed { pod, ..placed });
            }
        }
    }

    fn vary(&mut self, pod: &mut Pod) {
        match self.dice.below(4) {
            0 => pod.ports = self.draw(&strategies::container_ports()),
            1 => pod.lifecycle = self.draw(&strategies::lifecycles()),
            _ => {
                let app = if pod.labels.get("app").is_some_and(|app| &**app == "web") { "app=db" } else { "app=web" };
                pod.labels = labels(app);
            }
        }
    }

    fn new_pod(&mut self, cluster: &str, name: &str, addresses: Vec<IpAddr>, node: &str) -> Pod {
        self.made += 1;
        let namespace = *self.dice.pick(&NAMESPACES);
        let mut pod = pod(&format!("{cluster}/{namespace}/{name}")).node(node).build();
        pod.uid = format!("{:04}", self.made).into();
        pod.addresses = addresses;
        pod.labels = self.draw(&strategies::pod_labels());
        pod.ports = self.draw(&strategies::container_ports());
        pod.created = Some(Timestamp { s: self.made.into(), ns: 0 });
        pod
    }

    pub(super) fn start(&mut self, slot: usize) {
        let name = format!("p{slot}{}", ["", "-b"][self.dice.below(2)]);
        let pod = self.new_pod("a", &name, slot_addresses(slot), NODE);
        if self.dice.percent(50) {
            self.change(vec![pod.clone().into_event()]);
            self.pause();
            let ifindex = self.plug(slot);
            self.slots[slot] = Some(Placed { pod, ifindex });
        } else {
            let ifindex = self.plug(slot);
            self.pause();
            self.change(vec![pod.clone().into_event()]);
            self.slots[slot] = Some(Placed { pod, ifindex });
        }
    }

    pub(super) fn pause(&mut self) {
        if self.dice.percent(40) {
            self.pass();
        }
    }

    pub(super) fn plug(&mut self, slot: usize) -> u32 {
        self.interfaces += 1;
        let told = self.dice.percent(80);
        self.actions.push(Action::Plug(self.interfaces, slot_addresses(slot), told));
        self.interfaces
    }

    pub(super) fn unplug(&mut self, ifindex: u32) {
        let told = self.dice.percent(80);
        self.actions.push(Action::Unplug(ifindex, told));
    }

    fn stop(&mut self, slot: usize, placed: &Placed) {
        let gone = vec![placed.pod.gone()];
        if self.dice.percent(50) {
            self.unplug(placed.ifindex);
            self.pause();
            self.change(gone);
        } else {
            self.change(gone);
            self.pause();
            self.unplug(placed.ifindex);
        }
        self.slots[slot] = None;
    }

    /// Another pod takes the address over; its predecessor may be heard of for some time.
    fn replace(&mut self, slot: usize, placed: &Placed) {
        let mut pod = self.new_pod("a", &format!("p{slot}-c"), slot_addresses(slot), NODE);
        if self.dice.percent(50) {
            pod.key = placed.pod.key.clone();
        }
        let (gone, come) = (placed.pod.gone(), pod.clone().into_event());
        match self.dice.below(4) {
            0 => self.change(vec![gone, come]),
            1 => {
                self.change(vec![gone]);
                self.pause();
                self.change(vec![come]);
            }
            2 => self.change(vec![come, gone]),
            _ => {
                self.change(vec![come]);
                self.pause();
                self.change(vec![gone]);
            }
        }
        self.pause();
        let ifindex = if self.dice.percent(50) {
            self.unplug(placed.ifindex);
            self.pause();
            self.plug(slot)
        } else {
            let ifindex = self.plug(slot);
            self.pause();
            self.unplug(placed.ifindex);
            ifindex
        };
        self.slots[slot] = Some(Placed { pod, ifindex });
    }

    /// A pod of another node or cluster.
    pub(super) fn elsewhere(&mut self) {
        let (address, cluster) = *self.dice.pick(&probes::ELSEWHERE);
        let address: IpAddr = address.parse().expect("an address");
        let Some(mut known) = self.remote.get(&address).cloned() else {
            let name = format!("r{}", self.dice.below(3));
            let pod = self.new_pod(cluster, &format!("{name}-{}", self.made), vec![address], "n2");
            self.change(vec![pod.clone().into_event()]);
            self.remote.insert(address, pod);
            return;
        };
        match self.dice.below(4) {
            0 => {
                self.change(vec![known.gone()]);
                self.remote.remove(&address);
            }
            1 => {
                let mut pod = self.new_pod(cluster, &known.key.name.clone(), vec![address], "n2");
                pod.key = known.key.clone();
                self.change(vec![pod.clone().into_event(), known.gone()]);
                self.remote.insert(address, pod);
            }
            _ => {
                self.vary(&mut known);
                self.change(vec![known.clone().into_event()]);
                self.remote.insert(address, known);
            }
        }
    }
}

/// Events of a pod.
pub(super) trait PodEvents {
    /// It exists.
    fn into_event(self) -> Event;
    /// It is gone.
    fn gone(&self) -> Event;
}

impl PodEvents for Pod {
    fn into_event(self) -> Event {
        Event::PodApplied(self)
    }

    fn gone(&self) -> Event {
        Event::PodDeleted { key: self.key.clone(), uid: self.uid.clone() }
    }
}
