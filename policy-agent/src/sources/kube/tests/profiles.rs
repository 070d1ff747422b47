//! A member that a ClusterProfile describes, and for which a program gives credentials.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use policy_core::model::IssueCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::server::Server;
use super::{Following, PATIENCE, PODS, conduct, pod};
use crate::sources::kube::{Access, Conduct, Means, ObjectName, Role, Terms};

/// Where ClusterProfiles of the fleet's namespace are.
pub(crate) const PROFILES: &str = "/apis/multicluster.x-k8s.io/v1alpha1/namespaces/fleet/clusterprofiles";

/// The file of access providers and its program, which prints an answer and notes that it was run.
pub(crate) struct Plugin {
    folder: TempDir,
}

impl Plugin {
    /// One that gives a token.
    pub(crate) fn gives(token: &str) -> Self {
        let plugin = Self { folder: tempfile::tempdir().expect("a directory") };
        plugin.answer(token, None);
        plugin.provide("p", &plugin.script());
        plugin
    }

    pub(super) fn script(&self) -> String {
        let folder = self.folder.path().display();
        format!("echo >> {folder}/runs; cat {folder}/answer")
    }

    /// From now on it gives this.
    pub(super) fn answer(&self, token: &str, lasts: Option<Duration>) {
        let expires = lasts.map(|lasts| Time((SystemTime::now() + lasts).try_into().expect("a time")));
        let status = json!({"token": token, "expirationTimestamp": expires});
        let answer =
            json!({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status});
        fs::write(self.folder.path().join("answer"), answer.to_string()).expect("written");
    }

    /// Writes the file: this provider is a script.
    fn provide(&self, provider: &str, script: &str) {
        let exec =
            json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "args": ["-c", script]});
        let file = json!({"providers": [{"name": provider, "execConfig": exec}]});
        fs::write(self.file(), file.to_string()).expect("written");
    }

    /// The file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("providers.json")
    }

    /// How often it was run.
    pub(super) fn runs(&self) -> usize {
        fs::read_to_string(self.folder.path().join("runs")).map_or(0, |runs| runs.lines().count())
    }
}

/// A profile whose provider `p` has a cluster with these fields.
pub(crate) fn profile(server: &Server, more: &Value) -> Value {
    let mut cluster = json!({"server": server.url()});
    for (name, value) in more.as_object().into_iter().flatten() {
        cluster[name] = value.clone();
    }
    json!({"metadata": {"name": "b", "namespace": "fleet"}, "spec": {"clusterManager": {"name": "m"}},
        "status": {"accessProviders": [{"name": "p", "cluster": cluster}]}})
}

/// A server that takes this token only, and says now and then that nothing happens.
pub(super) async fn remote(token: &'static str) -> Server {
    let server = Server::start().await;
    server.state().token = Some(token);
    server.state().bookmarks = true;
    server
}

/// Follows a remote member as the profile says that the local cluster's server has.
fn follow(local: &Server, file: Option<PathBuf>) -> Following {
    let conduct = Conduct { access_providers: file, ..conduct(None) };
    let access = Access::Profile(ObjectName { namespace: "fleet".to_owned(), name: "b".to_owned() });
    let terms = |here| Terms { role: Role::Remote, access, local: Some(here), stale_after: None };
    Following::with(local, terms, conduct)
}

impl Following {
    /// Waits for an issue that says all of this.
    pub(super) async fn says(&mut self, words: &[&str]) {
        let is_said = |issue: &String| words.iter().all(|word| issue.contains(word));
        self.issue(|issues| issues.iter().any(is_said)).await;
    }
}

