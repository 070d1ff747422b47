//! Credentials in a Secret of the local cluster.

use std::fmt;

use k8s_openapi::api::core::v1::Secret;
use kube::config::{AuthInfo, Cluster, Kubeconfig};
use kube::{Api, Client};
use tokio::sync::mpsc;

use super::{Here, Offers, client_of_kubeconfig};
use crate::sources::kube::object::{ObjectName, Seen, follow_object};
use crate::sources::kube::trouble::Trouble;

/// A Secret that holds a kubeconfig. It may name neither files nor programs: whoever writes Secrets is not the agent's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeconfigSecret {
    /// Which Secret.
    pub object: ObjectName,
    /// The key of its data.
    pub key: String,
}

impl KubeconfigSecret {
    /// A client as it says now.
    pub(super) async fn client(&self, local: &Here) -> Result<Client, Trouble> {
        let api = Api::<Secret>::namespaced(local.client().await?, &self.object.namespace);
        let found = api.get(&self.object.name).await.map_err(|error| Trouble::of(&error));
        let client = async { client_of_data(&data_of(found?, &self.key)?).await };
        client.await.map_err(|trouble| trouble.prefixed(&format!("{self}: ")))
    }
}

impl fmt::Display for KubeconfigSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {}, key {}", self.object, self.key)
    }
}

/// Reads a kubeconfig of a Secret now and whenever it changes.
pub(super) async fn follow(secret: &KubeconfigSecret, local: Here, offers: &Offers) {
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
    use proptest::prelude::*;

    use super::*;
    use crate::document::tests::damaged;

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

    const WHOLE: &str = "
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: 'https://k:6443', tls-server-name: k}}]
users: [{name: u, user: {token: t, username: n, password: p}}]
";

    #[tokio::test]
    async fn a_kubeconfig_that_is_whole_gives_a_client() {
        assert!(client_of_data(WHOLE.as_bytes()).await.is_ok());
    }

    proptest! {
        #[test]
        fn a_damaged_kubeconfig_gives_a_client_or_says_why_not(text in damaged(WHOLE)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            if let Err(trouble) = runtime.block_on(client_of_data(text.as_bytes())) {
                prop_assert!(!trouble.to_string().is_empty());
            }
        }
    }
}
