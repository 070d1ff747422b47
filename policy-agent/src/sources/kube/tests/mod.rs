//! A member as an API server tells it: what comes out, whatever the server does.

pub(crate) mod profiles;
mod programs;
pub(crate) mod server;
mod services;
mod snapshots;

use std::collections::BTreeSet;
use std::time::Duration;

use policy_core::model::{Event, IssueCode, Listing};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::snapshot::Scribe;
use super::{Access, Collection, Conduct, Here, KubeconfigSecret, ObjectName, Role, Terms, follow_member};
use crate::sources::Batch;
use crate::sources::kube::confirm;
use server::{Server, Streaming};

const PODS: &str = "/api/v1/pods";
const NAMESPACES: &str = "/api/v1/namespaces";
const SECRETS: &str = "/api/v1/namespaces/crosswall-system/secrets";
const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";

/// After so long a server that says nothing is given up.
const SILENCE: Duration = Duration::from_millis(400);
/// How long something that must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn pod(name: &str, uid: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": uid, "labels": {"app": name}},
        "spec": {"nodeName": "n", "volumes": [{"name": "v"}], "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.1.0.1"}], "conditions": [{"type": "Ready"}]}})
}

fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}})
}

fn policy(name: &str, rule: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"podSelector": {}, "ingress": [rule]}})
}

/// A followed member, and what was said of it.
struct Following {
    folder: TempDir,
    batches: mpsc::Receiver<Batch>,
    last: Batch,
    /// What was said and not asked for yet.
    said: Vec<String>,
    task: JoinHandle<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Following {
    /// Follows a server by a kubeconfig file.
    fn start(server: &Server, role: Role) -> Self {
        Self::begin(server, role, None, conduct(None))
    }

    fn begin(server: &Server, role: Role, stale_after: Option<Duration>, conduct: Conduct) -> Self {
        Self::with(server, |here| Terms { role, access: Access::Here(here), local: None, stale_after }, conduct)
    }

    /// Follows a remote member by a Secret, which the local cluster's server has.
    fn by_secret(local: &Server) -> Self {
        let object = ObjectName { namespace: "crosswall-system".to_owned(), name: "b".to_owned() };
        let access = Access::Secret(KubeconfigSecret { object, key: "kubeconfig".to_owned() });
        let terms = |here| Terms { role: Role::Remote, access, local: Some(here), stale_after: None };
        Self::with(local, terms, conduct(None))
    }

    fn with(server: &Server, terms: impl FnOnce(Here) -> Terms, conduct: Conduct) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, server.kubeconfig()).expect("written");
        let (sender, batches) = mpsc::channel(1);
        let cluster = "b".parse().expect("an id");
        let task = tokio::spawn(follow_member(cluster, terms(Here::File(path)), conduct, sender));
        Self { folder, batches, last: Batch::default(), said: Vec::new(), task }
    }

    async fn next(&mut self) -> &Batch {
        let batch = timeout(PATIENCE, self.batches.recv()).await;
        let batch = batch.unwrap_or_else(|_| panic!("nothing more; issues: {:#?}", self.last.issues));
        let mut batch = batch.expect("the member is followed");
        self.said.extend(batch.events.iter().map(word));
        batch.issues = batch.issues.or(self.last.issues.take());
        self.last = batch;
        &self.last
    }

    /// Waits until `expect` is said; returns all since the last time.
    async fn until(&mut self, expect: &str) -> Vec<String> {
        while !self.said.iter().any(|word| word == expect) {
            self.next().await;
        }
        std::mem::take(&mut self.said)
    }

    /// Waits until the issues are as `fits` says.
    async fn issue(&mut self, fits: impl Fn(&[String]) -> bool) {
        loop {
            let issues: Vec<String> = self.last.issues().iter().map(ToString::to_string).collect();
            if fits(&issues) && self.last.issues.is_some() {
                return;
            }
            self.next().await;
        }
    }
}

fn conduct(scribe: Option<Scribe>) -> Conduct {
    Conduct { silence: SILENCE, restore_after: PATIENCE, scribe, access_providers: None }
}

