//! One member of the ClusterSet whose objects an API server has: all its collections, as one source.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use kube::Client;
use policy_core::model::{ClusterId, Event, Issue, IssueCode, Level};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::access::{Access, Here, Offers};
use super::collection::{Collection, Namespaces, NetworkPolicies, Nodes, Pods};
use super::follow::{News, follow};
use super::trouble::Trouble;
use crate::convert::{Object, ObjectKey, Reading};
use crate::sources::Batch;

/// How much of a collection may be told before it is taken.
const NEWS: usize = 256;

/// What a member is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its policies are enforced here.
    Local,
    /// Its pods are peers.
    Remote,
}

impl Role {
    fn collections(self) -> &'static [Collection] {
        match self {
            Self::Local => Collection::LOCAL,
            Self::Remote => Collection::REMOTE,
        }
    }
}

/// How a member is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it is to us.
    pub role: Role,
    /// Its own credentials.
    pub access: Access,
    /// The local cluster's, which has the Secrets of others.
    pub local: Option<Here>,
}

/// Follows a member until nobody listens.
pub async fn follow_member(cluster: ClusterId, terms: Terms, silence: Duration, batches: mpsc::Sender<Batch>) {
    let Terms { role, access, local } = terms;
    let (clients, clients_here) = watch::channel(None);
    let (told, mut news) = mpsc::channel(NEWS);
    let (refusals, mut refused) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(access.provide(local, Offers { clients, refusals }));
    for collection in role.collections() {
        spawn(&mut tasks, *collection, &cluster, &clients_here, silence, &told);
    }
    drop(told);
    let mut state = State::new(cluster, role);
    loop {
        let batch = tokio::select! {
            Some(trouble) = refused.recv() => state.access(trouble),
            // None of them ends of itself: it would be missing, and nobody would know.
            Some(ended) = tasks.join_next() => match ended {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ => return,
            },
            first = news.recv() => match first {
                Some((collection, first)) => {
                    let mut batch = Batch::default();
                    state.take(collection, first, &mut batch);
                    // What has come meanwhile belongs to the same step.
                    while let Ok((collection, more)) = news.try_recv() {
                        state.take(collection, more, &mut batch);
                    }
                    state.finish(batch)
                }
                None => return,
            },
        };
        if batches.send(batch).await.is_err() {
            return;
        }
    }
}

fn spawn(
    tasks: &mut JoinSet<()>,
    collection: Collection,
    cluster: &ClusterId,
    clients: &watch::Receiver<Option<Client>>,
    silence: Duration,
    told: &mpsc::Sender<(Collection, News)>,
) {
    let (cluster, clients, told) = (cluster.clone(), clients.clone(), told.clone());
    match collection {
        Collection::Namespaces => tasks.spawn(follow::<Namespaces>(cluster, clients, silence, told)),
        Collection::Nodes => tasks.spawn(follow::<Nodes>(cluster, clients, silence, told)),
        Collection::NetworkPolicies => tasks.spawn(follow::<NetworkPolicies>(cluster, clients, silence, told)),
        Collection::Pods => tasks.spawn(follow::<Pods>(cluster, clients, silence, told)),
    };
}

/// What is known of a member beside its objects, which only the control loop keeps.
struct State {
    cluster: ClusterId,
    role: Role,
    /// The collections that have been listed.
    listed: BTreeSet<Collection>,
    /// When each collection's server was last heard.
    heard: BTreeMap<Collection, SystemTime>,
    /// What keeps collections from being followed.
    troubles: BTreeMap<Collection, Trouble>,
    /// Why there are no credentials, or no new ones.
    access: Option<Trouble>,
    /// What is wrong with objects.
    issues: BTreeMap<ObjectKey, Vec<Issue>>,
    /// Whether `issues`, or why something cannot be followed, changed since they were told.
    changed: bool,
}

impl State {
    fn new(cluster: ClusterId, role: Role) -> Self {
        Self {
            cluster,
            role,
            listed: BTreeSet::new(),
            heard: BTreeMap::new(),
            troubles: BTreeMap::new(),
            access: None,
            issues: BTreeMap::new(),
            changed: true,
        }
    }

