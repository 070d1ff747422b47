//! The modelled kernel, which outlives its agents, and an agent's hands on it, which can fail and die at any step.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeSet;
use std::rc::Rc;

use policy_agent::agent::{Datapath, Failure};
use policy_agent::datapath::Swept;
use policy_agent::discovery::Interface;
use policy_common::table::{Counter, EndpointCounters, REASON_SLOTS};
use policy_core::plan::{Limits, Plan, Step, TableState};

use crate::dice::Dice;
use crate::network::Network;
use crate::numbers::Numbers;
use crate::script::{Refusal, Script};
use crate::traffic::Traffic;
use crate::witness::Witness;

/// How many packets of connections come between two steps.
const CHATTER: usize = 3;

/// Tables, flows, programs, and what watches them.
#[derive(Debug)]
pub struct Kernel {
    /// What agents have written.
    pub tables: TableState,
    /// Connections.
    pub traffic: Traffic,
    /// The clock of flows.
    pub tick_s: u32,
    /// Interfaces that have the programs.
    pub links: BTreeSet<u32>,
    /// How much the tables hold.
    pub limits: Limits,
    /// What watches every step.
    pub witness: Witness,
    numbers: Numbers,
    network: Rc<RefCell<Network>>,
    dice: Dice,
    /// After so many steps of plans one fails.
    pub fails_in: Option<usize>,
    /// After so many things that it does the agent dies.
    pub dies_in: Option<usize>,
    /// The agent that has the tables; `None`: it is dead.
    pub life: Option<usize>,
    lives: usize,
    /// How many steps were carried out.
    pub steps: u64,
    /// What was wrong first.
    pub wrong: Option<String>,
}

impl Kernel {
    /// One without anything in it.
    pub fn new(script: &Script, network: Rc<RefCell<Network>>) -> Self {
        Self {
            tables: TableState::default(),
            traffic: Traffic::default(),
            tick_s: 0,
            links: BTreeSet::new(),
            limits: Limits { most: script.limits.clone() },
            witness: Witness::new(&script.probes),
            numbers: Numbers::default(),
            network,
            dice: Dice::new(script.seed),
            fails_in: None,
            dies_in: None,
            life: None,
            lives: 0,
            steps: 0,
            wrong: None,
        }
    }

    /// A new agent takes the tables over: like [`policy_agent::datapath::Datapath::open`], it sweeps all flows first.
    pub fn open(&mut self) -> (usize, TableState) {
        self.lives += 1;
        self.life = Some(self.lives);
        self.dies_in = None;
        self.traffic.sweep(&self.tables, self.tick_s);
        // An interface that has not the programs may be another one of the same number.
        let known = self.tables.endpoints.keys().copied();
        self.network.borrow_mut().touched = known.filter(|ifindex| !self.links.contains(ifindex)).collect();
        (self.lives, self.tables.clone())
    }

    /// The agent is no more.
    pub fn kill(&mut self) {
        self.life = None;
        self.witness.dies();
    }

    /// Remembers what was wrong first.
    pub fn check(&mut self, outcome: Result<(), String>) {
        if let Err(wrong) = outcome {
            self.wrong.get_or_insert(wrong);
        }
    }

    /// All connections talk.
    pub fn talk(&mut self) -> Result<(), String> {
        let Self { tables, traffic, tick_s, witness, .. } = self;
        traffic.talk(tables, *tick_s, witness)?;
        // Until the flip what is no longer the node's goes on.
        if witness.is_cut() { Ok(()) } else { traffic.nodes_talk(tables, *tick_s, witness) }
    }

    fn carry_out(&mut self, step: &Step) -> Result<(), String> {
        let Self { tables, traffic, numbers, witness, .. } = self;
        let commit = tables.commit;
        numbers.before(tables, &traffic.flows, step)?;
        tables.step(step);
        self.steps += 1;
        witness.steps(tables, step, commit)?;
        (0..CHATTER).try_for_each(|_| traffic.chatter(tables, self.tick_s, witness, self.dice.roll()))
    }

    fn end(&mut self, was_cut: bool) {
        let Self { tables, witness, network, .. } = self;
        let outcome = witness.ends(tables, &network.borrow(), was_cut);
        self.check(outcome);
    }

