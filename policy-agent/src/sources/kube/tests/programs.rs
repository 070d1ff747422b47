//! A kubeconfig file whose user gets credentials from a program.

use std::fs;
use std::path::Path;

use tokio::time::timeout;

use super::profiles::{Plugin, remote};
use super::server::Server;
use super::{Following, PATIENCE, PODS, conduct, pod};
use crate::sources::kube::{Access, Here, Role, Terms};

/// A kubeconfig for a server with a program that is a script.
fn kubeconfig(server: &Server, script: &str) -> String {
    let script = script.replace('\'', "''");
    let user = format!(
        "user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: /bin/sh, args: [-c, '{script}'], \
         interactiveMode: Never, provideClusterInfo: true}}}}"
    );
    server.kubeconfig().replace("user: {}", &user)
}

/// Follows a remote member by the kubeconfig file at `path`.
fn follow(server: &Server, path: &Path) -> Following {
    let access = Access::Here(Here::File(path.to_owned()));
    let terms = |_| Terms { role: Role::Remote, access, local: None, stale_after: None };
    Following::with(server, terms, conduct(None))
}

#[tokio::test]
async fn a_program_of_a_kubeconfig_gives_tokens_and_is_run_again_when_they_are_refused() {
    let (server, plugin, folder) = (remote("1").await, Plugin::gives("1"), tempfile::tempdir().expect("a directory"));
    let path = folder.path().join("kubeconfig");
    let told = r#"case "$KUBERNETES_EXEC_INFO" in *'"server":"http://127.0.0.1:'*) ;; *) exit 7 ;; esac;"#;
    fs::write(&path, kubeconfig(&server, &format!("{told} {}", plugin.script()))).expect("written");
    Here::File(path.clone()).client().await.expect("one client");
    let mut following = follow(&server, &path);
    following.until("synced").await;
    assert_eq!(plugin.runs(), 2);

    // What cannot be read leaves in force what there was, and renewed.
    fs::write(&path, "no: kubeconfig: [").expect("written");
    following.says(&["kubeconfig", &path.display().to_string()]).await;
    server.state().token = Some("2");
    plugin.answer("2", None);
    server.end_watches();
    server.apply(PODS, pod("p", "1"));
    assert_eq!(following.until("+p 1").await, ["+p 1"]);
    assert_eq!(plugin.runs(), 3);

    // A token that stands in the file needs no program.
    let other = remote("3").await;
    other.apply(PODS, pod("q", "2"));
    fs::write(&path, other.kubeconfig().replace("user: {}", "user: {token: '3'}")).expect("written");
    let said = following.until("pods: q").await;
    assert!(said.contains(&"+q 2".to_owned()), "{said:?}");
    following.issue(<[String]>::is_empty).await;
    fs::write(&path, kubeconfig(&server, &plugin.script())).expect("written");
    following.until("pods: p").await;
    assert_eq!(plugin.runs(), 4);
}

#[tokio::test]
async fn a_program_of_a_kubeconfig_that_hangs_keeps_nobody_else() {
    let (server, folder) = (Server::start().await, tempfile::tempdir().expect("a directory"));
    let path = folder.path().join("kubeconfig");
    fs::write(&path, kubeconfig(&server, "exec sleep 1000")).expect("written");
    let _hanging = follow(&server, &path);
    timeout(PATIENCE, Following::start(&server, Role::Remote).until("synced")).await.expect("nobody waits for it");
}

#[tokio::test]
async fn a_program_of_a_kubeconfig_that_fails_is_named() {
    let (server, folder) = (Server::start().await, tempfile::tempdir().expect("a directory"));
    let path = folder.path().join("kubeconfig");
    fs::write(&path, kubeconfig(&server, "echo no account >&2; exit 1")).expect("written");
    let words = ["kubeconfig", "program /bin/sh of user u failed (exit status: 1); it said: no account"];
    follow(&server, &path).says(&words).await;
}
