//! The control loop: one task owns all state; events come in, plans go out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::time::Duration;

use policy_core::compile::Subjects;
use policy_core::model::{ClusterConfig, ClusterId, Event, PodKey, Text};
use policy_core::node::Node;
use policy_core::plan::TableState;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::heap::Heap;
use super::members::Members;
use super::problems::Problems;
use super::seams::{Datapath, Discovery};
use super::window::{self, Window};
use crate::api::Query;
use crate::api::types::{Phase, SyncState};
use crate::datapath::Swept;
use crate::metrics::{self, Scrape};
use crate::sources::Batch;

/// The network is looked at anew so long after a signal: what belongs together comes together.
const LOOK_DELAY: Duration = Duration::from_millis(5);
/// The network is looked at anew at most so often.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// What is wrong is written to the log so long after a change, at least.
const SAY_DELAY: Duration = Duration::from_millis(300);
/// Finding what is wrong takes at most one part in so many of the time.
const SAY_SHARE: u32 = 20;
/// Flows are swept, and links looked at, so often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// The clock by which flows grow old goes on so often.
const TICK: Duration = Duration::from_secs(1);
/// Between the slices of a sweep others have their turn.
const SLICE_INTERVAL: Duration = Duration::from_millis(5);

/// What an agent is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of its node.
    pub node: Text,
    /// Where the ClusterSet stands.
    pub cluster_set: String,
    /// How long the kernel is left alone while a remote member has not told all it has.
    pub sync_deadline: Duration,
}

/// What the loop listens to.
#[derive(Debug)]
pub struct Inbox {
    /// Changes.
    pub batches: mpsc::Receiver<Batch>,
    /// Questions.
    pub queries: mpsc::Receiver<Query>,
    /// Scrapes of the metrics.
    pub scrapes: mpsc::Receiver<Scrape>,
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    Asked,
    /// The source of changes ended.
    SourceEnded,
}

/// The state of everything, and the hands to change the kernel with.
pub struct Control<D, N> {
    pub(super) settings: Settings,
    pub(super) node: Node,
    pub(super) datapath: D,
    pub(super) network: N,
    pub(super) members: Members,
    pub(super) problems: Problems,
    /// The interfaces of endpoints, by number.
    pub(super) names: BTreeMap<u32, String>,
    /// Endpoints that a bridge says to be behind another's interface, and how that is told.
    pub(super) strays: BTreeMap<PodKey, String>,
    /// The interfaces on which this process put the programs.
    pub(super) linked: BTreeSet<u32>,
    /// Whether the last plan did not fit.
    pub(super) full: bool,
    pub(super) backoff: Backoff,
    pub(super) latency: Histogram,
    pub(super) commits: u64,
    pub(super) flows_swept: u64,
    pub(super) committed_at: Option<Instant>,
    window: Window,
    pub(super) heap: Heap,
    pub(super) started_at: Instant,
    pub(super) phase: Phase,
    looked_at: Option<Instant>,
    look_due: Option<Instant>,
    /// Until when remote members are waited for; `None`: no longer.
    sync_due: Option<Instant>,
    say_due: Option<Instant>,
    say_delay: Duration,
    sweep_due: Instant,
    tick_due: Instant,
    /// Whether a sweep has slices left.
    is_sweeping: bool,
}

impl<D: Datapath, N: Discovery> Control<D, N> {
    /// A loop over a kernel whose tables hold `tables`; nothing in the kernel changes before [`Self::run`].
    pub fn new(settings: Settings, config: &ClusterConfig, tables: TableState, datapath: D, network: N) -> Self {
        let now = Instant::now();
        let subjects = Subjects::OnNode(settings.node.clone());
        Self {
            node: Node::new(config.clone(), subjects, tables, datapath.limits()),
            datapath,
            network,
            members: Members::new(config),
            problems: Problems::new(settings.node.clone()),
            names: BTreeMap::new(),
            strays: BTreeMap::new(),
            linked: BTreeSet::new(),
            full: false,
            backoff: Backoff::default(),
            latency: metrics::latency_histogram(),
            commits: 0,
            flows_swept: 0,
            committed_at: None,
            window: Window::default(),
            heap: Heap::default(),
            started_at: now,
            phase: Phase::Starting,
            looked_at: None,
            look_due: None,
            sync_due: Some(now + settings.sync_deadline),
            say_due: None,
            say_delay: SAY_DELAY,
            sweep_due: now + SWEEP_INTERVAL,
            tick_due: now + TICK,
            is_sweeping: false,
            settings,
        }
    }

    /// Runs until `asked` is ready; the kernel is left as it is then.
    pub async fn run(mut self, mut inbox: Inbox, asked: impl Future<Output = ()>) -> Ending {
        tokio::pin!(asked);
        loop {
            let wake = self.wake();
            tokio::select! {
                () = &mut asked => break,
                batch = inbox.batches.recv() => match batch {
                    Some(batch) => self.take(batch, &mut inbox.batches).await,
                    None => return Ending::SourceEnded,
                },
                () = self.network.changed() => self.plan_look(),
                Some(query) = inbox.queries.recv() => {
                    let answer = self.answer(&query.request);
                    // Whoever asked may have gone.
                    drop(query.answer.send(answer));
                }
                Some(scrape) = inbox.scrapes.recv() => self.scrape(scrape),
                () = tokio::time::sleep_until(wake) => self.act(),
            }
        }
        tracing::info!("ending; the kernel goes on enforcing commit {}", self.node.tables().commit);
        Ending::Asked
    }

