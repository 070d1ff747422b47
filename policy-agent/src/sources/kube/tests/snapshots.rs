//! Members that are followed with snapshots: what an agent knows that begins while their API servers are down.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use policy_core::model::{ClusterId, Event, IssueCode};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::server::Server;
use super::{Following, NAMESPACES, PATIENCE, PODS, POLICIES, conduct, namespace, pod, policy, sorted, word};
use crate::sources::files::FilesSource;
use crate::sources::follow::follow;
use crate::sources::kube::snapshot::{Folder, Scribe};
use crate::sources::kube::{Conduct, Role};

const HOUR: Duration = Duration::from_secs(3600);

/// Where one agent after the other keeps its state.
pub struct Kept(TempDir);

impl Kept {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// The scribe of an agent that begins now.
    fn scribe(&self) -> Scribe {
        Scribe::start(self.0.path().join("members")).expect("a thread")
    }

    pub fn follow(&self, server: &Server, role: Role, stale_after: Option<Duration>) -> Following {
        Following::begin(server, role, stale_after, conduct(Some(self.scribe())))
    }

    /// What an agent keeps that followed for a moment.
    pub async fn after(server: &Server, role: Role) -> Self {
        let kept = Self::new();
        let scribe = kept.scribe();
        let mut following = Following::begin(server, role, None, conduct(Some(scribe.clone())));
        let all: &[&str] = if role == Role::Local { &["synced", "services: 0", "slices: 0"] } else { &["synced"] };
        following.wait(|following| all.iter().all(|word| following.said.iter().any(|said| said == word))).await;
        following.end().await;
        scribe.settle();
        kept
    }

    pub fn journal(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join("members/b").join(name)
    }

    /// Makes all journals as old as this.
    fn age(&self, age: Duration) -> SystemTime {
        let then = SystemTime::now() - age;
        for entry in fs::read_dir(self.journal("")).expect("a folder") {
            let file = fs::File::options().write(true).open(entry.expect("an entry").path()).expect("ours");
            file.set_modified(then).expect("touched");
        }
        then
    }
}

fn has(code: IssueCode) -> impl Fn(&Following) -> bool {
    move |following| following.last.issues().iter().any(|issue| issue.code == code)
}

impl Following {
    async fn wait(&mut self, fits: impl Fn(&Self) -> bool) {
        while !fits(self) {
            self.next().await;
        }
    }

    /// Follows no more.
    async fn end(mut self) {
        self.task.abort();
        // It was ended.
        drop((&mut self.task).await);
        // Those that it had begun are ended in their turn.
        tokio::task::yield_now().await;
    }

    fn heard(&self) -> Option<SystemTime> {
        self.last.heard.get(&b()).copied()
    }
}

fn b() -> ClusterId {
    "b".parse().expect("an id")
}

async fn shop() -> Server {
    let server = Server::start().await;
    server.state().bookmarks = true;
    server.apply(NAMESPACES, namespace("shop"));
    server.apply(PODS, pod("p", "1"));
    server.apply(PODS, pod("q", "2"));
    server.apply(POLICIES, policy("closed", &json!({"from": []})));
    server
}

#[tokio::test]
async fn a_member_that_refuses_is_what_it_was_until_it_answers() {
    let server = shop().await;
    for role in [Role::Local, Role::Remote] {
        let kept = Kept::after(&server, role).await;
        let then = kept.age(HOUR * 3);
        server.state().refuses = Some(503);
        let mut following = kept.follow(&server, role, None);
        let said = sorted(following.until("synced").await);
        let policies =
            if role == Role::Local { &["nodes: 0", "policies: 1", "services: 0", "slices: 0"][..] } else { &[] };
        let closed = if role == Role::Local { &["+closed 1"][..] } else { &[] };
        let expect = [closed, &["+p 1", "+q 2", "+shop", "namespaces: 1"], policies, &["pods: p q", "synced"]].concat();
        assert_eq!(said, sorted(expect.into_iter().map(str::to_owned).collect()));
        assert_eq!(following.heard(), Some(then));
        let issues = following.last.issues();
        let restored = issues.iter().find(|issue| issue.code == IssueCode::RestoredSource).expect("it is said");
        assert!(restored.message.contains("of a snapshot that was 3 h 0 min old"), "{}", restored.message);

        server.delete(PODS, &pod("p", "1"));
        server.state().refuses = None;
        let mut batches = Vec::new();
        while !following.said.iter().any(|word| word == "pods: q") {
            batches.push(following.next().await.events.iter().map(word).collect::<Vec<_>>());
        }
        let step = batches.last().expect("it came");
        assert!(step.contains(&"+q 2".to_owned()), "all there is comes in one step: {step:?}");
        following.issue(<[String]>::is_empty).await;
        following.wait(|following| following.heard().is_some_and(|heard| heard > then + HOUR)).await;
        server.apply(PODS, pod("p", "1"));
    }
}

