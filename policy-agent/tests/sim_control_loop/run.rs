//! Plays a script: agents, one after the other, over one kernel and one network, in a time that stands still while
//! anything is to be done.

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use policy_agent::agent::{Control, Ending, Inbox, Settings};
use policy_agent::sources::Batch;
use policy_core::model::{ClusterId, Event};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, sleep};

use crate::dice::Dice;
use crate::machine::{Hands, Kernel};
use crate::network::{Eyes, Network};
use crate::script::{Action, NODE, Script};
use crate::settled;
use crate::sources::Sources;

/// How long an agent waits for remote clusters.
const DEADLINE: Duration = Duration::from_secs(5);
/// How many batches can wait: more than a script has.
const BATCHES: usize = 1024;
/// After so long all that was told is in force.
const REST: Duration = Duration::from_secs(11);
/// After so long whatever failed has been tried again.
const QUIET: Duration = Duration::from_secs(25);

/// What went wrong, and at which action (as many as there are: when all was over).
#[derive(Clone, Debug)]
pub struct Failure {
    /// The action's number.
    pub at: usize,
    /// What.
    pub what: String,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Steps of plans.
    pub steps: u64,
    /// Packets of connections.
    pub packets: u64,
}

/// Plays a script from the beginning to the end, and until everything is quiet.
pub fn play(script: &Script) -> Result<Seen, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), async {
        let mut play = Play::new(script);
        for (at, action) in script.actions.iter().enumerate() {
            play.act(action).await.map_err(|what| Failure { at, what })?;
        }
        let at = script.actions.len();
        play.come_to_rest().await.map_err(|what| Failure { at, what })?;
        let kernel = play.kernel.borrow();
        Ok(Seen { steps: kernel.steps, packets: kernel.traffic.packets })
    })
}

/// A running agent.
struct Agent {
    batches: mpsc::Sender<Batch>,
    task: JoinHandle<Ending>,
    began: Instant,
}

struct Play {
    kernel: Rc<RefCell<Kernel>>,
    network: Rc<RefCell<Network>>,
    sources: Sources,
    agent: Option<Agent>,
    dice: Dice,
}

impl Play {
    fn new(script: &Script) -> Self {
        let network = Rc::new(RefCell::new(Network { bridged: script.bridged, ..Network::default() }));
        Self {
            kernel: Rc::new(RefCell::new(Kernel::new(script, Rc::clone(&network)))),
            network,
            sources: Sources::new(script.config.clone()),
            agent: None,
            dice: Dice::new(script.seed ^ 1),
        }
    }

