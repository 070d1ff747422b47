//! Following all members at once: the files say which members there are, and each that is no directory of files gets a
//! task of its own. What all of them say comes out as the batches of one source.

use std::collections::BTreeMap;
use std::time::Duration;

use policy_core::model::{ClusterId, Issue};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::Batch;
use super::files::{self, FilesSource, Told};
use super::kube::{Conduct, Here, Mirror, Role, Terms, confirm, follow_member};
use crate::cluster_set::{ClusterSet, Source};

/// How much a member may tell before it is taken.
const BATCHES: usize = 16;
/// How often the local cluster is asked whether it is still the member that it is taken for.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(60);

/// Follows the ClusterSet and its members until nobody listens. The ClusterSet file may be the `mirror` of a ConfigMap.
pub async fn follow(files: FilesSource, mut mirror: Option<Mirror>, conduct: Conduct, batches: mpsc::Sender<Batch>) {
    let (told, mut files_told) = mpsc::channel(BATCHES);
    let (member_told, mut members_told) = mpsc::channel(BATCHES);
    let mut tasks = JoinSet::new();
    tasks.spawn(files::watch(files, told));
    let mut members = Members { conduct, told: member_told, running: BTreeMap::new(), tasks: JoinSet::new(), begun: 0 };
    let mut issues = Issues::default();
    let (doubt, mut doubts) = mpsc::channel(1);
    let mut identity = Identity { told: doubt, asked: None, task: JoinSet::new() };
    loop {
        let batch = tokio::select! {
            // The files come first: what they say of the ClusterSet decides who may speak at all.
            biased;
            told = files_told.recv() => {
                let Some(Told { batch, cluster_set }) = told else { return };
                if let Some(cluster_set) = cluster_set {
                    members.arrange(&cluster_set);
                    identity.confirm(&cluster_set);
                    issues.keep(&members);
                }
                issues.of_files(batch)
            }
            told = next_of(&mut mirror) => match told {
                Some(told) => issues.of_mirror(told),
                // Nobody would hear of another ClusterSet.
                None => return,
            },
            Some(doubt) = doubts.recv() => issues.of_identity(doubt),
            // Those that were aborted are not missed; one that failed would leave its member unheard for ever.
            Some(Err(ended)) = members.tasks.join_next(), if !members.tasks.is_empty() => match ended.is_panic() {
                true => return,
                false => continue,
            },
            Some((id, begun, batch)) = members_told.recv() => {
                // What somebody said who is no member any more, or under other terms.
                if members.running.get(&id).is_none_or(|running| running.begun != begun) {
                    continue;
                }
                issues.of_member(id, batch)
            }
        };
        if batches.send(batch).await.is_err() {
            return;
        }
    }
}

async fn next_of(mirror: &mut Option<Mirror>) -> Option<Vec<Issue>> {
    match mirror {
        Some(mirror) => mirror.next().await,
        None => std::future::pending().await,
    }
}

/// Has the local cluster asked which member it is.
struct Identity {
    told: mpsc::Sender<Option<Issue>>,
    /// Whom, and which it should be.
    asked: Option<(ClusterId, Here)>,
    /// The one task that asks; it ends with this.
    task: JoinSet<()>,
}

impl Identity {
    /// Asks the local cluster of this ClusterSet, if an API server has it.
    fn confirm(&mut self, cluster_set: &ClusterSet) {
        let asked = cluster_set.local.clone().zip(cluster_set.local_access().cloned());
        if self.asked != asked {
            self.task.abort_all();
            self.asked.clone_from(&asked);
            if let Some((local, access)) = asked {
                self.task.spawn(confirm(local, access, CONFIRM_INTERVAL, self.told.clone()));
            }
        }
    }
}

/// The members that are followed, each by a task.
struct Members {
    conduct: Conduct,
    told: mpsc::Sender<(ClusterId, u64, Batch)>,
    running: BTreeMap<ClusterId, Running>,
    tasks: JoinSet<()>,
    begun: u64,
}

/// A member's task.
struct Running {
    terms: Terms,
    /// Tells this task's words from those of one before it.
    begun: u64,
    task: AbortHandle,
}

impl Members {
    /// Follows those that the ClusterSet names, and nobody else.
    fn arrange(&mut self, cluster_set: &ClusterSet) {
        let local = cluster_set.local_access().cloned();
        let mut before = std::mem::take(&mut self.running);
        for entry in &cluster_set.members {
            let Source::Kube(access) = entry.source.clone() else { continue };
            let id = &entry.member.id;
            let role = if cluster_set.local.as_ref() == Some(id) { Role::Local } else { Role::Remote };
            let terms = Terms { role, access, local: local.clone(), stale_after: entry.stale_after };
            let running = match before.remove(id) {
                Some(running) if running.terms == terms => running,
                other => {
                    other.iter().for_each(|other| other.task.abort());
                    self.begin(id.clone(), terms)
                }
            };
            self.running.insert(id.clone(), running);
        }
        before.values().for_each(|gone| gone.task.abort());
        if let Some(scribe) = &self.conduct.scribe {
            scribe.keep(self.running.keys().cloned().collect());
        }
    }

    fn begin(&mut self, id: ClusterId, terms: Terms) -> Running {
        self.begun += 1;
        let (begun, told) = (self.begun, self.told.clone());
        let (followed, conduct) = (terms.clone(), self.conduct.clone());
        let task = self.tasks.spawn(async move {
            let (batches, mut said) = mpsc::channel(1);
            let pass_on = async {
                while let Some(batch) = said.recv().await {
                    if told.send((id.clone(), begun, batch)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::join!(follow_member(id.clone(), followed, conduct, batches), pass_on);
        });
        Running { terms, begun, task }
    }
}

/// What is wrong, by who said it.
#[derive(Default)]
struct Issues {
    mirror: Vec<Issue>,
    identity: Option<Issue>,
    files: Vec<Issue>,
    members: BTreeMap<ClusterId, Vec<Issue>>,
}

impl Issues {
    fn keep(&mut self, members: &Members) {
        self.members.retain(|id, _| members.running.contains_key(id));
    }

    /// A batch of the files, with the issues of everybody.
    fn of_files(&mut self, mut batch: Batch) -> Batch {
        if let Some(issues) = batch.issues.take() {
            self.files = issues;
        }
        batch.issues = Some(self.all());
        batch
    }

    /// What is wrong with the ConfigMap, as a batch with the issues of everybody.
    fn of_mirror(&mut self, issues: Vec<Issue>) -> Batch {
        self.mirror = issues;
        Batch { issues: Some(self.all()), ..Batch::default() }
    }

    /// Whether the local cluster is who it is taken for, as a batch with the issues of everybody.
    fn of_identity(&mut self, doubt: Option<Issue>) -> Batch {
        self.identity = doubt;
        Batch { issues: Some(self.all()), ..Batch::default() }
    }

    /// A batch of a member, with the issues of everybody where its own changed.
    fn of_member(&mut self, id: ClusterId, mut batch: Batch) -> Batch {
        if let Some(issues) = batch.issues.take() {
            self.members.insert(id, issues);
            batch.issues = Some(self.all());
        }
        batch
    }

    fn all(&self) -> Vec<Issue> {
        self.mirror
            .iter()
            .chain(&self.identity)
            .chain(&self.files)
            .chain(self.members.values().flatten())
            .cloned()
            .collect()
    }
}