#[tokio::test]
async fn what_changed_since_the_list_is_restored_too() {
    let server = shop().await;
    let kept = Kept::new();
    let scribe = kept.scribe();
    let mut following = Following::begin(&server, Role::Remote, None, conduct(Some(scribe.clone())));
    following.until("synced").await;
    server.apply(PODS, pod("r", "3"));
    following.until("+r 3").await;
    server.delete(PODS, &pod("p", "1"));
    following.until("-p 1").await;
    following.end().await;
    scribe.settle();
    server.state().refuses = Some(503);
    let said = kept.follow(&server, Role::Remote, None).until("synced").await;
    assert!(said.contains(&"pods: q r".to_owned()), "{said:?}");
}

#[tokio::test]
async fn a_member_that_says_nothing_is_restored_after_a_while() {
    let server = shop().await;
    let kept = Kept::after(&server, Role::Remote).await;
    server.state().is_mute = true;
    let restore_after = Duration::from_millis(200);
    let conduct = Conduct { restore_after, ..conduct(Some(kept.scribe())) };
    let begun = std::time::Instant::now();
    let mut following = Following::begin(&server, Role::Remote, None, conduct);
    following.until("synced").await;
    assert!(begun.elapsed() >= restore_after);
    assert!(has(IssueCode::RestoredSource)(&following) && !has(IssueCode::UnusableSource)(&following));
}

#[tokio::test]
async fn what_is_told_counts_beside_what_is_restored() {
    let server = shop().await;
    let kept = Kept::after(&server, Role::Remote).await;
    server.apply(NAMESPACES, namespace("new"));
    server.state().refuses_only = Some(PODS);
    server.state().refuses = Some(403);
    let mut following = kept.follow(&server, Role::Remote, None);
    following.issue(|issues| issues.iter().any(|issue| issue.contains(": pods of b are those of a snapshot"))).await;
    following.wait(|following| following.said.contains(&"namespaces: 2".to_owned())).await;
    assert!(following.said.contains(&"pods: p q".to_owned()), "{:?}", following.said);
}

#[tokio::test]
async fn a_snapshot_that_is_not_believed_is_told_and_the_server_is_waited_for() {
    let server = shop().await;
    let kept = Kept::after(&server, Role::Remote).await;
    let text = fs::read_to_string(kept.journal("pods.journal")).expect("it is there");
    fs::write(kept.journal("pods.journal"), text.replacen("\"q\"", "\"x\"", 1)).expect("ours");
    server.state().refuses = Some(503);
    let mut following = kept.follow(&server, Role::Remote, None);
    following.wait(has(IssueCode::UnusableSnapshot)).await;
    assert!(following.said.is_empty(), "{:?}", following.said);
    server.state().refuses = None;
    following.until("synced").await;
    following.issue(<[String]>::is_empty).await;
}