#[tokio::test]
async fn a_member_is_followed_as_its_profile_appears_changes_and_disappears() {
    let (local, old, new) = (Server::start().await, remote("t").await, remote("t").await);
    old.apply(PODS, pod("p", "1"));
    new.apply(PODS, pod("q", "2"));
    let plugin = Plugin::gives("t");
    let mut following = follow(&local, Some(plugin.file()));
    following.says(&["ClusterProfile fleet/b: is not there"]).await;
    assert_eq!(following.last.issues()[0].code, IssueCode::UnusableSource);
    local.apply(PROFILES, profile(&old, &json!({})));
    let said = following.until("synced").await;
    assert!(said.contains(&"+p 1".to_owned()), "{said:?}");
    following.issue(<[String]>::is_empty).await;

    // What cannot be used leaves in force what there was, …
    old.requests("/");
    local.apply(PROFILES, profile(&old, &json!({"insecure-skip-tls-verify": true})));
    following.says(&["ClusterProfile fleet/b: access provider p", "(insecure-skip-tls-verify)"]).await;
    old.apply(PODS, pod("r", "3"));
    assert_eq!(following.until("+r 3").await, ["+r 3"]);
    // … and so does its end.
    local.delete(PROFILES, &profile(&old, &json!({})));
    following.says(&["is not there"]).await;
    old.apply(PODS, pod("s", "4"));
    assert_eq!(following.until("+s 4").await, ["+s 4"]);
    local.apply(PROFILES, profile(&old, &json!({})));
    following.issue(<[String]>::is_empty).await;
    assert_eq!((plugin.runs(), old.lists()), (1, vec![]), "with the same credentials nothing is asked anew");

    local.apply(PROFILES, profile(&new, &json!({})));
    let said = following.until("pods: q").await;
    assert!(said.contains(&"+q 2".to_owned()), "{said:?}");
    assert_eq!(plugin.runs(), 2);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_is_over_and_nothing_is_listed_anew() {
    let (local, remote) = (Server::start().await, remote("1").await);
    let plugin = Plugin::gives("1");
    plugin.answer("1", Some(Duration::from_secs(6)));
    local.apply(PROFILES, profile(&remote, &json!({})));
    let mut following = follow(&local, Some(plugin.file()));
    following.until("synced").await;
    plugin.answer("2", Some(Duration::from_secs(3600)));
    let begun = Instant::now();
    while plugin.runs() < 2 {
        assert!(begun.elapsed() < PATIENCE, "it is not run again");
        sleep(Duration::from_millis(20)).await;
    }
    remote.state().token = Some("2");
    remote.requests("/");
    remote.end_watches();
    remote.apply(PODS, pod("p", "1"));
    assert_eq!(following.until("+p 1").await, ["+p 1"]);
    assert_eq!(remote.lists(), Vec::<String>::new(), "nothing is listed anew");
    assert_eq!(plugin.runs(), 2);
}

#[tokio::test]
async fn a_token_that_the_server_does_not_take_any_more_is_renewed() {
    let (local, remote) = (Server::start().await, remote("1").await);
    let plugin = Plugin::gives("1");
    local.apply(PROFILES, profile(&remote, &json!({})));
    let mut following = follow(&local, Some(plugin.file()));
    following.until("synced").await;
    remote.state().token = Some("2");
    plugin.answer("2", None);
    remote.end_watches();
    following.says(&["pods", "(401)", "their last known state stays"]).await;
    following.issue(<[String]>::is_empty).await;
    remote.apply(PODS, pod("p", "1"));
    assert_eq!(following.until("+p 1").await, ["+p 1"]);
}

#[tokio::test]
async fn the_file_is_followed_too() {
    let (local, remote) = (Server::start().await, remote("t").await);
    local.apply(PROFILES, profile(&remote, &json!({})));
    let plugin = Plugin::gives("t");
    fs::remove_file(plugin.file()).expect("removed");
    let mut following = follow(&local, Some(plugin.file()));
    following.says(&["ClusterProfile fleet/b:", "--access-providers", "providers.json cannot be read"]).await;
    plugin.provide("other", &plugin.script());
    following.says(&["has the access providers p, of which", "names only other"]).await;
    plugin.provide("p", "echo no account >&2; exit 1");
    following.says(&["program /bin/sh of access provider p failed (exit status: 1)", "no account"]).await;
    plugin.provide("p", &plugin.script());
    following.until("synced").await;
    following.issue(<[String]>::is_empty).await;

    fs::write(plugin.file(), "{").expect("written");
    following.says(&["providers.json is no file of access providers"]).await;
    plugin.provide("p", &plugin.script());
    following.issue(<[String]>::is_empty).await;
    assert_eq!(plugin.runs(), 1, "the last good one was in force");
}

#[tokio::test]
async fn what_is_missing_is_told_with_what_to_do() {
    let local = Server::start().await;
    follow(&local, None).says(&["ClusterProfile fleet/b:", "name the file", "--access-providers"]).await;
    let plugin = Plugin::gives("t");
    (local.state().refuses, local.state().refuses_only) = (Some(404), Some(PROFILES));
    let mut following = follow(&local, Some(plugin.file()));
    following.says(&["the local cluster does not have the kind", "deploy/crds"]).await;
    local.state().refuses = Some(403);
    following.says(&["(403)", r#"resources: ["clusterprofiles"], verbs: ["list", "watch"]"#]).await;
}

#[tokio::test]
async fn a_local_server_that_is_away_changes_nothing() {
    let (local, remote) = (Server::start().await, remote("t").await);
    local.apply(PROFILES, profile(&remote, &json!({})));
    let plugin = Plugin::gives("t");
    let mut following = follow(&local, Some(plugin.file()));
    following.until("synced").await;
    local.state().refuses = Some(503);
    local.end_watches();
    following.says(&["ClusterProfile fleet/b: cannot be read", "(503)"]).await;
    remote.apply(PODS, pod("p", "1"));
    assert_eq!(following.until("+p 1").await, ["+p 1"]);
    local.state().refuses = None;
    remote.requests("/");
    following.issue(<[String]>::is_empty).await;
    assert_eq!((plugin.runs(), remote.lists()), (1, vec![]));
}

#[tokio::test]
async fn a_program_that_hangs_keeps_nobody_else_and_ends_with_its_member() {
    let (local, remote) = (Server::start().await, Server::start().await);
    local.apply(PROFILES, profile(&remote, &json!({})));
    let plugin = Plugin::gives("t");
    let pid = plugin.folder.path().join("pid");
    plugin.provide("p", &format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", pid.display()));
    let hanging = follow(&local, Some(plugin.file()));
    let begun = Instant::now();
    while !pid.exists() {
        assert!(begun.elapsed() < PATIENCE, "it is not run");
        sleep(Duration::from_millis(10)).await;
    }
    Following::start(&remote, Role::Remote).until("synced").await;
    let process = PathBuf::from("/proc").join(fs::read_to_string(&pid).expect("its number").trim());
    assert!(process.exists(), "it was waited for");
    drop(hanging);
    while fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(begun.elapsed() < PATIENCE, "it runs on");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_profile_without_a_local_api_server_is_an_issue() {
    let name = ObjectName { namespace: "fleet".to_owned(), name: "b".to_owned() };
    let refused = Access::Profile(name).client(&Means::default()).await;
    let Err(trouble) = refused else { panic!("nobody can read it") };
    assert!(trouble.to_string().starts_with("ClusterProfile fleet/b is read from"), "{trouble}");
}