fn word(event: &Event) -> String {
    match event {
        Event::Synced(_) => "synced".to_owned(),
        Event::PodApplied(pod) => format!("+{} {}", pod.key.name, pod.uid),
        Event::PodDeleted { key, uid } => format!("-{} {uid}", key.name),
        Event::NamespaceApplied(namespace) => format!("+{}", namespace.key.name),
        Event::PolicyApplied(policy) => format!("+{} {}", policy.key.name, policy.ingress.as_ref().map_or(0, Vec::len)),
        Event::Relisted(_, Listing::Pods(keys)) => {
            format!("pods: {}", keys.iter().map(|key| &*key.name).collect::<Vec<_>>().join(" "))
        }
        Event::Relisted(_, Listing::Namespaces(keys)) => format!("namespaces: {}", keys.len()),
        Event::Relisted(_, Listing::Policies(keys)) => format!("policies: {}", keys.len()),
        Event::Relisted(_, Listing::Nodes(keys)) => format!("nodes: {}", keys.len()),
        Event::ServiceApplied(service) => format!("+{} {}", service.key.name, service.ports.len()),
        Event::EndpointSliceApplied(slice) => format!("+{} {}", slice.key.name, slice.backends.len()),
        Event::Relisted(_, Listing::Services(keys)) => format!("services: {}", keys.len()),
        Event::Relisted(_, Listing::EndpointSlices(keys)) => format!("slices: {}", keys.len()),
        other => format!("{other:?}"),
    }
}

fn sorted(mut words: Vec<String>) -> Vec<String> {
    words.sort();
    words
}

#[tokio::test]
async fn all_there_is_is_told_and_then_what_changes() {
    let server = Server::start().await;
    server.apply(NAMESPACES, namespace("shop"));
    server.apply(PODS, pod("p", "1"));
    let mut following = Following::start(&server, Role::Remote);
    let first = sorted(following.until("synced").await);
    assert_eq!(first, ["+p 1", "+shop", "namespaces: 1", "pods: p", "synced"]);
    server.apply(PODS, pod("q", "2"));
    assert_eq!(following.until("+q 2").await, ["+q 2"]);
    server.delete(PODS, &pod("p", "1"));
    assert_eq!(following.until("-p 1").await, ["-p 1"]);
    assert!(following.last.heard.contains_key(&"b".parse().expect("an id")));
}

#[tokio::test]
async fn a_remote_member_is_asked_for_pods_and_namespaces_only() {
    let server = Server::start().await;
    Following::start(&server, Role::Remote).until("synced").await;
    let mut asked: Vec<String> = server.requests("/");
    asked.iter_mut().for_each(|request| request.truncate(request.find('?').unwrap_or(request.len())));
    assert_eq!(sorted(asked), [NAMESPACES, PODS]);
}

#[tokio::test]
async fn a_watch_that_ends_is_continued_where_it_was() {
    let server = Server::start().await;
    server.apply(PODS, pod("p", "1"));
    let mut following = Following::start(&server, Role::Remote);
    following.until("synced").await;
    server.apply(PODS, pod("q", "2"));
    following.until("+q 2").await;
    server.requests(PODS);
    server.end_watches();
    server.apply(PODS, pod("r", "3"));
    assert_eq!(following.until("+r 3").await, ["+r 3"], "nothing is told twice");
    let asked = server.requests(PODS);
    assert!(asked.iter().all(|request| request.ends_with("resourceVersion=2")), "{asked:?}");
}