    async fn act(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Change(events, delivery) => {
                let batches = self.sources.change(events, *delivery);
                self.tell(batches);
            }
            Action::Deliver(batches) => {
                let batches = self.sources.deliver(*batches, &mut self.dice);
                self.tell(batches);
            }
            Action::Relist(cluster) => self.relist(cluster),
            Action::Configure(config) => {
                let batch = self.sources.configure(config, &mut self.dice);
                self.tell(vec![batch]);
            }
            Action::Restart(late) => self.restart(late).await,
            Action::Pass(ms) => sleep(Duration::from_millis(*ms)).await,
            Action::Rest => self.rest().await?,
            Action::Plug(..) | Action::Unplug(..) | Action::Replug(_) | Action::Hosts(_) => self.rewire(action),
            Action::Unlink(ifindex) => {
                self.kernel.borrow_mut().links.remove(ifindex);
                self.network.borrow_mut().touched.insert(*ifindex);
            }
            Action::Fail(after) => self.kernel.borrow_mut().fails_in = Some(*after),
            Action::Refuse(refusal, times) => drop(self.network.borrow_mut().refusals.insert(*refusal, *times)),
            Action::Die(after) => self.kernel.borrow_mut().dies_in = Some(*after),
            Action::Open(own, peer, outbound, protocol, port) => {
                let mut kernel = self.kernel.borrow_mut();
                let Kernel { tables, traffic, tick_s, witness, .. } = &mut *kernel;
                traffic.open(tables, *tick_s, witness, (*own, *peer, *outbound, *protocol, *port))?;
            }
            Action::Greet(host, own, protocol, port) => {
                let mut kernel = self.kernel.borrow_mut();
                let Kernel { tables, traffic, tick_s, .. } = &mut *kernel;
                traffic.greet(tables, *tick_s, (*host, *own, *protocol, *port))?;
            }
            Action::Talk => self.kernel.borrow_mut().talk()?,
            Action::Evict => self.kernel.borrow_mut().traffic.evict(),
        }
        self.is_well().await
    }

    /// What was told comes into force: only a table that is full, or a cluster that was not listed, is in its way.
    async fn rest(&mut self) -> Result<(), String> {
        self.kernel.borrow_mut().fails_in = None;
        self.network.borrow_mut().refusals.clear();
        sleep(REST).await;
        self.is_well().await?;
        let mut kernel = self.kernel.borrow_mut();
        if self.agent.is_some() && self.sources.synced().0 && kernel.limits.most.is_empty() {
            let Kernel { witness, tables, .. } = &mut *kernel;
            witness.is_settled(tables)?;
            witness.all_are_found(tables, &self.network.borrow())?;
            kernel.talk()?;
        }
        Ok(())
    }

    /// Interfaces, routes or addresses of the node change.
    fn rewire(&mut self, action: &Action) {
        let mut network = self.network.borrow_mut();
        let told = match action {
            Action::Plug(ifindex, addresses, told) => {
                network.plug(*ifindex, addresses);
                *told
            }
            Action::Unplug(ifindex, told) => {
                network.unplug(*ifindex);
                self.kernel.borrow_mut().links.remove(ifindex);
                *told
            }
            Action::Replug(ifindex) if network.interfaces.contains(ifindex) => {
                network.touched.insert(*ifindex);
                self.kernel.borrow_mut().links.remove(ifindex);
                true
            }
            Action::Hosts(hosts) => {
                network.hosts.clone_from(hosts);
                true
            }
            _ => false,
        };
        if told {
            network.signal.notify_one();
        }
    }

    /// Tells the agent batches; which worlds may be in force follows from that.
    fn tell(&mut self, batches: Vec<Vec<Event>>) {
        let Some(agent) = &self.agent else { return };
        for events in batches {
            self.sources.tell(&events);
            let ready_at = match self.sources.synced() {
                (true, true) => Some(Instant::now()),
                (true, false) => Some(Instant::now().max(agent.began + DEADLINE)),
                (false, _) => None,
            };
            if let Some(ready_at) = ready_at {
                self.kernel.borrow_mut().witness.worlds.told(&self.sources.heard, ready_at);
            }
            let sent = agent.batches.try_send(Batch { events, ..Batch::default() });
            sent.expect("a script has fewer batches than there is room for");
        }
    }

    fn relist(&mut self, cluster: &ClusterId) {
        if self.agent.is_none() {
            return;
        }
        let batch = self.sources.relist(cluster, &mut self.dice);
        self.tell(batch.into_iter().collect());
    }

    /// The agent that runs is no more, and another one begins.
    async fn restart(&mut self, late: &[ClusterId]) {
        self.kernel.borrow_mut().kill();
        self.bury().await;
        let (life, tables) = self.kernel.borrow_mut().open();
        self.sources.begin();
        let settings = Settings { node: NODE.into(), cluster_set: "clusterset.yaml".into(), sync_deadline: DEADLINE };
        let (hands, eyes) = (Hands::new(&self.kernel, life), Eyes(Rc::clone(&self.network)));
        let control = Control::new(settings, &self.sources.config, tables, hands, eyes);
        let (batches, told) = mpsc::channel(BATCHES);
        let task = tokio::task::spawn_local(async move {
            let (_queries, queries) = mpsc::channel(1);
            let (_scrapes, scrapes) = mpsc::channel(1);
            control.run(Inbox { batches: told, queries, scrapes }, pending()).await
        });
        self.agent = Some(Agent { batches, task, began: Instant::now() });
        let mut listed: Vec<ClusterId> = self.sources.config.members.iter().map(|member| member.id.clone()).collect();
        listed.retain(|id| !late.contains(id));
        self.dice.shuffle(&mut listed);
        listed.iter().for_each(|cluster| self.relist(cluster));
    }

    /// Ends the task of an agent that is dead.
    async fn bury(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.task.abort();
            drop(agent.task.await);
        }
    }

    /// Whether anything was found to be wrong; whoever has died is buried.
    async fn is_well(&mut self) -> Result<(), String> {
        if let Some(agent) = self.agent.as_mut().filter(|agent| agent.task.is_finished()) {
            let ended = (&mut agent.task).await;
            return Err(format!("the agent has ended: {ended:?}"));
        }
        let (wrong, lives) = {
            let kernel = self.kernel.borrow();
            (kernel.wrong.clone(), kernel.life.is_some())
        };
        if !lives {
            self.bury().await;
        }
        wrong.map_or(Ok(()), Err)
    }

    /// No more trouble, and everything is told: in the end the kernel enforces what there is.
    async fn come_to_rest(&mut self) -> Result<(), String> {
        let was_limited = {
            let mut kernel = self.kernel.borrow_mut();
            (kernel.fails_in, kernel.dies_in) = (None, None);
            self.network.borrow_mut().refusals.clear();
            !std::mem::take(&mut kernel.limits.most).is_empty()
        };
        if self.agent.is_none() || was_limited {
            self.restart(&[]).await;
        }
        self.sources.reap();
        let members: Vec<ClusterId> = self.sources.config.members.iter().map(|member| member.id.clone()).collect();
        members.iter().for_each(|cluster| self.relist(cluster));
        self.network.borrow().signal.notify_one();
        sleep(QUIET).await;
        self.is_well().await?;
        let world = self.sources.known();
        {
            let mut kernel = self.kernel.borrow_mut();
            settled::check(&mut kernel, &self.network.borrow(), &world)?;
        }
        let (steps, tick_s) = (self.kernel.borrow().steps, self.kernel.borrow().tick_s);
        sleep(QUIET).await;
        self.is_well().await?;
        let kernel = self.kernel.borrow();
        if steps != kernel.steps {
            return Err(format!("steps {} after everything was quiet", kernel.steps - steps));
        }
        match u64::from(kernel.tick_s - tick_s).abs_diff(QUIET.as_secs()) {
            0 | 1 => Ok(()),
            _ => Err(format!("the clock of flows goes from {tick_s} to {} in {QUIET:?}", kernel.tick_s)),
        }
    }
}
