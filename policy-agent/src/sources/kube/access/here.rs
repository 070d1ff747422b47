//! Credentials of this machine: the pod's own, or a kubeconfig file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::{Client, Config};
use tokio::time::sleep;

use super::{Offers, client_of, client_of_kubeconfig};
use crate::document;
use crate::sources::kube::trouble::{Trouble, chain};

/// How often a file is looked at.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Credentials that this machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Here {
    /// The ServiceAccount of the pod in which the agent runs.
    InCluster,
    /// A kubeconfig file. It may name other files and programs: whoever writes it is trusted like the agent's user.
    File(PathBuf),
}

impl Here {
    /// A client with the credentials of this moment.
    pub async fn client(&self) -> Result<Client, Trouble> {
        match self {
            // The client itself reads the token and the certificate again when they change.
            Self::InCluster => {
                let config = Config::incluster().map_err(|error| {
                    Trouble::no_access(format!("this is no pod with a ServiceAccount: {}", chain(&error)))
                });
                config.and_then(client_of)
            }
            Self::File(path) => {
                let text = read(path.to_owned()).await;
                file_client(path, text.as_deref()).await
            }
        }
    }

    /// Provides clients, a new one whenever the credentials change, until nobody listens.
    pub async fn provide(self, offers: Offers) {
        match self {
            Self::InCluster => {
                offers.make(self.client().await).await;
                offers.clients.closed().await;
            }
            Self::File(ref path) => follow_file(path, &offers).await,
        }
    }
}

/// Reads a kubeconfig file now and whenever its content changes.
async fn follow_file(path: &Path, offers: &Offers) {
    let mut last = None;
    while !offers.clients.is_closed() {
        let content = read(path.to_owned()).await;
        if last.as_ref() != Some(&content) {
            offers.make(file_client(path, content.as_deref()).await).await;
            last = Some(content);
        }
        tokio::select! {
            () = sleep(LOOK_INTERVAL) => {}
            () = offers.clients.closed() => {}
        }
    }
}

/// A client as a kubeconfig file says.
async fn file_client(path: &Path, text: Result<&str, &String>) -> Result<Client, Trouble> {
    let client = match text {
        Ok(text) => client_of_kubeconfig(text, |_| Ok(())).await,
        Err(why) => Err(Trouble::no_access(why)),
    };
    client.map_err(|trouble| trouble.prefixed(&format!("kubeconfig {}: ", path.display())))
}

/// The text of a file; a file system may hang, and nobody waits for it.
pub(super) async fn read(path: PathBuf) -> Result<String, String> {
    let content = tokio::task::spawn_blocking(move || document::read(&path)).await;
    let (bytes, _) = content.map_err(|error| error.to_string())?.map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}
