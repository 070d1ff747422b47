//! How an API server is reached: credentials, and new ones when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::object::{ObjectName, Seen, follow_object};
use super::trouble::{Trouble, chain};
use crate::document;

/// How often a kubeconfig file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How long a connection may take to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Where the credentials of a member come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// This machine has them.
    Here(Here),
    /// A Secret of the local cluster has them.
    Secret(KubeconfigSecret),
}

/// Credentials that this machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Here {
    /// The ServiceAccount of the pod in which the agent runs.
    InCluster,
    /// A kubeconfig file. It may name other files and programs: whoever writes it is trusted like the agent's user.
    File(PathBuf),
}

/// A Secret that holds a kubeconfig. It may name neither files nor programs: whoever writes Secrets is not the agent's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeconfigSecret {
    /// Which Secret.
    pub object: ObjectName,
    /// The key of its data.
    pub key: String,
}

impl KubeconfigSecret {
    fn unreadable(&self) -> Trouble {
        Trouble::no_access(format!(
            "{self} is read from the local cluster's API server, but the local member has none; give it inCluster or \
             kubeconfig: {{path: …}}"
        ))
    }
}

impl fmt::Display for KubeconfigSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {}, key {}", self.object, self.key)
    }
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
    pub async fn client(&self, local: Option<&Here>) -> Result<Client, Trouble> {
        match (self, local) {
            (Self::Here(here), _) => here.client().await,
            (Self::Secret(secret), Some(local)) => {
                let api = Api::<Secret>::namespaced(local.client().await?, &secret.object.namespace);
                let found = api.get(&secret.object.name).await.map_err(|error| Trouble::of(&error));
                let client = async { client_of_data(&data_of(found?, &secret.key)?).await };
                client.await.map_err(|trouble| trouble.prefixed(&format!("{secret}: ")))
            }
            (Self::Secret(secret), None) => Err(secret.unreadable()),
        }
    }

    /// Provides clients, a new one whenever the credentials change, until nobody listens. Secrets are read with the
    /// credentials of the local cluster.
    pub async fn provide(self, local: Option<Here>, offers: Offers) {
        match (self, local) {
            (Self::Here(here), _) => here.provide(offers).await,
            (Self::Secret(secret), Some(local)) => follow_secret(&secret, local, &offers).await,
            (Self::Secret(secret), None) => {
                offers.make(Err(secret.unreadable())).await;
                offers.clients.closed().await;
            }
        }
    }
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

fn client_of(mut config: Config) -> Result<Client, Trouble> {
    config.connect_timeout = Some(CONNECT_PATIENCE);
    // Whoever asks tries again itself, and says meanwhile what is wrong.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| Trouble::no_access(chain(&error)))
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
async fn read(path: PathBuf) -> Result<String, String> {
    let content = tokio::task::spawn_blocking(move || document::read(&path)).await;
    let (bytes, _) = content.map_err(|error| error.to_string())?.map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

/// Reads a kubeconfig of a Secret now and whenever it changes.
async fn follow_secret(secret: &KubeconfigSecret, local: Here, offers: &Offers) {
    let (seen, mut secrets) = mpsc::channel(1);
    let follow = follow_object::<Secret>(secret.object.clone(), local, seen);
    let take = async {
        let mut in_force = None;
        while let Some(seen) = secrets.recv().await {
            let data = match seen {
                Seen::There(found) => data_of(found, &secret.key),
                Seen::Absent => Err(Trouble::no_access("is not there; whoever joined the member makes it")),
                Seen::Unknown(trouble) => Err(trouble),
            };
            // A new client would list everything anew.
            if data.is_ok() && data.as_ref().ok() == in_force.as_ref() {
                offers.say(None).await;
                continue;
            }
            let client = match &data {
                Ok(data) => client_of_data(data).await,
                Err(trouble) => Err(trouble.clone()),
            };
            if client.is_ok() {
                in_force = data.ok();
            }
            let named = |trouble: Trouble| trouble.prefixed(&format!("{secret}: "));
            offers.make(client.map_err(named)).await;
        }
    };
    tokio::select! {
        () = follow => {}
        () = take => {}
        () = offers.clients.closed() => {}
    }
}

/// What a Secret has under a key.
fn data_of(secret: Secret, key: &str) -> Result<Vec<u8>, Trouble> {
    let data = secret.data.unwrap_or_default().remove(key);
    data.map(|data| data.0).ok_or_else(|| Trouble::no_access("has no such key"))
}

async fn client_of_data(data: &[u8]) -> Result<Client, Trouble> {
    let text = std::str::from_utf8(data).map_err(|_| Trouble::no_access("is not UTF-8"))?;
    client_of_kubeconfig(text, no_files_or_programs).await
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

/// Refuses what would have the agent read files of its node or run programs for whoever wrote the kubeconfig.
fn no_files_or_programs(kubeconfig: &Kubeconfig) -> Result<(), String> {
    for user in kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
        let AuthInfo { token_file, client_certificate, client_key, auth_provider, exec, .. } = user;
        let named = [
            ("exec", exec.is_some(), "a token"),
            ("auth-provider", auth_provider.is_some(), "a token"),
            ("tokenFile", token_file.is_some(), "token"),
            ("client-certificate", client_certificate.is_some(), "client-certificate-data"),
            ("client-key", client_key.is_some(), "client-key-data"),
        ];
        refuse(named)?;
    }
    for cluster in kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref()) {
        let Cluster { certificate_authority, .. } = cluster;
        refuse([("certificate-authority", certificate_authority.is_some(), "certificate-authority-data")])?;
    }
    Ok(())
}

fn refuse<const N: usize>(named: [(&str, bool, &str); N]) -> Result<(), String> {
    match named.iter().find(|(_, is_there, _)| *is_there) {
        Some((field, _, instead)) => Err(format!(
            "names a file or a program of this node ({field}), which a Secret may not; write {instead} into it"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(user: &str, cluster: &str) -> Result<(), String> {
        let text = format!(
            "{{current-context: c, contexts: [{{name: c, context: {{cluster: k, user: u}}}}], \
             clusters: [{{name: k, cluster: {{server: 'https://k', {cluster}}}}}], users: [{{name: u, user: {{{user}}}}}]}}"
        );
        no_files_or_programs(&Kubeconfig::from_yaml(&text).expect("it can be read"))
    }

    #[test]
    fn a_kubeconfig_of_a_secret_names_neither_files_nor_programs() {
        assert_eq!(checked("token: t", "certificate-authority-data: YQ=="), Ok(()));
        assert_eq!(checked("client-certificate-data: YQ==, client-key-data: YQ==", ""), Ok(()));
        for (user, cluster, field) in [
            ("exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}", "", "exec"),
            ("auth-provider: {name: gcp}", "", "auth-provider"),
            ("tokenFile: /etc/shadow", "", "tokenFile"),
            ("client-certificate: /x", "", "client-certificate"),
            ("client-key: /x", "", "client-key"),
            ("token: t", "certificate-authority: /x", "certificate-authority"),
        ] {
            let why = checked(user, cluster).expect_err(field);
            assert!(why.contains(&format!("({field})")), "{why}");
        }
    }
}
