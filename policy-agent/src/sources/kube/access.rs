//! How an API server is reached: credentials, and new ones when they change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::trouble::{Trouble, chain};
use crate::document;

/// How often a kubeconfig file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How long a connection may take to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Where the credentials of a member come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// The ServiceAccount of the pod in which the agent runs.
    InCluster,
    /// A kubeconfig file, whose owner may have it run programs.
    File(PathBuf),
}

impl Access {
    /// Provides clients, a new one whenever the credentials change, and says why there is none, until nobody listens.
    pub async fn provide(self, clients: watch::Sender<Option<Client>>, refusals: mpsc::Sender<Option<Trouble>>) {
        match self {
            Self::InCluster => {
                // The client itself reads the token and the certificate again when they change.
                let client = Config::incluster().map_err(|error| {
                    Trouble::no_access(format!("this is no pod with a ServiceAccount: {}", chain(&error)))
                });
                offer(client.and_then(client_of), &clients, &refusals).await;
                clients.closed().await;
            }
            Self::File(path) => follow_file(&path, &clients, &refusals).await,
        }
    }
}

/// Hands out a client, or why there is none; whoever has one keeps it then.
async fn offer(
    client: Result<Client, Trouble>,
    clients: &watch::Sender<Option<Client>>,
    refusals: &mpsc::Sender<Option<Trouble>>,
) {
    let refusal = match client {
        Ok(client) => {
            clients.send_replace(Some(client));
            None
        }
        Err(trouble) => Some(trouble),
    };
    // Nobody listens at the end.
    drop(refusals.send(refusal).await);
}

fn client_of(mut config: Config) -> Result<Client, Trouble> {
    config.connect_timeout = Some(CONNECT_PATIENCE);
    Client::try_from(config).map_err(|error| Trouble::no_access(chain(&error)))
}

/// Reads a kubeconfig file now and whenever its content changes.
async fn follow_file(path: &Path, clients: &watch::Sender<Option<Client>>, refusals: &mpsc::Sender<Option<Trouble>>) {
    let mut last = None;
    while !clients.is_closed() {
        let content = read(path.to_owned()).await;
        if last.as_ref() != Some(&content) {
            let client = match &content {
                Ok(text) => client_of_kubeconfig(text).await,
                Err(why) => Err(Trouble::no_access(why.clone())),
            };
            let named = |trouble: Trouble| Trouble::no_access(format!("kubeconfig {}: {trouble}", path.display()));
            offer(client.map_err(named), clients, refusals).await;
            last = Some(content);
        }
        tokio::select! {
            () = sleep(LOOK_INTERVAL) => {}
            () = clients.closed() => {}
        }
    }
}

/// The text of a file; a file system may hang, and nobody waits for it.
async fn read(path: PathBuf) -> Result<String, String> {
    let content = tokio::task::spawn_blocking(move || document::read(&path)).await;
    let (bytes, _) = content.map_err(|error| error.to_string())?.map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

async fn client_of_kubeconfig(text: &str) -> Result<Client, Trouble> {
    let no_access = |error: &dyn std::error::Error| Trouble::no_access(chain(error));
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|error| no_access(&error))?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options);
    client_of(config.await.map_err(|error| no_access(&error))?)
}
