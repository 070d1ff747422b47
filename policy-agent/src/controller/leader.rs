//! The leader: follows the ClusterSet as agents do, without a kernel, and finds out what is wrong with the policies of its
//! cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use policy_core::compile::{Compiler, Subjects};
use policy_core::model::{ClusterId, Event, Issue, IssueCode, Listing};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Status;
use super::desk::Desk;
use super::election::Term;
use super::notes::Notes;
use super::writer::Writer;
use crate::agent::find::Found;
use crate::agent::members::Members;
use crate::api::types::SyncState;
use crate::sources::Batch;
use crate::sources::follow::follow;
use crate::sources::kube::{Conduct, Offers, Word, follow_marks};

/// How many batches may wait before the source does, and how many words about marks.
const BATCHES: usize = 64;
/// Finding out what is wrong takes at most this part of the time: so much longer than it took nothing is done after it.
const SHARE: u32 = 10;

/// How fast things go.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// So long after a change it is found out what is wrong: what belongs together comes together.
    pub delay: Duration,
    /// Between two policies that are written on: every agent hears of each.
    pub interval: Duration,
    /// After so long one policy may be written on once more.
    pub refill: Duration,
    /// How long an API server may say nothing.
    pub silence: Duration,
}

/// What one who leads begins with.
pub struct Calling {
    /// The ClusterSet.
    pub found: Found,
    /// Which programs give credentials for members that a ClusterProfile describes.
    pub access_providers: Option<PathBuf>,
    /// This controller, among others of its kind.
    pub identity: String,
    /// Where it tells of itself.
    pub status: Status,
    /// How fast things go.
    pub pace: Pace,
}

impl Default for Pace {
    /// Five policies a second, as clients of client-go write.
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(2),
            interval: Duration::from_millis(200),
            refill: Duration::from_secs(60),
            silence: Duration::from_secs(100),
        }
    }
}

/// One who leads.
pub struct Leader {
    local: ClusterId,
    compiler: Compiler,
    members: Members,
    services: ServicesTold,
    /// What is wrong with objects, as their source says.
    source: Vec<Issue>,
    desk: Desk,
    status: Status,
    delay: Duration,
    /// When it is found out what is wrong, if something changed.
    look_due: Option<Instant>,
    /// Not before then.
    look_rest: Instant,
}

impl Leader {
    /// Leads until nothing can be followed any more; whatever it began ends with it.
    pub async fn lead(calling: Calling, term: Term) -> anyhow::Result<()> {
        let Calling { found: Found { files, mirror }, access_providers, identity, status, pace } = calling;
        let local = files.local().clone();
        let config = files.cluster_set().config(&local);
        let Some(access) = files.cluster_set().local_access().cloned() else {
            anyhow::bail!(
                "{local} is this cluster, and its source is no API server of which this machine has the credentials: there \
                 are no policies to write on; give it inCluster or kubeconfig: {{path: …}}"
            );
        };
        let mut tasks = JoinSet::new();
        let (clients, clients_here) = watch::channel(None);
        let (refusals, mut refused) = mpsc::channel(1);
        tasks.spawn(access.provide(Offers { clients, refusals }));
        tasks.spawn(async move {
            while let Some(refusal) = refused.recv().await {
                refusal.iter().for_each(|trouble| tracing::warn!("cannot write on policies: {trouble}"));
            }
        });
        let (mark_sender, mut marks) = mpsc::channel(BATCHES);
        tasks.spawn(follow_marks(clients_here.clone(), mark_sender));
        let (sender, mut batches) = mpsc::channel(BATCHES);
        // Nothing is kept on disk: what cannot be heard is waited for.
        let conduct = Conduct { silence: pace.silence, restore_after: pace.silence, scribe: None, access_providers };
        tasks.spawn(follow(files, mirror, conduct, sender));
        let writer = Writer::new(clients_here, identity, term);
        let mut leader = Self {
            desk: Desk::new(local.clone(), writer, status.clone(), pace),
            local,
            members: Members::new(&config),
            services: ServicesTold::default(),
            // What is wrong with policies is found in what they say and in which pods there are.
            compiler: Compiler::new(config, Subjects::Nobody),
            source: Vec::new(),
            status,
            delay: pace.delay,
            look_due: None,
            look_rest: Instant::now(),
        };
        leader.run(&mut batches, &mut marks).await
    }

