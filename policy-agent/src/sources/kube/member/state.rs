//! What a member has told, and what is wrong with it: from what followers tell to what the control loop is told.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use policy_core::model::{ClusterId, Event, Issue, IssueCode, Level};

use super::words::{by_value, names, say_consequence, span};
use crate::convert::{Object, ObjectKey, Reading};
use crate::sources::Batch;
use crate::sources::kube::collection::Collection;
use crate::sources::kube::follow::News;
use crate::sources::kube::parts::Parts;
use crate::sources::kube::snapshot::{Health, Restored, Unrestored};
use crate::sources::kube::trouble::Trouble;

/// How often the clock is looked at for what counts no more.
const CLOCK_INTERVAL: Duration = Duration::from_secs(10);

/// What is known of a member beside its objects, which only the control loop keeps.
pub(super) struct State {
    cluster: ClusterId,
    /// What is followed of it.
    collections: &'static [Collection],
    /// How long what it told stays while it is not heard; `None`: for ever.
    stale_after: Option<Duration>,
    /// The collections of which all objects have been told, by the server or from a snapshot.
    listed: BTreeSet<Collection>,
    /// Those of them that a snapshot told, and how old it was then.
    restored: BTreeMap<Collection, Duration>,
    /// Those of them that count no more, since they were not heard for so long.
    stale: BTreeSet<Collection>,
    /// What has been told of lists that are not whole yet.
    parts: BTreeMap<Collection, Parts>,
    /// By collection, [`Self::forgotten`].
    forgotten: BTreeMap<Collection, Arc<AtomicBool>>,
    /// When each collection's server was last heard.
    heard: BTreeMap<Collection, SystemTime>,
    /// What keeps collections from being followed.
    troubles: BTreeMap<Collection, Trouble>,
    /// Why there are no credentials, or no new ones.
    access: Option<Trouble>,
    /// Why the snapshot is not believed.
    refusal: Option<String>,
    /// Why the snapshot cannot be written.
    unwritten: Health,
    /// What is wrong with objects.
    issues: BTreeMap<ObjectKey, Vec<Issue>>,
    /// Whether `issues`, or why something cannot be followed, changed since they were told.
    changed: bool,
}

impl State {
    pub(super) fn new(cluster: ClusterId, collections: &'static [Collection], stale_after: Option<Duration>) -> Self {
        Self {
            cluster,
            collections,
            stale_after,
            listed: BTreeSet::new(),
            parts: BTreeMap::new(),
            restored: BTreeMap::new(),
            stale: BTreeSet::new(),
            forgotten: BTreeMap::new(),
            heard: BTreeMap::new(),
            troubles: BTreeMap::new(),
            access: None,
            refusal: None,
            unwritten: Health::new(),
            issues: BTreeMap::new(),
            changed: true,
        }
    }

    /// What tells a collection's follower that it must list.
    pub(super) fn forgotten(&mut self, collection: Collection) -> Arc<AtomicBool> {
        Arc::clone(self.forgotten.entry(collection).or_default())
    }

    /// Takes in whether there are credentials.
    pub(super) fn access(&mut self, trouble: Option<Trouble>) -> Batch {
        self.changed |= self.access != trouble;
        self.access = trouble;
        self.finish(Batch::default())
    }

    /// Takes in what keeps journals from being written.
    pub(super) fn health(&mut self, unwritten: Health) -> Batch {
        self.changed |= self.unwritten != unwritten;
        self.unwritten = unwritten;
        self.finish(Batch::default())
    }

    /// Whether something on which verdicts rest cannot be followed now.
    pub(super) fn is_troubled(&self) -> bool {
        self.access.is_some() || self.troubles.keys().any(|collection| collection.decides())
    }

