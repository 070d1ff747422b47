//! How an API server is reached: credentials, and new ones when they change. A module for each place where they come from.

mod approach;
mod here;
mod profile;
mod program;
mod providers;
mod renewal;
mod secret;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{mpsc, watch};

use super::object::ObjectName;
use super::trouble::{Trouble, chain};

pub use here::Here;
pub use secret::KubeconfigSecret;

/// How long a connection may take to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Where the credentials of a member come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// This machine has them.
    Here(Here),
    /// A Secret of the local cluster has them.
    Secret(KubeconfigSecret),
    /// A ClusterProfile of the local cluster says where the API server is; a program of this machine gives them.
    Profile(ObjectName),
}

/// What this machine has for reaching members whose credentials are elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// The local cluster's credentials, by which its objects are read.
    pub local: Option<Here>,
    /// The file that says which programs give credentials (`--access-providers`).
    pub providers: Option<PathBuf>,
}

/// Where clients are handed out, and where it is said why there is none, or no new one.
pub struct Offers {
    /// Clients, the newest in force.
    pub clients: watch::Sender<Option<Client>>,
    /// Why there is none; `None`: there is one.
    pub refusals: mpsc::Sender<Option<Trouble>>,
}

impl Offers {
    /// Hands out a client, or why there is none; whoever has one keeps it then.
    async fn make(&self, client: Result<Client, Trouble>) {
        let refusal = match client {
            Ok(client) => {
                self.clients.send_replace(Some(client));
                None
            }
            Err(trouble) => Some(trouble),
        };
        self.say(refusal).await;
    }

    /// Says what keeps the credentials from being followed, or that nothing does; the client stays.
    async fn say(&self, refusal: Option<Trouble>) {
        // Nobody listens at the end.
        drop(self.refusals.send(refusal).await);
    }
}

impl Access {
    /// A client with the credentials of this moment.
    pub async fn client(&self, means: &Means) -> Result<Client, Trouble> {
        match (self, &means.local) {
            (Self::Here(here), _) => here.client().await,
            (Self::Secret(secret), Some(local)) => secret.client(local).await,
            (Self::Profile(name), Some(local)) => profile::client(name, local, means.providers.as_deref()).await,
            (Self::Secret(secret), None) => Err(unreadable(secret)),
            (Self::Profile(name), None) => Err(unreadable(&profile::title(name))),
        }
    }

    /// Provides clients, a new one whenever the credentials change, until nobody listens.
    pub async fn provide(self, means: Means, offers: Offers) {
        let refusal = match (self, means.local) {
            (Self::Here(here), _) => return here.provide(offers).await,
            (Self::Secret(secret), Some(local)) => return secret::follow(&secret, local, &offers).await,
            (Self::Profile(name), Some(local)) => return profile::follow(&name, local, means.providers, &offers).await,
            (Self::Secret(secret), None) => unreadable(&secret),
            (Self::Profile(name), None) => unreadable(&profile::title(&name)),
        };
        offers.make(Err(refusal)).await;
        offers.clients.closed().await;
    }
}

fn unreadable(object: &dyn fmt::Display) -> Trouble {
    Trouble::no_access(format!(
        "{object} is read from the local cluster's API server, but the local member has none; give it inCluster or \
         kubeconfig: {{path: …}}"
    ))
}

fn client_of(config: Config) -> Result<Client, Trouble> {
    Client::try_from(modest(config)).map_err(|error| Trouble::no_access(chain(&error)))
}

/// As all our clients are.
fn modest(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT_PATIENCE);
    // Whoever asks tries again itself, and says meanwhile what is wrong.
    config.default_retry = false;
    config
}

async fn client_of_kubeconfig(
    text: &str,
    check: impl FnOnce(&Kubeconfig) -> Result<(), String>,
) -> Result<Client, Trouble> {
    let no_access = |error: &dyn std::error::Error| Trouble::no_access(chain(error));
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|error| no_access(&error))?;
    check(&kubeconfig).map_err(Trouble::no_access)?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options);
    client_of(config.await.map_err(|error| no_access(&error))?)
}