    /// When something is due at the latest.
    fn wake(&self) -> Instant {
        let dues = [self.sync_due, self.backoff.due(), self.look_due, self.say_due];
        dues.into_iter().flatten().fold(self.sweep_due.min(self.tick_due), Instant::min)
    }

    /// Takes a batch and those that come within the window with it.
    async fn take(&mut self, batch: Batch, batches: &mut mpsc::Receiver<Batch>) {
        let received = Instant::now();
        let window = self.window.end(received);
        let mut gathered = VecDeque::from([batch]);
        while received.elapsed() <= window::LONGEST
            && let Ok(Some(more)) = tokio::time::timeout_at(window, batches.recv()).await
        {
            gathered.push_back(more);
        }
        let (begun, commits) = (Instant::now(), self.commits);
        while let Some(mut batch) = gathered.pop_front() {
            if !window::is_apart(begun.elapsed()) {
                gathered.drain(..).for_each(|later| batch.extend(later));
            }
            self.step(batch, received);
        }
        if self.commits > commits {
            self.window.open(begun, Instant::now());
        }
    }

    /// Takes in what belongs together, and acts on it.
    fn step(&mut self, mut batch: Batch, received: Instant) {
        self.members.update(&batch);
        self.node.apply(&batch.events);
        let is_news = !batch.events.is_empty();
        let may_decide = batch.events.iter().any(Event::may_decide);
        self.heap.drop_events(std::mem::take(&mut batch.events));
        if is_news {
            self.problems.objects_changed();
        }
        if let Some(issues) = batch.issues {
            self.problems.source(issues);
        }
        self.say_due
            .get_or_insert(received + if self.phase == Phase::Starting { window::LONGEST } else { self.say_delay });
        match self.phase {
            Phase::Enforcing if may_decide => self.settle(Some(received)),
            Phase::Enforcing => {}
            Phase::Starting if self.is_ready() => self.begin(),
            Phase::Starting => {}
        }
    }

    /// Does all that is due.
    fn act(&mut self) {
        let now = Instant::now();
        self.tick(now);
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if is_due(self.sync_due) {
            self.sync_due = None;
            if self.is_ready() {
                self.begin();
            } else {
                self.problems.local_unknown(&self.node.compiler().index().config().local);
                self.plan_say();
            }
        }
        if is_due(self.look_due) && self.phase == Phase::Enforcing {
            self.look_due = None;
            self.looked_at = Some(now);
            self.look_again();
            self.settle(None);
        } else if is_due(self.backoff.due()) {
            self.settle(None);
        }
        if is_due(self.look_due) {
            self.look_due = None;
        }
        if is_due(self.say_due) {
            self.say_due = None;
            self.problems.say(self.node.compiler(), now);
            self.say_delay = SAY_DELAY.max(now.elapsed() * SAY_SHARE);
        }
        if self.sweep_due <= now {
            let pause = if self.sweep() { SWEEP_INTERVAL } else { SLICE_INTERVAL };
            self.sweep_due = now + pause;
        }
    }

    /// Whether the kernel may change. Without the local cluster nothing is known of this node's own pods and policies:
    /// beginning then would take them out of the tables. Remote members are waited for only so long.
    fn is_ready(&self) -> bool {
        let local = &self.node.compiler().index().config().local;
        match self.sync_due {
            Some(_) => self.members.waiting().next().is_none(),
            None => self.members.state(local) != SyncState::Waiting,
        }
    }

    /// From here on the kernel changes.
    fn begin(&mut self) {
        let late: Vec<&str> = self.members.waiting().map(ClusterId::as_str).collect();
        if !late.is_empty() {
            tracing::warn!("enforcing without having heard all of {}", late.join(", "));
        }
        self.sync_due = None;
        self.problems.local_known();
        self.look_at_host();
        self.phase = Phase::Enforcing;
        self.settle_first();
        let compiler = self.node.compiler();
        tracing::info!(
            "enforcing on node {}: endpoints {}, {} of them with an interface; policies {}; commit {}",
            self.settings.node,
            compiler.subjects().len(),
            self.node.endpoints().len(),
            compiler.policies().count(),
            self.node.tables().commit,
        );
        // What changed while nothing was done is found now.
        self.plan_look();
    }

    fn plan_look(&mut self) {
        let now = Instant::now();
        let earliest = self.looked_at.map_or(now, |looked| looked + LOOK_INTERVAL);
        self.look_due.get_or_insert(earliest.max(now + LOOK_DELAY));
    }

    /// What is wrong is said soon, if nothing else says it sooner.
    pub(super) fn plan_say(&mut self) {
        self.say_due.get_or_insert(Instant::now() + self.say_delay);
    }

    /// Lets the clock of flows go on by as many seconds as have passed.
    fn tick(&mut self, now: Instant) {
        if let Some(late) = now.checked_duration_since(self.tick_due) {
            let seconds = u32::try_from(1 + late.as_secs()).unwrap_or(u32::MAX);
            self.tick_due += TICK * seconds;
            self.datapath.tick(seconds);
        }
    }

    /// Sweeps a slice of the flows, and before the first looks at links; returns whether that was the last slice.
    fn sweep(&mut self) -> bool {
        if self.phase == Phase::Starting {
            return true;
        }
        // No notice tells that somebody took a link off.
        if !self.is_sweeping && self.look_at_links() {
            self.settle(None);
        }
        match self.datapath.sweep_flows() {
            Ok(Swept { kept: _, removed, is_over }) => {
                self.flows_swept += removed as u64;
                self.is_sweeping = !is_over;
            }
            Err(failure) => {
                tracing::warn!("cannot sweep flows: {failure}");
                self.is_sweeping = false;
            }
        }
        !self.is_sweeping
    }
}