#[tokio::test]
async fn another_members_snapshot_does_not_speak_for_this_one() {
    let server = shop().await;
    let kept = Kept::after(&server, Role::Remote).await;
    let members = kept.0.path().join("members");
    fs::rename(members.join("b"), members.join("c")).expect("moved");
    copy(&members.join("c"), &members.join("b"));
    for name in ["pods.journal", "namespaces.journal"] {
        let text = fs::read_to_string(members.join("c").join(name)).expect("it is there");
        fs::write(members.join("b").join(name), text.replacen(" b ", " c ", 1)).expect("ours");
    }
    server.state().refuses = Some(503);
    let mut following = kept.follow(&server, Role::Remote, None);
    following.issue(|issues| issues.iter().any(|issue| issue.contains("it is another one"))).await;
    assert!(following.said.is_empty(), "{:?}", following.said);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[tokio::test]
async fn what_is_not_heard_for_too_long_goes_and_comes_back_with_a_list() {
    let server = shop().await;
    let limit = Duration::from_millis(1500);
    let mut following = Kept::new().follow(&server, Role::Remote, Some(limit));
    following.until("synced").await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < limit + Duration::from_millis(500) {
        following.next().await;
    }
    assert!(following.said.is_empty(), "it was heard all the time: {:?}", following.said);

    server.state().is_silent = true;
    following.until("pods: ").await;
    following.wait(has(IssueCode::StaleSource)).await;
    server.requests("/");
    server.state().is_silent = false;
    let said = following.until("pods: p q").await;
    assert!(said.contains(&"+p 1".to_owned()) && said.contains(&"+q 2".to_owned()), "{said:?}");
    following.issue(<[String]>::is_empty).await;
    // The server would have gone on from where it was.
    assert!(server.requests(PODS).iter().any(|request| request.contains("sendInitialEvents")));
}

#[tokio::test]
async fn what_was_not_heard_for_too_long_before_the_agent_began_counts_neither() {
    let server = shop().await;
    let kept = Kept::after(&server, Role::Remote).await;
    kept.age(HOUR);
    server.state().refuses = Some(503);
    let mut following = kept.follow(&server, Role::Remote, Some(HOUR / 2));
    let said = sorted(following.until("synced").await);
    assert_eq!(said, ["namespaces: 0", "pods: ", "synced"]);
    let stale = following.last.issues().iter().find(|issue| issue.code == IssueCode::StaleSource);
    assert!(stale.expect("it is said").message.contains("not heard for 30 min 0 s, its staleAfter"));
    server.state().refuses = None;
    following.issue(<[String]>::is_empty).await;
    assert!(following.said.contains(&"pods: p q".to_owned()), "{:?}", following.said);
}

#[tokio::test]
async fn the_local_cluster_never_grows_stale() {
    let server = shop().await;
    let kept = Kept::after(&server, Role::Local).await;
    kept.age(HOUR);
    server.state().refuses = Some(503);
    let mut following = kept.follow(&server, Role::Local, Some(Duration::from_millis(10)));
    let said = following.until("synced").await;
    assert!(said.contains(&"pods: p q".to_owned()), "{said:?}");
    sleep(Duration::from_millis(600)).await;
    following.wait(has(IssueCode::UnusableSource)).await;
    assert!(following.said.is_empty() && !has(IssueCode::StaleSource)(&following), "{:?}", following.said);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_loses_no_event() {
    let server = shop().await;
    let kept = Kept::new();
    let members = kept.0.path().join("members");
    fs::write(&members, "").expect("written");
    let scribe = Scribe::with(Folder::at(members.clone()), 1 << 20, Duration::from_millis(300)).expect("a thread");
    let mut following = Following::begin(&server, Role::Remote, None, conduct(Some(scribe.clone())));
    following.until("synced").await;
    following.wait(has(IssueCode::UnusableSnapshot)).await;
    let issues: Vec<_> = following.last.issues().to_vec();
    assert_eq!(issues.len(), 1, "one for all collections: {issues:#?}");
    assert!(issues[0].message.contains("cannot be written: "), "{}", issues[0].message);
    server.apply(PODS, pod("r", "3"));
    following.wait(|following| following.said.contains(&"+r 3".to_owned())).await;
    fs::remove_file(&members).expect("removed");
    following.issue(<[String]>::is_empty).await;
    server.apply(PODS, pod("s", "4"));
    following.wait(|following| following.said.contains(&"+s 4".to_owned())).await;
    following.end().await;
    scribe.settle();
    server.state().refuses = Some(503);
    let said = kept.follow(&server, Role::Remote, None).until("synced").await;
    assert!(said.contains(&"pods: p q r s".to_owned()), "{said:?}");
}

#[tokio::test]
async fn a_member_that_leaves_leaves_nothing_behind() {
    let server = shop().await;
    let kept = Kept::new();
    let path = |name: &str| kept.0.path().join(name);
    fs::write(path("kubeconfig"), server.kubeconfig()).expect("written");
    fs::create_dir(path("a")).expect("made");
    let set = |members: &str| {
        let text = format!(
            "{{apiVersion: crosswall.dev/v1alpha1, kind: ClusterSet, spec: {{local: a, members: [{{id: a, source: \
             {{directory: {{path: a}}}}}}{members}]}}}}"
        );
        fs::write(path("set.yaml.new"), text).expect("written");
        fs::rename(path("set.yaml.new"), path("set.yaml")).expect("moved");
    };
    set(", {id: b, source: {kubeconfig: {path: kubeconfig}}}");
    let (sender, mut batches) = mpsc::channel(16);
    let scribe = kept.scribe();
    let source = FilesSource::open(&path("set.yaml"), None).expect("it can be read");
    tokio::spawn(follow(source, None, conduct(Some(scribe.clone())), sender));
    let mut until = async |wanted: &dyn Fn(&Event) -> bool| loop {
        let batch = timeout(PATIENCE, batches.recv()).await.expect("it comes").expect("it is followed");
        if batch.events.iter().any(wanted) {
            return;
        }
    };
    until(&|event| *event == Event::Synced(b())).await;
    scribe.settle();
    assert!(kept.journal("pods.journal").exists());
    set("");
    until(&|event| matches!(event, Event::Configured(config) if config.members.len() == 1)).await;
    scribe.settle();
    assert!(!kept.journal("").exists());
}