    async fn run(
        &mut self,
        batches: &mut mpsc::Receiver<Batch>,
        marks: &mut mpsc::Receiver<Word>,
    ) -> anyhow::Result<()> {
        loop {
            let (look, write) = (self.look_due, self.desk.due());
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(batch) => self.take(&batch),
                    None => anyhow::bail!("the sources are not followed any more"),
                },
                word = marks.recv() => match word {
                    Some(word) => {
                        self.desk.hear(word);
                        self.plan_look();
                    }
                    None => anyhow::bail!("the policies are not followed any more"),
                },
                () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => self.look(),
                () = sleep_until(write.unwrap_or_else(Instant::now)), if write.is_some() => self.desk.write().await,
            }
        }
    }

    fn plan_look(&mut self) {
        self.look_due.get_or_insert((Instant::now() + self.delay).max(self.look_rest));
    }

    fn take(&mut self, batch: &Batch) {
        self.members.update(batch);
        self.services.update(&self.local, batch);
        self.compiler.apply(&batch.events);
        // There is no kernel that would have to follow.
        drop(self.compiler.take_dirty());
        if let Some(issues) = &batch.issues {
            self.source.clone_from(issues);
        }
        if !batch.events.is_empty() || batch.issues.is_some() {
            self.plan_look();
        }
    }

    /// Finds out what is wrong, and what is to stand on policies. While the local cluster has not told all, or tells
    /// nothing now, that is not known; while another member has not, or its pods count no more, what rests on all of them
    /// is not; nor what rests on Services, for which nobody waits.
    fn look(&mut self) {
        self.look_due = None;
        if !self.desk.is_laid() || self.members.state(&self.local) != SyncState::Synced {
            return;
        }
        let begun = Instant::now();
        let is_known = |id: &ClusterId| !matches!(self.members.state(id), SyncState::Waiting | SyncState::Stale);
        let is_all_known = self.compiler.index().config().members.iter().all(|member| is_known(&member.id));
        let rests_on_known = |code: IssueCode| {
            (is_all_known || !code.rests_on_all_members()) && (self.services.are_all() || !code.rests_on_services())
        };
        let whole = policy_core::issues::of(&self.compiler);
        let prefix = self.desk.prefix();
        let mut all: Vec<Issue> = whole.into_iter().chain(self.source.iter().cloned()).collect();
        all.retain(|issue| issue.object.starts_with(&prefix));
        let mut by_policy: BTreeMap<&str, Vec<&Issue>> = BTreeMap::new();
        for issue in &all {
            by_policy.entry(&issue.object).or_default().push(issue);
        }
        self.desk.want(|policy, said| {
            Notes::of(by_policy.remove(policy).into_iter().flatten()).or_known(said, rests_on_known)
        });
        self.status.issues(all);
        let ended = Instant::now();
        self.look_rest = ended + (ended - begun) * (SHARE - 1);
    }
}

/// Which lists of the local cluster's Services have been told.
#[derive(Default)]
struct ServicesTold {
    services: bool,
    slices: bool,
}

impl ServicesTold {
    fn update(&mut self, local: &ClusterId, batch: &Batch) {
        for event in &batch.events {
            match event {
                Event::Relisted(cluster, Listing::Services(_)) if cluster == local => self.services = true,
                Event::Relisted(cluster, Listing::EndpointSlices(_)) if cluster == local => self.slices = true,
                _ => {}
            }
        }
    }

    fn are_all(&self) -> bool {
        let Self { services, slices } = self;
        *services && *slices
    }
}
