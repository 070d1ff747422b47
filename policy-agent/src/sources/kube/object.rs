//! Following one object of the local cluster by its name: a Secret with credentials, a ConfigMap with the ClusterSet.

use std::fmt::{self, Debug};
use std::pin::pin;

use futures_util::TryStreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::access::{Here, Offers};
use super::backoff::Backoff;
use super::trouble::{Trouble, chain};

/// Names an object of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its own name.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is known of an object.
#[derive(Debug)]
pub enum Seen<K> {
    /// It exists with this content.
    There(K),
    /// It does not exist.
    Absent,
    /// It cannot be followed now, and is tried again.
    Unknown(Trouble),
}

/// An object in a namespace that can be watched.
pub trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static
{
}

/// Follows an object with these credentials until nobody listens.
pub async fn follow_object<K: Watched>(name: ObjectName, access: Here, seen: mpsc::Sender<Seen<K>>) {
    let (clients, mut clients_here) = watch::channel(None);
    let (refusals, mut refused) = mpsc::channel(1);
    let provide = access.provide(Offers { clients, refusals });
    let tell_refusals = async {
        while let Some(refusal) = refused.recv().await {
            if let Some(trouble) = refusal
                && seen.send(Seen::Unknown(trouble)).await.is_err()
            {
                return;
            }
        }
    };
    let follow = async {
        loop {
            let Ok(client) = clients_here.wait_for(Option::is_some).await.map(|client| client.clone()) else { return };
            let Some(client) = client else { continue };
            let mut newer = clients_here.clone();
            tokio::select! {
                () = watch_one::<K>(&name, client, &seen) => return,
                // With other credentials it is followed anew.
                Ok(()) = newer.changed() => {}
            }
        }
    };
    tokio::select! {
        () = provide => {}
        () = tell_refusals => {}
        () = follow => {}
        () = seen.closed() => {}
    }
}

/// Watches an object until nobody listens. After an error it is listed anew: a watch that goes on says nothing of what did
/// not change, and nobody would hear that it can be followed again.
async fn watch_one<K: Watched>(name: &ObjectName, client: Client, seen: &mpsc::Sender<Seen<K>>) {
    let api = Api::<K>::namespaced(client, &name.namespace);
    let mut backoff = Backoff::default();
    loop {
        let mut words = pin!(watch_object(api.clone(), &name.name));
        let error = loop {
            let word = match words.try_next().await {
                Ok(Some(Some(object))) => Seen::There(object),
                Ok(Some(None)) => Seen::Absent,
                Ok(None) => return,
                Err(error) => break error,
            };
            backoff.succeeded();
            if seen.send(word).await.is_err() {
                return;
            }
        };
        if seen.send(Seen::Unknown(trouble(error))).await.is_err() {
            return;
        }
        sleep(backoff.next()).await;
    }
}

/// What an error of a watch means.
pub(super) fn trouble(error: watcher::Error) -> Trouble {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Trouble::of(&error),
        watcher::Error::WatchError(status) => Trouble::of(&kube::Error::Api(status)),
        error => Trouble::no_access(chain(&error)),
    }
}
