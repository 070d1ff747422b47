//! One member of the ClusterSet whose objects an API server has: all its collections, as one source.

mod state;
mod words;

use std::path::PathBuf;
use std::time::Duration;

use policy_core::model::ClusterId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::access::{Access, Here, Means, Offers};
use super::collection::{Collection, EndpointSlices, Namespaces, NetworkPolicies, Nodes, Pods, Services};
use super::follow::{Setting, follow};
use super::restoring::Restoring;
use super::snapshot::{Health, Journal, Scribe};
use crate::sources::Batch;
use state::State;

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

/// How a member is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it is to us.
    pub role: Role,
    /// Its own credentials.
    pub access: Access,
    /// The local cluster's, which has the Secrets and ClusterProfiles of others.
    pub local: Option<Here>,
    /// How long its last known state stays while it is not heard; for ever where absent, and that of the local cluster.
    pub stale_after: Option<Duration>,
}

/// How all members are followed.
#[derive(Clone, Debug)]
pub struct Conduct {
    /// A server that says nothing for so long is asked anew.
    pub silence: Duration,
    /// What a member has not told after so long is looked for in its snapshot, sooner if its server cannot be asked.
    pub restore_after: Duration,
    /// Who keeps snapshots; `None`: there are none.
    pub scribe: Option<Scribe>,
    /// The file that says which programs give credentials for members that a ClusterProfile describes.
    pub access_providers: Option<PathBuf>,
}

/// Follows a member until nobody listens.
pub async fn follow_member(cluster: ClusterId, terms: Terms, conduct: Conduct, batches: mpsc::Sender<Batch>) {
    let Terms { role, access, local, stale_after } = terms;
    let (clients, clients_here) = watch::channel(None);
    let (told, mut news) = mpsc::channel(NEWS);
    let (refusals, mut refused) = mpsc::channel(1);
    let (collections, stale_after) = match role {
        Role::Local => (Collection::LOCAL, None),
        Role::Remote => (Collection::REMOTE, stale_after.map(|limit| limit.max(conduct.silence))),
    };
    let (journals, mut health) = journals(&cluster, collections, conduct.scribe.as_ref());
    let mut state = State::new(cluster.clone(), collections, stale_after);
    let mut tasks = JoinSet::new();
    let means = Means { local, providers: conduct.access_providers.clone() };
    tasks.spawn(access.provide(means, Offers { clients, refusals }));
    for (collection, journal) in collections.iter().zip(journals) {
        let forgotten = state.forgotten(*collection);
        let (cluster, clients, told) = (cluster.clone(), clients_here.clone(), told.clone());
        let setting = Setting { cluster, clients, silence: conduct.silence, told, journal, forgotten };
        spawn(&mut tasks, *collection, setting);
    }
    drop(told);
    let mut restoring = Restoring::new(cluster, conduct);
    loop {
        let batch = tokio::select! {
            Some(trouble) = refused.recv() => state.access(trouble),
            // None of them ends of itself: it would be missing, and nobody would know.
            Some(ended) = tasks.join_next() => match ended {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ => return,
            },
            next = news.recv() => match next {
                Some((collection, news)) => {
                    let mut batch = Batch::default();
                    state.take(collection, news, &mut batch);
                    state.finish(batch)
                }
                None => return,
            },
            Ok(()) = health.changed() => state.health(health.borrow_and_update().clone()),
            restored = restoring.next() => match restored {
                Some(restored) => state.restore(restored),
                None => {
                    restoring.begin(state.wanted());
                    continue;
                }
            },
            Some(()) = after(state.until_stale()) => state.expire(),
        };
        if state.is_troubled() {
            restoring.begin(state.wanted());
        }
        if batch != Batch::default() && batches.send(batch).await.is_err() {
            return;
        }
    }
}

/// Ready after that time, or at once, with nothing, where there is none.
async fn after(time: Option<Duration>) -> Option<()> {
    sleep(time?).await;
    Some(())
}

/// A journal for each of a member's collections, and what keeps them from being written.
fn journals(
    cluster: &ClusterId,
    collections: &'static [Collection],
    scribe: Option<&Scribe>,
) -> (Vec<Journal>, watch::Receiver<Health>) {
    match scribe {
        Some(scribe) => scribe.follow(cluster, collections),
        None => {
            let none = |collection: &Collection| Journal::none(cluster.clone(), *collection);
            (collections.iter().map(none).collect(), watch::channel(Health::new()).1)
        }
    }
}

fn spawn(tasks: &mut JoinSet<()>, collection: Collection, setting: Setting) {
    match collection {
        Collection::Namespaces => tasks.spawn(follow::<Namespaces>(setting)),
        Collection::Nodes => tasks.spawn(follow::<Nodes>(setting)),
        Collection::NetworkPolicies => tasks.spawn(follow::<NetworkPolicies>(setting)),
        Collection::Pods => tasks.spawn(follow::<Pods>(setting)),
        Collection::Services => tasks.spawn(follow::<Services>(setting)),
        Collection::EndpointSlices => tasks.spawn(follow::<EndpointSlices>(setting)),
    };
}