    /// Takes in whether there are credentials.
    fn access(&mut self, trouble: Option<Trouble>) -> Batch {
        self.changed |= self.access != trouble;
        self.access = trouble;
        self.finish(Batch::default())
    }

    /// Takes in what a collection's follower tells.
    fn take(&mut self, collection: Collection, news: News, batch: &mut Batch) {
        if let News::Failed(trouble) = news {
            let before = self.troubles.insert(collection, trouble);
            self.changed |= before.as_ref() != self.troubles.get(&collection);
            return;
        }
        self.changed |= self.troubles.remove(&collection).is_some();
        self.heard.insert(collection, SystemTime::now());
        match news {
            News::Listed(readings) => self.list(collection, readings, batch),
            News::Applied(reading) => self.apply(reading, batch),
            News::Deleted(key, event) => {
                self.changed |= self.issues.remove(&key).is_some();
                batch.events.push(event);
            }
            News::Unchanged | News::Failed(_) => {}
        }
    }

    fn list(&mut self, collection: Collection, readings: Vec<Reading>, batch: &mut Batch) {
        let known = self.issues.len();
        self.issues.retain(|key, _| !collection.holds(key));
        self.changed |= self.issues.len() != known;
        let keys: Vec<ObjectKey> = readings.iter().map(|reading| reading.key.clone()).collect();
        for reading in readings {
            self.apply(reading, batch);
        }
        batch.events.push(Event::Relisted(self.cluster.clone(), collection.listing(keys)));
        if self.listed.insert(collection) && self.listed.len() == self.role.collections().len() {
            batch.events.push(Event::Synced(self.cluster.clone()));
        }
    }

    fn apply(&mut self, reading: Reading, batch: &mut Batch) {
        let Reading { key, object, mut issues } = reading;
        if object.is_none() {
            issues.iter_mut().for_each(say_consequence);
        }
        batch.events.extend(object.map(Object::applied));
        self.changed |= match issues.is_empty() {
            true => self.issues.remove(&key).is_some(),
            false => self.issues.insert(key, issues.clone()) != Some(issues),
        };
    }

    /// Adds to a batch what is wrong now, if that changed, and when the member was last heard.
    fn finish(&mut self, mut batch: Batch) -> Batch {
        if std::mem::take(&mut self.changed) {
            let own = self.own_issues();
            batch.issues = Some(own.into_iter().chain(self.issues.values().flatten().cloned()).collect());
        }
        // The member is as old as what is oldest of it.
        if self.heard.len() == self.role.collections().len() {
            batch.heard.extend(self.heard.values().min().map(|heard| (self.cluster.clone(), *heard)));
        }
        batch
    }

    /// Why the member's objects cannot be followed: once for all collections with the same trouble.
    fn own_issues(&self) -> Vec<Issue> {
        let mut told: BTreeMap<String, Vec<Collection>> = BTreeMap::new();
        for (collection, trouble) in &self.troubles {
            told.entry(format!("{trouble}{}", trouble.advice(Some(*collection)))).or_default().push(*collection);
        }
        let mut issues: Vec<Issue> = told
            .into_iter()
            .map(|(trouble, collections)| {
                let names: Vec<&str> = collections.iter().map(|collection| collection.resource()).collect();
                let is_known = collections.iter().all(|collection| self.listed.contains(collection));
                let consequence =
                    if is_known { "their last known state stays" } else { "nothing is known of them yet" };
                self.issue(format!(
                    "{} of {} cannot be followed: {trouble}; {consequence}",
                    names.join(", "),
                    self.cluster
                ))
            })
            .collect();
        issues.extend(self.access.as_ref().map(|trouble| self.issue(trouble.to_string())));
        issues
    }

    fn issue(&self, message: String) -> Issue {
        Issue {
            code: IssueCode::UnusableSource,
            level: Level::Error,
            object: self.cluster.to_string(),
            field: String::new(),
            message,
        }
    }
}

fn say_consequence(issue: &mut Issue) {
    if matches!(issue.code, IssueCode::UnreadablePolicy | IssueCode::UnreadableObject) {
        issue.message.push_str("; its last valid version, if there was one, stays in force");
    }
}