#[tokio::test]
async fn what_the_server_forgot_is_listed_anew_and_what_is_gone_goes_in_the_same_step() {
    let server = Server::start().await;
    server.apply(PODS, pod("p", "1"));
    server.apply(PODS, pod("q", "2"));
    let mut following = Following::start(&server, Role::Remote);
    following.until("synced").await;
    server.delete(PODS, &pod("p", "1"));
    server.apply(PODS, pod("r", "3"));
    server.compact();
    server.end_watches();
    loop {
        let batch = following.next().await;
        let words: Vec<String> = batch.events.iter().map(word).collect();
        if let Some(at) = words.iter().position(|word| word == "pods: q r") {
            assert_eq!(words[..at], ["+q 2", "+r 3"], "as one step");
            break;
        }
    }
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_asked_in_pages() {
    for streaming in [Streaming::Refused, Streaming::Ignored] {
        let server = Server::start().await;
        server.state().streaming = streaming;
        let names: Vec<String> = (0..1100).map(|number| format!("p{number:04}")).collect();
        names.iter().for_each(|name| server.apply(PODS, pod(name, "1")));
        let mut following = Following::start(&server, Role::Remote);
        let said = following.until("synced").await;
        assert!(said.contains(&format!("pods: {}", names.join(" "))), "{streaming:?}");
        // What an ordinary watch told before it was known for one is told again.
        let told: BTreeSet<&String> = said.iter().filter(|word| word.starts_with('+')).collect();
        assert_eq!(told.len(), 1100, "{streaming:?}");
        let pages = server.requests(PODS).iter().filter(|request| request.contains("limit=500")).count();
        assert_eq!(pages, 3, "{streaming:?}");
        server.apply(PODS, pod("q", "2"));
        assert_eq!(following.until("+q 2").await, ["+q 2"], "{streaming:?}");
    }
}

#[tokio::test]
async fn a_list_that_says_no_version_is_not_asked_for_again_and_again() {
    let server = Server::start().await;
    server.state().streaming = Streaming::Refused;
    server.state().is_unversioned = true;
    server.apply(PODS, pod("p", "1"));
    let mut following = Following::start(&server, Role::Remote);
    following.issue(|issues| issues.iter().any(|issue| issue.contains("says no resourceVersion"))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let lists = server.requests(PODS).len();
    assert!(lists < 10, "{lists}");
    server.state().is_unversioned = false;
    following.until("synced").await;
}

#[tokio::test]
async fn a_long_list_counts_part_by_part_where_nothing_is_known_and_replaces_what_is_known_in_one_step() {
    for streaming in [Streaming::Offered, Streaming::Refused] {
        let server = Server::start().await;
        server.state().streaming = streaming;
        let names: Vec<String> = (0..1100).map(|number| format!("p{number:04}")).collect();
        names.iter().for_each(|name| server.apply(PODS, pod(name, "1")));
        let mut following = Following::start(&server, Role::Remote);
        let mut parts = Vec::new();
        while !following.said.contains(&"synced".to_owned()) {
            parts.push(following.next().await.events.len());
        }
        assert!(parts.iter().all(|events| *events <= 502), "{streaming:?}: {parts:?}");
        following.said.clear();
        server.compact();
        server.end_watches();
        let all = format!("pods: {}", names.join(" "));
        while !following.said.contains(&all) {
            let before = following.said.len();
            following.next().await;
            let told = following.said[before..].iter().filter(|word| word.starts_with("+p")).count();
            assert!([0, 1100].contains(&told), "{streaming:?}: {told} of 1100");
        }
    }
}

#[tokio::test]
async fn what_ends_while_a_list_is_streamed_is_not_in_it() {
    let server = Server::start().await;
    server.apply(PODS, pod("p", "1"));
    server.apply(PODS, pod("q", "2"));
    server.state().ends_while_listed = vec![pod("p", "1")];
    let said = Following::start(&server, Role::Remote).until("synced").await;
    assert!(said.contains(&"pods: q".to_owned()), "{said:?}");
    assert!(!said.contains(&"+p 1".to_owned()), "{said:?}");
}

#[tokio::test]
async fn who_may_not_ask_is_told_what_is_missing() {
    let server = Server::start().await;
    server.state().refuses = Some(403);
    let mut following = Following::start(&server, Role::Remote);
    following.issue(|issues| issues.iter().any(|issue| issue.contains("resources: [\"pods\"]"))).await;
    assert!(following.said.is_empty() && following.last.heard.is_empty());
    let issue = &following.last.issues()[0];
    assert_eq!((issue.code, issue.object.as_str()), (IssueCode::UnusableSource, "b"));
    assert!(issue.message.contains("nothing is known of them yet"), "{}", issue.message);
    server.state().refuses = None;
    following.issue(<[String]>::is_empty).await;
    following.until("synced").await;
}

#[tokio::test]
async fn a_watch_that_stalls_is_begun_anew() {
    let server = Server::start().await;
    server.apply(PODS, pod("p", "1"));
    let mut following = Following::start(&server, Role::Remote);
    following.until("synced").await;
    server.state().is_silent = true;
    server.apply(PODS, pod("q", "2"));
    following.issue(|issues| issues.iter().any(|issue| issue.contains("last known state stays"))).await;
    assert!(following.said.is_empty(), "{:?}", following.said);
    server.state().is_silent = false;
    assert_eq!(following.until("+q 2").await, ["+q 2"]);
}

#[tokio::test]
async fn other_credentials_are_used_at_once() {
    let (old, new) = (Server::start().await, Server::start().await);
    old.apply(PODS, pod("p", "1"));
    new.apply(PODS, pod("q", "2"));
    let mut following = Following::start(&old, Role::Remote);
    following.until("synced").await;
    std::fs::write(following.folder.path().join("kubeconfig"), "no: kubeconfig: [").expect("written");
    following.issue(|issues| issues.iter().any(|issue| issue.contains("kubeconfig"))).await;
    old.apply(PODS, pod("r", "3"));
    assert_eq!(following.until("+r 3").await, ["+r 3"], "the old ones are good as long as there are no others");
    std::fs::write(following.folder.path().join("kubeconfig"), new.kubeconfig()).expect("written");
    let said = following.until("pods: q").await;
    assert!(said.contains(&"+q 2".to_owned()), "{said:?}");
}

fn secret(kubeconfig: &str) -> Value {
    let data = k8s_openapi::ByteString(kubeconfig.as_bytes().to_vec());
    json!({"metadata": {"name": "b", "namespace": "crosswall-system"}, "data": {"kubeconfig": data}})
}

#[tokio::test]
async fn credentials_of_a_secret_are_exchanged_while_it_is_followed() {
    let (local, old, new) = (Server::start().await, Server::start().await, Server::start().await);
    old.apply(PODS, pod("p", "1"));
    new.apply(PODS, pod("q", "2"));
    let mut following = Following::by_secret(&local);
    following
        .issue(|issues| issues.iter().any(|issue| issue.contains("crosswall-system/b") && issue.contains("not there")))
        .await;
    local.apply(SECRETS, secret(&old.kubeconfig()));
    let said = following.until("synced").await;
    assert!(said.contains(&"+p 1".to_owned()), "{said:?}");
    following.issue(<[String]>::is_empty).await;
    local.apply(SECRETS, secret(&new.kubeconfig()));
    let said = following.until("pods: q").await;
    assert!(said.contains(&"+q 2".to_owned()), "{said:?}");
}

#[tokio::test]
async fn a_secret_that_could_not_be_read_for_a_while_is_no_issue_any_more() {
    let (local, remote) = (Server::start().await, Server::start().await);
    remote.state().bookmarks = true;
    local.apply(SECRETS, secret(&remote.kubeconfig()));
    let mut following = Following::by_secret(&local);
    following.until("synced").await;
    local.state().refuses = Some(503);
    local.end_watches();
    following.issue(|issues| issues.iter().any(|issue| issue.contains("crosswall-system/b"))).await;
    local.state().refuses = None;
    remote.requests("/");
    following.issue(<[String]>::is_empty).await;
    remote.apply(PODS, pod("p", "1"));
    assert_eq!(following.until("+p 1").await, ["+p 1"]);
    assert_eq!(remote.lists(), Vec::<String>::new(), "with the same credentials nothing is listed anew");
}

#[tokio::test]
async fn a_secret_that_names_a_program_is_refused_and_the_credentials_before_it_stay() {
    let (local, remote) = (Server::start().await, Server::start().await);
    local.apply(SECRETS, secret(&remote.kubeconfig()));
    let mut following = Following::by_secret(&local);
    following.until("synced").await;
    let program =
        "user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true, interactiveMode: Never}}";
    local.apply(SECRETS, secret(&remote.kubeconfig().replace("user: {}", program)));
    following.issue(|issues| issues.iter().any(|issue| issue.contains("(exec)"))).await;
    remote.apply(PODS, pod("p", "1"));
    assert_eq!(following.until("+p 1").await, ["+p 1"]);
}

#[tokio::test]
async fn a_secret_without_a_local_api_server_is_an_issue() {
    let terms = |_| {
        let object = ObjectName { namespace: "s".to_owned(), name: "n".to_owned() };
        let access = Access::Secret(KubeconfigSecret { object, key: "k".to_owned() });
        Terms { role: Role::Remote, access, local: None, stale_after: None }
    };
    let mut following = Following::with(&Server::start().await, terms, conduct(None));
    following.issue(|issues| issues.iter().any(|issue| issue.contains("the local member has none"))).await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_an_issue_until_it_is_gone() {
    let server = Server::start().await;
    server.apply(POLICIES, policy("odd", &json!({"from": [{"podSelektor": {}}]})));
    let mut following = Following::start(&server, Role::Local);
    let said = following.until("synced").await;
    assert!(said.contains(&"+odd 1".to_owned()), "its rule admits nobody: {said:?}");
    following.issue(|issues| issues.iter().any(|issue| issue.contains("podSelektor"))).await;
    server.apply(POLICIES, policy("odd", &json!({"from": [{"podSelector": {}}]})));
    following.issue(<[String]>::is_empty).await;
    server.apply(POLICIES, json!({"metadata": {"name": "odd", "namespace": "shop"}, "spec": {"podSelector": 5}}));
    following.issue(|issues| issues.iter().any(|issue| issue.contains("its last valid version"))).await;
    following.said.clear();
    server.delete(POLICIES, &policy("odd", &json!({})));
    following.issue(<[String]>::is_empty).await;
    assert_eq!(following.said.len(), 1, "{:?}", following.said);
}

#[tokio::test]
async fn what_the_controller_writes_on_a_policy_is_nothing_new_to_an_agent() {
    let server = Server::start().await;
    server.apply(POLICIES, policy("web", &json!({"robots": 7})));
    let mut following = Following::start(&server, Role::Local);
    let mut told = Vec::new();
    let mut issues = Vec::new();
    for annotations in [json!(null), json!({"crosswall.dev/issues": "[]"}), json!({"crosswall.dev/issues": "x"})] {
        let mut policy = policy("web", &json!({"robots": 7}));
        policy["metadata"]["annotations"] = annotations;
        server.apply(POLICIES, policy);
        let is_policy = |event: &&Event| matches!(event, Event::PolicyApplied(_));
        loop {
            let batch = following.next().await;
            if let Some(event) = batch.events.iter().find(is_policy) {
                told.push(event.clone());
                issues.push(batch.issues.clone());
                break;
            }
        }
    }
    // The compiler stops at what is equal, and nobody asks for a list.
    assert!(told.windows(2).all(|two| two[0] == two[1]), "{told:#?}");
    assert!(issues.windows(2).all(|two| two[0] == two[1]), "{issues:#?}");
    let asked = server.requests(POLICIES);
    assert_eq!(asked.len(), 1, "{asked:?}");
}

#[tokio::test]
async fn a_cluster_that_says_it_is_another_is_an_issue_until_it_says_so_no_more() {
    const PROPERTIES: &str = "/apis/about.k8s.io/v1beta1/clusterproperties";
    let property = |value: &str| json!({"metadata": {"name": "cluster.clusterset.k8s.io"}, "spec": {"value": value}});
    let server = Server::start().await;
    server.apply(PROPERTIES, property("a"));
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, server.kubeconfig()).expect("written");
    let (told, mut doubts) = mpsc::channel(1);
    let local = "a".parse().expect("an id");
    let task = tokio::spawn(confirm(local, Here::File(path), Duration::from_millis(5), told));
    let first = timeout(PATIENCE, doubts.recv()).await.expect("soon");
    assert_eq!(first, Some(None), "what was said before, under other terms, counts no more");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(doubts.try_recv().is_err(), "it says what is thought of it");
    server.apply(PROPERTIES, property("b"));
    let doubt = timeout(PATIENCE, doubts.recv()).await.expect("soon").expect("it asks").expect("an issue").to_string();
    assert!(
        doubt.starts_with("a/ClusterProperty/cluster.clusterset.k8s.io: spec.value: says that this cluster is b"),
        "{doubt}"
    );
    server.state().refuses = Some(503);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(doubts.try_recv().is_err(), "who cannot be asked has not changed its mind");
    server.state().refuses = None;
    server.apply(PROPERTIES, property("a"));
    assert_eq!(timeout(PATIENCE, doubts.recv()).await.expect("soon"), Some(None));
    task.abort();
}
