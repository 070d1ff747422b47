//! The leader's desk: what stands on the policies of its cluster, what is to stand there, and what is written when.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::ObjectMeta;
use kube::runtime::watcher::Event;
use policy_core::model::ClusterId;
use tokio::time::Instant;

use super::allowance::Allowance;
use super::notes::{KEY, Notes};
use super::writer::{Annotated, Named, Writer};
use super::{NAME, Pace, Status};
use crate::agent::backoff::Backoff;
use crate::sources::kube::{Mark, Trouble, Word};

/// A policy of the local cluster, as far as the leader writes on it.
#[derive(Debug)]
struct Policy {
    named: Named,
    /// Which version of it that is.
    version: String,
    /// What its annotation says.
    annotation: Option<String>,
    /// What was said about it in Events.
    said: Notes,
    /// What is to stand there; `None`: it has changed since that was found out.
    wanted: Option<Notes>,
    /// How often it may be written on.
    allowance: Allowance,
}

/// What there is to write, and who writes it.
pub struct Desk {
    local: ClusterId,
    /// The policies that there are, by the object of their issues; `None`: not known yet.
    policies: Option<BTreeMap<String, Policy>>,
    /// Those that are being listed.
    listing: BTreeMap<String, Policy>,
    /// Those that are to be written on, and not before when.
    queue: BTreeMap<String, Instant>,
    writer: Writer,
    status: Status,
    interval: Duration,
    refill: Duration,
    backoff: Backoff,
    /// Before then nothing at all is written.
    rest: Instant,
    /// What was last said to be in the way of writing, and of following policies.
    said: Option<String>,
    said_of_watch: Option<String>,
}

impl Desk {
    /// An empty one.
    pub fn new(local: ClusterId, writer: Writer, status: Status, pace: Pace) -> Self {
        Self {
            local,
            policies: None,
            listing: BTreeMap::new(),
            queue: BTreeMap::new(),
            writer,
            status,
            interval: pace.interval,
            refill: pace.refill,
            backoff: Backoff::default(),
            rest: Instant::now(),
            said: None,
            said_of_watch: None,
        }
    }

    /// Whether it is known which policies there are.
    pub fn is_laid(&self) -> bool {
        self.policies.is_some()
    }

    /// What the objects of issues of policies of the local cluster begin with.
    pub fn prefix(&self) -> String {
        format!("{}/NetworkPolicy/", self.local)
    }

    /// Takes in which policies there are, and what stands on them.
    pub fn hear(&mut self, word: Word) {
        let word = match word {
            Ok(word) => word,
            Err(trouble) => {
                let said = format!("cannot follow what stands on policies: {trouble}{}", trouble.advice(None));
                if self.said_of_watch.as_ref() != Some(&said) {
                    tracing::warn!("{said}");
                    self.said_of_watch = Some(said);
                }
                return;
            }
        };
        self.said_of_watch = None;
        match word {
            Event::Init => self.listing.clear(),
            Event::InitApply(Mark { metadata, .. }) => {
                let (key, policy) = self.policy(&metadata);
                self.listing.insert(key, policy);
            }
            Event::InitDone => self.policies = Some(std::mem::take(&mut self.listing)),
            Event::Apply(Mark { metadata, .. }) => {
                let (key, policy) = self.policy(&metadata);
                if let Some(policies) = &mut self.policies {
                    policies.insert(key, policy);
                }
            }
            Event::Delete(Mark { metadata, .. }) => {
                let key = self.object(&metadata);
                if let Some(policies) = &mut self.policies {
                    policies.remove(&key);
                }
            }
        }
    }

    /// How issues name the policy with this metadata.
    fn object(&self, metadata: &ObjectMeta) -> String {
        let of = |field: &Option<String>| field.clone().unwrap_or_default();
        format!("{}{}/{}", self.prefix(), of(&metadata.namespace), of(&metadata.name))
    }