    /// The collections on whose objects verdicts rest.
    fn deciding(&self) -> impl Iterator<Item = &'static Collection> {
        self.collections.iter().filter(|collection| collection.decides())
    }

    /// Whether all has been told on which verdicts rest.
    fn is_whole(&self) -> bool {
        self.deciding().all(|collection| self.listed.contains(collection))
    }

    /// What of a snapshot is wanted: nothing once all has been told on which verdicts rest, else all that has not been told.
    pub(super) fn wanted(&self) -> Vec<Collection> {
        let unlisted = self.collections.iter().filter(|collection| !self.listed.contains(collection));
        if self.is_whole() { Vec::new() } else { unlisted.copied().collect() }
    }

    /// Takes in what a snapshot says, but where the server has told it meanwhile.
    pub(super) fn restore(&mut self, read: Result<Vec<Restored>, Unrestored>) -> Batch {
        let mut batch = Batch::default();
        match read {
            Err(Unrestored::Absent(collection)) => {
                tracing::info!(
                    "{}: nothing is kept of its {collection}, so its API server is waited for",
                    self.cluster
                );
            }
            Err(refused @ Unrestored::Refused { .. }) => {
                self.refusal = Some(refused.to_string());
                self.changed = true;
            }
            Ok(collections) => {
                for Restored { collection, mut readings, heard } in collections {
                    if self.listed.contains(&collection) {
                        continue;
                    }
                    self.changed = true;
                    self.heard.insert(collection, heard);
                    if self.is_stale(heard) {
                        self.forget(collection, &mut batch);
                    } else {
                        self.restored.insert(collection, heard.elapsed().unwrap_or_default());
                        // What the server has told of it is newer.
                        if let Some(parts) = self.parts.get(&collection) {
                            readings.retain_mut(|reading| {
                                let was_read = parts.was_read(&reading.key);
                                // Of what cannot be read the last valid version stays in force.
                                if was_read == Some(false) {
                                    batch.events.extend(reading.object.take().map(Object::applied));
                                }
                                was_read.is_none()
                            });
                        }
                        self.list(collection, readings, &mut batch);
                    }
                }
            }
        }
        self.finish(batch)
    }

    /// Whether what was heard then counts no more.
    fn is_stale(&self, heard: SystemTime) -> bool {
        self.stale_after.is_some_and(|limit| heard.elapsed().is_ok_and(|age| age >= limit))
    }

    /// How long it is until something counts no more, if it ever will. Clocks are set, so it is looked at now and then.
    pub(super) fn until_stale(&self) -> Option<Duration> {
        let limit = self.stale_after?;
        let fresh = self.heard.iter().filter(|(collection, _)| !self.stale.contains(collection));
        let left = fresh.map(|(_, heard)| limit.saturating_sub(heard.elapsed().unwrap_or_default()));
        Some(left.min().unwrap_or(CLOCK_INTERVAL).min(CLOCK_INTERVAL))
    }

    /// Removes what was not heard for too long.
    pub(super) fn expire(&mut self) -> Batch {
        let mut batch = Batch::default();
        for (collection, heard) in self.heard.clone() {
            if !self.stale.contains(&collection) && self.is_stale(heard) {
                self.forget(collection, &mut batch);
                if let Some(forgotten) = self.forgotten.get(&collection) {
                    forgotten.store(true, Ordering::Relaxed);
                }
            }
        }
        self.finish(batch)
    }

    /// Nothing of a collection counts before its next list.
    fn forget(&mut self, collection: Collection, batch: &mut Batch) {
        self.stale.insert(collection);
        self.restored.remove(&collection);
        self.changed = true;
        self.list(collection, Vec::new(), batch);
    }

    /// Takes in what a collection's follower tells.
    pub(super) fn take(&mut self, collection: Collection, news: News, batch: &mut Batch) {
        if let News::Failed(trouble) = news {
            let before = self.troubles.insert(collection, trouble);
            self.changed |= before.as_ref() != self.troubles.get(&collection);
            return;
        }
        let news = match news {
            News::Begun => return self.begin(collection, batch),
            News::Part(readings) => return self.part(collection, readings, batch),
            news => news,
        };
        let news = match (news, self.parts.get_mut(&collection)) {
            // The rest of a list that goes on is not known to be as it was told.
            (News::Deleted(key, event), Some(parts)) => {
                parts.forget(&key);
                self.changed |= self.issues.remove(&key).is_some();
                return batch.events.push(event);
            }
            (news, _) => news,
        };
        if self.stale.contains(&collection) && !matches!(news, News::Listed(_)) {
            // What changed in what counts no more says too little.
            return;
        }
        self.changed |= self.troubles.remove(&collection).is_some();
        self.heard.insert(collection, SystemTime::now());
        match news {
            News::Listed(readings) => {
                self.changed |= self.restored.remove(&collection).is_some() | self.stale.remove(&collection);
                let mut all = self.parts.get_mut(&collection).map(Parts::take_kept).unwrap_or_default();
                all.extend(readings);
                self.list(collection, all, batch);
                self.parts.remove(&collection);
                if self.is_whole() {
                    // By now another snapshot has taken its place.
                    self.changed |= self.refusal.take().is_some();
                }
            }
            News::Applied(reading) => self.apply(reading, batch),
            News::Deleted(key, event) => {
                self.changed |= self.issues.remove(&key).is_some();
                batch.events.push(event);
            }
            News::Unchanged | News::Failed(_) | News::Begun | News::Part(_) => {}
        }
    }

    /// A list begins. What one that did not end has told stays as what is known last does, and no longer.
    fn begin(&mut self, collection: Collection, batch: &mut Batch) {
        let before = self.parts.insert(collection, Parts::default()).unwrap_or_default();
        if before.counted().next().is_none() {
            return;
        }
        if self.stale.contains(&collection) {
            self.list(collection, Vec::new(), batch);
        } else if self.stale_after.is_some() {
            self.heard.entry(collection).or_insert_with(SystemTime::now);
        }
    }

    fn part(&mut self, collection: Collection, readings: Vec<Reading>, batch: &mut Batch) {
        let parts = self.parts.entry(collection).or_default();
        if self.listed.contains(&collection) {
            parts.keep(readings);
        } else {
            parts.count(&readings);
            readings.into_iter().for_each(|reading| self.apply(reading, batch));
        }
    }

    /// From here on there are these objects of a collection, and what the server has told of a list that is not whole yet.
    fn list(&mut self, collection: Collection, readings: Vec<Reading>, batch: &mut Batch) {
        let parts = self.parts.get(&collection);
        let counts = |key: &ObjectKey| parts.is_some_and(|parts| parts.counts(key));
        let known = self.issues.len();
        self.issues.retain(|key, _| !collection.holds(key) || counts(key));
        self.changed |= self.issues.len() != known;
        let counted = parts.into_iter().flat_map(Parts::counted);
        let keys: Vec<ObjectKey> = readings.iter().map(|reading| &reading.key).chain(counted).cloned().collect();
        for reading in readings {
            self.apply(reading, batch);
        }
        batch.events.push(Event::Relisted(self.cluster.clone(), collection.listing(keys)));
        let was_whole = self.is_whole();
        self.listed.insert(collection);
        if !was_whole && self.is_whole() {
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
    pub(super) fn finish(&mut self, mut batch: Batch) -> Batch {
        if std::mem::take(&mut self.changed) {
            let own = self.own_issues();
            batch.issues = Some(own.into_iter().chain(self.issues.values().flatten().cloned()).collect());
        }
        // The member is as old as what is oldest of it.
        let heard: Option<Vec<&SystemTime>> = self.deciding().map(|collection| self.heard.get(collection)).collect();
        let oldest = heard.and_then(|heard| heard.into_iter().min());
        batch.heard.extend(oldest.map(|heard| (self.cluster.clone(), *heard)));
        batch
    }

    /// What is wrong with the member as a whole.
    fn own_issues(&self) -> Vec<Issue> {
        let cluster = &self.cluster;
        let mut issues = self.troubles_told();
        issues.extend(self.access.as_ref().map(|trouble| self.issue(IssueCode::UnusableSource, trouble.to_string())));
        if let Some(age) = self.restored.values().max()
            && self.restored.keys().any(|collection| collection.decides())
        {
            let message = format!(
                "{} of {cluster} are those of a snapshot that was {} old: its API server has told nothing since this agent \
                 began; what it tells takes their place",
                names(self.restored.keys()),
                span(*age)
            );
            issues.push(self.issue(IssueCode::RestoredSource, message));
        }
        if let (false, Some(limit)) = (self.stale.is_empty(), self.stale_after) {
            let message = format!(
                "{} of {cluster} were not heard for {}, its staleAfter, and count no more; they come back with the next \
                 list of its API server",
                names(&self.stale),
                span(limit)
            );
            issues.push(self.issue(IssueCode::StaleSource, message));
        }
        let refusal = self.refusal.iter().map(|refusal| format!("{refusal}; {cluster}'s API server is waited for"));
        let unwritten = by_value(&self.unwritten).into_iter().map(|(why, collections)| {
            format!(
                "the snapshot of {} of {cluster} cannot be written: {why}; an agent that begins while the API server cannot \
                 be reached would know what was written last",
                names(&collections)
            )
        });
        issues.extend(refusal.chain(unwritten).map(|message| self.issue(IssueCode::UnusableSnapshot, message)));
        issues
    }

    /// Why the member's objects cannot be followed: once for all collections with the same trouble.
    fn troubles_told(&self) -> Vec<Issue> {
        let advised = self
            .troubles
            .iter()
            .map(|(at, trouble)| (*at, format!("{trouble}{}", trouble.advice(Some(*at)))))
            .collect();
        let told = by_value(&advised).into_iter().map(|(trouble, collections)| {
            let are_all = |of: &dyn Fn(&Collection) -> bool| collections.iter().all(of);
            let consequence = if are_all(&|collection| self.stale.contains(collection)) {
                "none of them counts any more"
            } else if are_all(&|collection| self.listed.contains(collection)) {
                "their last known state stays"
            } else {
                "nothing is known of them yet"
            };
            let message =
                format!("{} of {} cannot be followed: {trouble}; {consequence}", names(&collections), self.cluster);
            let issue = self.issue(IssueCode::UnusableSource, message);
            // Where no verdict rests on them, the member counts as it is.
            let decides = collections.iter().any(|collection| collection.decides());
            Issue { level: if decides { Level::Error } else { Level::Warning }, ..issue }
        });
        told.collect()
    }

    fn issue(&self, code: IssueCode, message: String) -> Issue {
        // Where nothing is enforced otherwise than before, it is a warning.
        let level = match code {
            IssueCode::RestoredSource | IssueCode::UnusableSnapshot => Level::Warning,
            _ => Level::Error,
        };
        Issue { code, level, object: self.cluster.to_string(), field: String::new(), message }
    }
}
