//! Who leads: a Lease that all candidates write under the rules of client-go's leaderelection.
//!
//! Whether a lease is over is judged by the own clock alone, from when its holder was last seen to renew it: clocks of
//! others are not relied on. Every write names the version it rests on, so of two candidates one is refused. A leader that
//! cannot renew stops before anybody else may begin. (Crates that do this compare clocks, or write without a version.)

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use backon::{BackoffBuilder as _, ConstantBuilder};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::{NAME, Status};
use crate::sources::kube::{Here, Trouble};

/// How long letting go of the Lease may take at the end; without it the others wait until it is over.
const FAREWELL: Duration = Duration::from_secs(2);
/// For whom nobody is, as client-go writes it, a lease ends after this many seconds.
const RELEASED_SECONDS: i32 = 1;

/// How long things take; each is shorter than the one before it.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long others wait for a leader that is not heard of; whole seconds.
    pub lease: Duration,
    /// How long a leader goes on that cannot renew.
    pub renew: Duration,
    /// Between two tries.
    pub retry: Duration,
}

impl Default for Timing {
    /// As client-go has it.
    fn default() -> Self {
        Self { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

/// Until when a leader may write: what the Lease grants it, as far as it is renewed.
#[derive(Clone, Debug)]
pub struct Term(watch::Receiver<Instant>);

impl Term {
    /// The end, as it is known now.
    pub fn until(&self) -> Instant {
        *self.0.borrow()
    }

    #[cfg(test)]
    pub(super) fn of_test(until: watch::Receiver<Instant>) -> Self {
        Self(until)
    }
}

/// One who may lead.
pub struct Candidate {
    here: Here,
    /// Made anew after whatever failed: credentials change.
    client: Option<Client>,
    namespace: String,
    identity: String,
    timing: Timing,
    /// The record as it was last seen, and since when it has not changed.
    observed: Option<(LeaseSpec, Instant)>,
    /// What was last said to be in the way.
    said: Option<String>,
}

/// Leads whenever the election says so, until `asked` is ready or leading ends by itself; then the Lease is let go.
pub async fn elect<L: Future<Output = anyhow::Result<()>>>(
    mut candidate: Candidate,
    status: &Status,
    lead: impl Fn(Term) -> L,
    asked: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut asked = pin!(asked);
    loop {
        let renewed = tokio::select! {
            renewed = candidate.acquire(status) => renewed,
            () = &mut asked => return Ok(()),
        };
        let (until, term) = watch::channel(renewed + candidate.timing.renew);
        tracing::info!("{} leads", candidate.identity);
        status.leads(true);
        let ended = {
            // Whatever leading has begun ends with this block: before the Lease is let go, and before anybody else leads.
            let leading = pin!(lead(Term(term)));
            tokio::select! {
                // Whether it leads still is asked before anything is done in the belief that it does.
                biased;
                () = &mut asked => Some(Ok(())),
                () = candidate.keep(&until) => None,
                ended = leading => Some(ended),
            }
        };
        status.leads(false);
        match ended {
            Some(ended) => {
                candidate.release().await;
                return ended;
            }
            None => tracing::warn!("{} leads no more: it could not renew its Lease in time", candidate.identity),
        }
    }
}

impl Candidate {
    /// A candidate; no two may have the same identity.
    pub fn new(here: Here, namespace: String, identity: String, timing: Timing) -> Self {
        Self { here, client: None, namespace, identity, timing, observed: None, said: None }
    }

    /// Waits until it leads; returns since when. Who can see the Lease is ready.
    async fn acquire(&mut self, status: &Status) -> Instant {
        let pauses = ConstantBuilder::default().with_delay(self.timing.retry).with_jitter();
        let mut pauses = pauses.without_max_times().build();
        loop {
            let begun = Instant::now();
            let leads = self.attempt(begun + self.timing.renew).await;
            if self.said.is_none() {
                status.ready();
            }
            if leads {
                return begun;
            }
            sleep(pauses.next().unwrap_or(self.timing.retry)).await;
        }
    }

    /// Renews; returns when it could not be done for too long.
    async fn keep(&mut self, until: &watch::Sender<Instant>) {
        loop {
            let deadline = *until.borrow();
            let next = Instant::now() + self.timing.retry;
            sleep_until(next.min(deadline)).await;
            let begun = Instant::now();
            if begun >= deadline {
                return;
            }
            if self.attempt(deadline).await {
                until.send_replace(begun + self.timing.renew);
            }
        }
    }

    /// Tries to become or to stay leader; says in one line what is in the way.
    async fn attempt(&mut self, deadline: Instant) -> bool {
        let attempt = timeout_at(deadline, self.take_or_renew()).await;
        let attempt = attempt.unwrap_or_else(|_| Err(Trouble::silent(self.timing.renew)));
        if attempt.is_err() {
            self.client = None;
        }
        let said = attempt.as_ref().err().map(|trouble| {
            let advice = trouble.advice(None);
            format!("cannot use Lease {}/{NAME}: {trouble}{advice}", self.namespace)
        });
        if let Some(said) = said.as_ref().filter(|said| self.said.as_ref() != Some(said)) {
            tracing::warn!("{said}");
        }
        self.said = said;
        attempt.unwrap_or(false)
    }

    async fn leases(&mut self) -> Result<Api<Lease>, Trouble> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => self.client.insert(self.here.client().await?).clone(),
        };
        Ok(Api::namespaced(client, &self.namespace))
    }

    async fn take_or_renew(&mut self) -> Result<bool, Trouble> {
        let leases = self.leases().await?;
        let Some(lease) = leases.get_opt(NAME).await.map_err(|error| Trouble::of(&error))? else {
            let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.record(&LeaseSpec::default())) };
            let made = leases.create(&PostParams::default(), &lease).await;
            return self.written(made);
        };
        let record = lease.spec.clone().unwrap_or_default();
        self.observe(&record);
        if self.is_held_by_another() {
            return Ok(false);
        }
        // With the version that was read: whoever wrote meanwhile is not overwritten.
        let lease = Lease { spec: Some(self.record(&record)), ..lease };
        let replaced = leases.replace(NAME, &PostParams::default(), &lease).await;
        self.written(replaced)
    }

    /// What a write came to; another's that was sooner is no failure.
    fn written(&mut self, written: kube::Result<Lease>) -> Result<bool, Trouble> {
        match written {
            Ok(lease) => {
                self.observe(&lease.spec.unwrap_or_default());
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(Trouble::of(&error)),
        }
    }

    fn observe(&mut self, record: &LeaseSpec) {
        if self.observed.as_ref().is_none_or(|(observed, _)| observed != record) {
            self.observed = Some((record.clone(), Instant::now()));
        }
    }

    fn is_held_by_another(&self) -> bool {
        let Some((record, since)) = &self.observed else { return false };
        let holder = record.holder_identity.as_deref().unwrap_or_default();
        let seconds = record.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let length = seconds.map_or(self.timing.lease, Duration::from_secs);
        !holder.is_empty() && holder != self.identity && since.elapsed() < length
    }

    /// The record by which this candidate holds the Lease after `before`.
    fn record(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let is_mine = before.holder_identity.as_deref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or(0);
        let is_first = before.holder_identity.is_none() && before.acquire_time.is_none();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.timing.lease.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: before.acquire_time.clone().filter(|_| is_mine).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if is_mine || is_first { transitions } else { transitions.saturating_add(1) }),
            ..before.clone()
        }
    }

    /// Lets go of the Lease, so that another may lead at once.
    async fn release(&mut self) {
        let release = async {
            let leases = self.leases().await?;
            let lease = leases.get(NAME).await.map_err(|error| Trouble::of(&error))?;
            let record = lease.spec.clone().unwrap_or_default();
            if record.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            let spec =
                LeaseSpec { holder_identity: None, lease_duration_seconds: Some(RELEASED_SECONDS), ..record.clone() };
            let lease = Lease { spec: Some(spec), ..lease };
            leases.replace(NAME, &PostParams::default(), &lease).await.map(drop).map_err(|error| Trouble::of(&error))
        };
        match timeout(FAREWELL, release).await {
            Ok(Ok(())) => {}
            Ok(Err(trouble)) => tracing::warn!("cannot let go of Lease {}/{NAME}: {trouble}", self.namespace),
            Err(_) => tracing::warn!("cannot let go of Lease {}/{NAME} in time", self.namespace),
        }
    }
}
