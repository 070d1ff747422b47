//! Credentials of this machine: the pod's own, or a kubeconfig file.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{AuthInfo, ExecAuthCluster, ExecInteractiveMode, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use super::approach::{Approach, Server};
use super::program::Program;
use super::renewal::{self, Way};
use super::{Offers, client_of, client_of_kubeconfig};
use crate::document;
use crate::sources::kube::trouble::{Trouble, chain};

/// How often a file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

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
                    let advice = "run it in one, or name a kubeconfig";
                    Trouble::no_access(format!("this is no pod with a ServiceAccount ({}); {advice}", chain(&error)))
                });
                config.and_then(client_of)
            }
            Self::File(path) => {
                let text = read(path.to_owned()).await;
                file_client(path, text).await
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
    let prefix = prefix(path);
    let (told, ways) = watch::channel(Way::default());
    let look = async {
        let mut content = None;
        loop {
            next_content(path, &mut content).await;
            let text = content.clone().unwrap_or_else(|| Err(String::new()));
            match text.and_then(|text| Ok((approach(&text)?, text))) {
                Ok((Some(approach), _)) => {
                    told.send_replace(Way { approach: Some(approach), trouble: None });
                }
                Ok((None, text)) => {
                    told.send_replace(Way::default());
                    let client = client_of_kubeconfig(&text, |_| Ok(())).await;
                    offers.make(client.map_err(|trouble| trouble.prefixed(&prefix))).await;
                }
                // Meanwhile what the file said last counts.
                Err(why) => told.send_modify(|way| way.trouble = Some(Trouble::no_access(why))),
            }
        }
    };
    tokio::select! {
        () = look => {}
        () = renewal::hold(&prefix, ways, offers) => {}
        () = offers.clients.closed() => {}
    }
}

/// A client as a kubeconfig file says.
async fn file_client(path: &Path, text: Result<String, String>) -> Result<Client, Trouble> {
    let client = async {
        let text = text.map_err(Trouble::no_access)?;
        match approach(&text).map_err(Trouble::no_access)? {
            Some(approach) => renewal::client(&approach).await,
            None => client_of_kubeconfig(&text, |_| Ok(())).await,
        }
    };
    client.await.map_err(|trouble| trouble.prefixed(&prefix(path)))
}

fn prefix(path: &Path) -> String {
    format!("kubeconfig {}: ", path.display())
}

/// The program that a kubeconfig's user gets credentials from; `None`: they stand in it, or there are none.
fn approach(text: &str) -> Result<Option<Approach>, String> {
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|error| chain(&error))?;
    let Some(context) = renewal::current(&kubeconfig) else { return Ok(None) };
    let user = kubeconfig.auth_infos.iter().find(|user| Some(&user.name) == context.user.as_ref());
    let Some(AuthInfo { username, password, token, token_file, auth_provider, exec: Some(exec), .. }) =
        user.and_then(|user| user.auth_info.as_ref())
    else {
        return Ok(None);
    };
    // These come first.
    if username.is_some() && password.is_some() || token.is_some() || token_file.is_some() || auth_provider.is_some() {
        return Ok(None);
    }
    let is_interactive = exec.interactive_mode != Some(ExecInteractiveMode::Never) && std::io::stdin().is_terminal();
    let mut spec = json!({"interactive": is_interactive});
    if exec.provide_cluster_info {
        let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster);
        let cluster = cluster.and_then(|cluster| cluster.cluster.as_ref()).map(ExecAuthCluster::try_from).transpose();
        spec["cluster"] = json!(cluster.map_err(|error| chain(&error))?);
    }
    let user = context.user.clone().unwrap_or_default();
    let command = exec.command.as_ref().ok_or_else(|| format!("the user {user} has an exec without a command"))?;
    let variables = exec
        .env
        .iter()
        .flatten()
        .filter_map(|variable| Some((variable.get("name")?.clone(), variable.get("value")?.clone())));
    let version = exec.api_version.clone().unwrap_or_default();
    let program = Program {
        user: format!("user {user}"),
        exec_info: json!({"kind": "ExecCredential", "apiVersion": version, "spec": spec}).to_string(),
        version,
        command: command.into(),
        arguments: exec.args.clone().unwrap_or_default(),
        variables: variables.collect(),
        is_interactive,
        install_hint: exec.install_hint.clone(),
    };
    Ok(Some(Approach { server: Server::Kubeconfig(text.to_owned()), program }))
}

/// Waits until a file says something else than `last`.
pub(super) async fn next_content(file: &Path, last: &mut Option<Result<String, String>>) {
    loop {
        let content = read(file.to_owned()).await;
        if last.as_ref() != Some(&content) {
            *last = Some(content);
            return;
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// The text of a file; a file system may hang, and nobody waits for it.
pub(super) async fn read(path: PathBuf) -> Result<String, String> {
    let content = tokio::task::spawn_blocking(move || document::read(&path)).await;
    let (bytes, _) = content.map_err(|error| error.to_string())?.map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}
