//! Following what stands on the policies of the local cluster: their names and annotations alone. What policies say the
//! source tells, which reads no annotation that is not its own.

use std::pin::pin;

use futures_util::StreamExt as _;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};

use super::object::trouble;
use super::trouble::Trouble;

/// What stands on a policy.
pub type Mark = PartialObjectMeta<NetworkPolicy>;
/// What is told of marks.
pub type Word = Result<watcher::Event<Mark>, Trouble>;

/// Follows the marks of all policies until nobody listens; with other credentials everything is listed anew.
pub async fn follow_marks(mut clients: watch::Receiver<Option<Client>>, told: mpsc::Sender<Word>) {
    loop {
        let Ok(client) = clients.wait_for(Option::is_some).await.map(|client| client.clone()) else { return };
        let Some(client) = client else { continue };
        let mut newer = clients.clone();
        tokio::select! {
            () = watch_marks(client, &told) => return,
            Ok(()) = newer.changed() => {}
        }
    }
}

/// Watches until nobody listens.
async fn watch_marks(client: Client, told: &mpsc::Sender<Word>) {
    let mut words = pin!(watcher(Api::<Mark>::all(client), watcher::Config::default()).default_backoff());
    while let Some(word) = words.next().await {
        if told.send(word.map_err(trouble)).await.is_err() {
            return;
        }
    }
}
