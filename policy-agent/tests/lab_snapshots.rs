//! Snapshots on a disk that is full: the last whole line is what is known, until there is room again.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use policy_agent::sources::kube::Collection;
use policy_agent::sources::kube::snapshot::{Folder, Journal, Scribe, restore};
use policy_core::model::ClusterId;
use serde_json::{Value, json};

/// How large the disk is.
const DISK: usize = 256 << 10;
/// How long something that must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn b() -> ClusterId {
    "b".parse().expect("an id")
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"filling": "x".repeat(1000)}},
        "status": {"phase": "Running"}})
}

/// Runs on a thread that sees a small disk of its own at `path`; nobody else sees it, and it goes with the thread and
/// those that it began.
fn with_small_disk(path: &Path, work: impl FnOnce() + Send + 'static) {
    let path = path.to_owned();
    let thread = thread::spawn(move || {
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).expect("root may");
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("nobody else sees what comes");
        let size = format!("size={DISK},mode=700");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).expect("mounted");
        work();
    });
    thread.join().expect("it works");
}

fn list(journal: &mut Journal, pods: usize) {
    journal.begin();
    (0..pods).for_each(|number| journal.listed(&pod(&format!("p{number}"))));
    journal.complete();
}

/// How many pods are restored.
fn restored(folder: &Path) -> usize {
    let restored = restore(&Folder::at(folder.to_owned()), &b(), &[Collection::Pods]).expect("it is believed");
    restored[0].readings.len()
}

/// Waits until all is done that was ordered before: what there is of a former member is removed in its turn.
fn settle(scribe: &Scribe, members: &Path) {
    let former = members.join("former");
    fs::create_dir(&former).expect("a folder takes no room");
    scribe.keep(BTreeSet::from([b()]));
    let begun = Instant::now();
    while former.exists() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_full_disk_leaves_what_was_written_whole_until_there_is_room() {
    let temporary = tempfile::tempdir().expect("a directory");
    let disk = temporary.path().to_owned();
    let (checked, done) = mpsc::channel();
    with_small_disk(temporary.path(), move || {
        let members = disk.join("members");
        let folder = Folder::at(members.clone());
        let scribe = Scribe::with(folder, 32 << 20, Duration::ZERO).expect("a thread");
        let (mut journals, health) = scribe.follow(&b(), &[Collection::Pods]);
        let journal = &mut journals[0];
        fs::create_dir(&members).expect("made");
        let is_full = || health.borrow().values().any(|why| why.contains("No space left on device"));

        list(journal, 50);
        settle(&scribe, &members);
        assert_eq!(restored(&members), 50);
        for number in 0..500 {
            journal.applied(&pod(&format!("q{number}")));
        }
        settle(&scribe, &members);
        let whole = restored(&members);
        assert!(is_full() && whole > 50 && whole < 300, "{whole} pods");
        assert!(journal.wants_list());

        list(journal, 51);
        settle(&scribe, &members);
        assert!(is_full() && journal.wants_list());
        assert_eq!(restored(&members), whole, "a list that does not fit leaves what was");

        fs::remove_file(members.join("b/pods.journal")).expect("removed");
        list(journal, 52);
        journal.applied(&pod("r"));
        settle(&scribe, &members);
        assert!(health.borrow().is_empty() && !journal.wants_list());
        assert_eq!(restored(&members), 53);
        checked.send(()).expect("somebody waits");
    });
    done.try_recv().expect("all was looked at");
}
