//! The kernel's side of enforcement: tables, programs and links, by file descriptor; carries out plans and chooses nothing.
//!
//! Everything is pinned, so the agent's exit changes nothing. [`Datapath::open`] takes over what is pinned and reads the
//! tables back: a restart begins with what is observed.

mod capacities;
mod error;
mod flows;
mod links;
mod load;
mod local_bits;
mod nearby;
mod pins;
mod sys;
mod tables;
mod uninstall;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::path::Path;

use policy_common::table::{ABI_VERSION, EndpointCounters};
use policy_core::plan::{Limits, Plan, Step, TableState};

pub use capacities::Capacities;
pub use error::{DatapathError, Misfit};
pub use flows::Swept;
pub use uninstall::{Removed, uninstall};

use flows::Flows;
use links::Links;
use load::{OBJECT, Program};
use pins::{Leftovers, Pins, Shape};
use tables::Tables;

/// The tables, programs and links of this node.
///
/// Interfaces are those of the network namespace of the calling thread.
pub struct Datapath {
    tables: Tables,
    flows: Flows,
    programs: [Program; 2],
    links: Links,
    limits: Limits,
    /// Held, so that nobody else has these tables.
    _lock: File,
}

impl fmt::Debug for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tables: _, flows: _, programs, links, limits, _lock } = self;
        f.debug_struct("Datapath")
            .field("programs", programs)
            .field("links", links)
            .field("limits", limits)
            .finish_non_exhaustive()
    }
}

impl Datapath {
    /// Takes over what an earlier run pinned below `bpffs`, or begins anew; returns what the tables hold.
    ///
    /// Links of an earlier run have this version's programs from then on, exchanged atomically, on the same tables: no
    /// packet passes unjudged, and no verdict changes.
    ///
    /// # Errors
    ///
    /// If tables that are pinned were made by another version or with other capacities, or if another agent has them;
    /// nothing is changed then.
    pub fn open(bpffs: &Path, capacities: &Capacities) -> Result<(Self, TableState), DatapathError> {
        let shapes = Shape::of_object(OBJECT, capacities)?;
        let pins = Pins::below(bpffs)?;
        let lock = loop {
            pins.make_root()?;
            if let Some(lock) = pins.lock()? {
                break lock;
            }
        };
        let leftovers = pins.examine(&shapes)?;
        pins.make_directories()?;
        let opened = Self::load(&pins, capacities, &shapes, lock);
        if opened.is_err() && leftovers == Leftovers::None {
            // The failure that matters is the first one.
            let _or_left_for_the_next_run = uninstall(bpffs);
        }
        opened
    }

    fn load(
        pins: &Pins,
        capacities: &Capacities,
        shapes: &BTreeMap<String, Shape>,
        lock: File,
    ) -> Result<(Self, TableState), DatapathError> {
        let programs = load::load(pins, shapes)?;
        let mut tables = Tables::open(pins)?;
        let mut flows = Flows::open(pins)?;
        // An endpoint's number may be used again, but never while a flow has it.
        while !flows.sweep(&tables)?.is_over {}
        let state = tables.read()?;
        tables.take_over(&state)?;
        tables.control().set_abi(ABI_VERSION);
        let links = Links::take_over(pins, &programs)?;
        let limits = capacities.limits();
        Ok((Self { tables, flows, programs, links, limits, _lock: lock }, state))
    }

    /// How much the tables hold.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Carries out a plan's steps in order, telling each that is done.
    ///
    /// # Errors
    ///
    /// Ends at the first step that fails; steps that were told are done, the others are not.
    pub fn execute(&mut self, plan: &Plan, done: impl FnMut(&Step)) -> Result<(), DatapathError> {
        self.tables.execute(&plan.steps, done)
    }

    /// Puts the programs on an interface, in front of others, and pins the links; what is there already stays, whatever
    /// the interface was called before.
    ///
    /// Packets of an interface that `endpoints` does not have are dropped: the plan that brings it comes first.
    ///
    /// # Errors
    ///
    /// If the interface is gone, or the kernel has no tcx (Linux 6.6) for it.
    pub fn attach(&mut self, ifindex: u32, name: &str) -> Result<(), DatapathError> {
        self.links.attach(ifindex, name, &self.programs)
    }

    /// Takes the programs off an interface: from then on everything passes there.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        self.links.detach(ifindex)
    }

    /// The interfaces that have the programs.
    pub fn attached(&self) -> impl Iterator<Item = u32> {
        self.links.interfaces()
    }

    /// Removes the pins of links that lead nowhere any more: the interface is gone, even if another one has its number
    /// by now, or somebody took the link off. Returns the interfaces that still have both programs.
    pub fn prune(&mut self) -> Result<BTreeSet<u32>, DatapathError> {
        self.links.prune()
    }

    /// What happened to the packets of the endpoint with this element of `counters`, over all CPUs.
    pub fn counters(&self, element: u32) -> Result<Box<EndpointCounters>, DatapathError> {
        self.tables.counters(element)
    }

    /// Removes connections that nobody has used for long, and those of endpoints that are gone, from the next slice of the
    /// tables of connections.
    pub fn sweep_flows(&mut self) -> Result<Swept, DatapathError> {
        self.flows.sweep(&self.tables)
    }

    /// Lets so many seconds pass by the clock by which flows grow old.
    pub fn tick(&mut self, seconds: u32) {
        self.tables.control().tick(seconds);
    }

    /// Reads the tables once more.
    pub fn read(&self) -> Result<TableState, DatapathError> {
        self.tables.read()
    }
}
