//! What the control loop needs of the machine: tables and interfaces, behind two traits, so that tests can stand in.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;

use policy_common::table::EndpointCounters;
use policy_core::plan::{Limits, Plan, Step};

use crate::datapath::Swept;
use crate::discovery::{Interface, Located};

/// Why the machine did not do what was asked, for a person; sources are part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    /// An error with all its sources.
    pub fn of(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self(text)
    }
}

/// The kernel's tables and programs.
pub trait Datapath {
    /// How much the tables hold.
    fn limits(&self) -> Limits;

    /// Carries out the steps of a plan in order, telling each that is done; ends at the first that fails.
    ///
    /// # Errors
    ///
    /// Steps that were not told may have been carried out in part.
    fn execute(&mut self, plan: &Plan, done: &mut dyn FnMut(&Step)) -> Result<(), Failure>;

    /// Puts the programs on an interface; those of an earlier life of the agent are replaced.
    fn attach(&mut self, interface: &Interface) -> Result<(), Failure>;

    /// Removes what is left of interfaces that are gone; returns those that really have the programs.
    fn prune(&mut self) -> Result<BTreeSet<u32>, Failure>;

    /// What happened to the packets of the endpoint with this element of `counters`.
    fn counters(&mut self, element: u32) -> Result<Box<EndpointCounters>, Failure>;

    /// Lets so many seconds pass by the clock by which flows grow old.
    fn tick(&mut self, seconds: u32);

    /// Removes flows that nobody has used for long from the next slice of their tables.
    fn sweep_flows(&mut self) -> Result<Swept, Failure>;
}

/// The routing table, neighbours and bridges of the node.
pub trait Discovery {
    /// Begins a look: what was listed before it is listed anew.
    fn refresh(&mut self);

    /// The interface behind which a pod with these addresses is.
    fn locate(&mut self, addresses: &[IpAddr]) -> Result<Located, Failure>;

    /// An interface by its number; `None`: it is gone.
    fn interface(&mut self, ifindex: u32) -> Result<Option<Interface>, Failure>;

    /// The addresses of the node itself.
    fn host_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Failure>;

    /// Waits until interfaces, routes, neighbours or addresses may have changed. Loses nothing when it is dropped.
    fn changed(&mut self) -> impl Future<Output = ()>;
}