    fn fails(&mut self) -> bool {
        match self.fails_in {
            Some(0) => self.fails_in = None,
            Some(left) => {
                self.fails_in = Some(left - 1);
                return false;
            }
            None => return false,
        }
        true
    }
}

/// What one agent has of the kernel.
#[derive(Clone, Debug)]
pub struct Hands {
    kernel: Rc<RefCell<Kernel>>,
    life: usize,
    limits: Limits,
}

impl Hands {
    /// Of the agent with this number.
    pub fn new(kernel: &Rc<RefCell<Kernel>>, life: usize) -> Self {
        Self { kernel: Rc::clone(kernel), life, limits: kernel.borrow().limits.clone() }
    }

    /// The kernel, if the agent lives and goes on living.
    fn alive(&self) -> Result<RefMut<'_, Kernel>, Failure> {
        let mut kernel = self.kernel.borrow_mut();
        match kernel.dies_in {
            Some(0) => kernel.kill(),
            Some(left) if kernel.life == Some(self.life) => kernel.dies_in = Some(left - 1),
            _ => {}
        }
        if kernel.life == Some(self.life) { Ok(kernel) } else { Err(Failure("the agent is dead".to_owned())) }
    }

    fn refuses(&self, refusal: Refusal) -> Result<RefMut<'_, Kernel>, Failure> {
        let kernel = self.alive()?;
        let refused = kernel.network.borrow_mut().refuses(refusal);
        refused.map(|()| kernel)
    }
}

impl Datapath for Hands {
    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn execute(&mut self, plan: &Plan, done: &mut dyn FnMut(&Step)) -> Result<(), Failure> {
        {
            let mut kernel = self.alive()?;
            let Kernel { witness, tables, .. } = &mut *kernel;
            witness.begins(tables, plan);
        }
        for step in &plan.steps {
            let mut kernel = self.alive()?;
            if kernel.fails() {
                kernel.end(true);
                return Err(Failure("no memory".to_owned()));
            }
            let outcome = kernel.carry_out(step);
            kernel.check(outcome.map_err(|wrong| format!("after {step:?} of {plan:?}: {wrong}")));
            done(step);
        }
        self.alive()?.end(false);
        Ok(())
    }

    fn attach(&mut self, interface: &Interface) -> Result<(), Failure> {
        let mut kernel = self.refuses(Refusal::Attach)?;
        let ifindex = interface.attachment.ifindex;
        if !kernel.network.borrow().interfaces.contains(&ifindex) {
            return Err(Failure(format!("there is no interface {ifindex}")));
        }
        if !kernel.tables.endpoints.contains_key(&ifindex) && kernel.limits.most.is_empty() {
            kernel.check(Err(format!("interface {ifindex} gets the programs before the tables know it")));
        }
        kernel.links.insert(ifindex);
        Ok(())
    }

    fn prune(&mut self) -> Result<BTreeSet<u32>, Failure> {
        match self.refuses(Refusal::Prune) {
            Ok(kernel) => Ok(kernel.links.clone()),
            Err(failure) => {
                // Which interfaces are still the same cannot be told.
                let kernel = self.alive()?;
                kernel.network.borrow_mut().touched.extend(kernel.tables.endpoints.keys());
                Err(failure)
            }
        }
    }

    fn counters(&mut self, _element: u32) -> Result<Box<EndpointCounters>, Failure> {
        let none = [Counter::default(); REASON_SLOTS];
        Ok(Box::new(EndpointCounters { from_pod: none, to_pod: none }))
    }

    fn tick(&mut self, seconds: u32) {
        if let Ok(mut kernel) = self.alive() {
            kernel.tick_s += seconds;
        }
    }

    fn sweep_flows(&mut self) -> Result<Swept, Failure> {
        let mut kernel = self.refuses(Refusal::Sweep)?;
        let Kernel { tables, traffic, tick_s, .. } = &mut *kernel;
        let removed = traffic.sweep(tables, *tick_s);
        Ok(Swept { kept: 0, removed, is_over: true })
    }
}