    fn policy(&self, metadata: &ObjectMeta) -> (String, Policy) {
        let key = self.object(metadata);
        let named = Named {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone(),
        };
        let version = metadata.resource_version.clone().unwrap_or_default();
        let annotation = metadata.annotations.as_ref().and_then(|annotations| annotations.get(KEY)).cloned();
        let before = self.policies.as_ref().and_then(|policies| policies.get(&key));
        // What was said in this life is known better than what stands there, which somebody may have taken away.
        let said = match before {
            Some(before) if before.named == named => before.said.clone(),
            _ => annotation.as_deref().map(Notes::read).unwrap_or_default(),
        };
        let allowance = before.map(|before| before.allowance).unwrap_or_default();
        (key, Policy { named, version, annotation, said, wanted: None, allowance })
    }

    /// Takes in what is to stand on policies: `notes` are of the policy with this key, after what was said of it.
    pub fn want(&mut self, mut notes: impl FnMut(&str, &Notes) -> Notes) {
        let now = Instant::now();
        // Whoever waits stays before those who come: ever new policies would have their turn first for ever.
        let before = std::mem::take(&mut self.queue);
        for (key, policy) in self.policies.iter_mut().flatten() {
            let wanted = notes(key, &policy.said);
            if wanted.annotation() != policy.annotation || !wanted.news(&policy.said).is_empty() {
                let due = before.get(key).copied().unwrap_or_else(|| policy.allowance.due(now, self.refill));
                self.queue.insert(key.clone(), due);
            }
            policy.wanted = Some(wanted);
        }
    }

    /// When there is something to write.
    pub fn due(&self) -> Option<Instant> {
        self.queue.values().min().map(|due| (*due).max(self.rest))
    }

    /// Writes on the policy whose turn it is. What fails is tried again, after the others.
    pub async fn write(&mut self) {
        let next = self.queue.iter().min_by_key(|(_, due)| **due).map(|(key, _)| key.clone());
        let Some(key) = next else { return };
        self.queue.remove(&key);
        let Some(policy) = self.policies.as_mut().and_then(|policies| policies.get_mut(&key)) else { return };
        let now = Instant::now();
        policy.allowance.take(now, self.refill);
        match write_on(policy, &self.writer, &self.status).await {
            Ok(()) => {
                if self.said.take().is_some() {
                    tracing::info!("what is wrong can be written on policies again");
                }
                self.backoff.succeeded();
                self.rest = now + self.interval;
            }
            Err(trouble) => {
                self.status.failed();
                let said = format!("cannot write on policies what is wrong with them: {trouble}");
                if self.said.as_ref() != Some(&said) {
                    tracing::warn!("{said}; it is tried again; ClusterRole {NAME} of deploy/base says what it needs");
                    self.said = Some(said);
                }
                let later = Instant::now();
                // Behind all that did not fail.
                self.queue.insert(key, policy.allowance.due(later, self.refill).max(later));
                // What the server refuses of one policy keeps nobody else waiting.
                self.rest = later + self.interval;
                if !trouble.is_judgement() {
                    self.backoff.failed_again(later);
                    self.rest = self.backoff.due().unwrap_or(self.rest);
                }
            }
        }
    }
}

/// Says what is new, then writes it down: what stands there was said. In the other order an end in between would keep it
/// unsaid for good; in this one it is said twice at worst.
async fn write_on(policy: &mut Policy, writer: &Writer, status: &Status) -> Result<(), Trouble> {
    let Policy { named, version, annotation, said, wanted: Some(wanted), allowance: _ } = policy else { return Ok(()) };
    for announcement in wanted.news(said) {
        writer.announce(named, &announcement).await?;
        said.announced(&announcement, wanted);
        status.written();
    }
    said.clone_from(wanted);
    let wanted = wanted.annotation();
    if wanted != *annotation {
        match writer.annotate(named, version, wanted.as_deref()).await? {
            Annotated::Written(since) => {
                status.written();
                (*version, *annotation) = (since, wanted);
            }
            Annotated::Superseded => {}
        }
    }
    Ok(())
}
