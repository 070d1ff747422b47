//! Journals: what is read of them is what was written, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use policy_core::model::ClusterId;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::folder::Folder;
use super::format::Op;
use super::write::{Writer, push_line};
use super::{Journal, Restored, Scribe, Unrestored, restore};
use crate::convert::{Object, ObjectKey};
use crate::sources::kube::collection::Collection;

const LONG: Duration = Duration::from_secs(3600);

fn b() -> ClusterId {
    "b".parse().expect("an id")
}

fn pod(name: &str, version: u32) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": version.to_string(), "labels": {"quote": "\"\n\\"}},
        "spec": {"nodeName": "n"}, "status": {"phase": "Running"}})
}

fn line(op: Op, object: &Value) -> Vec<u8> {
    let mut line = Vec::new();
    push_line(&mut line, op, |line| Ok(serde_json::to_writer(line, object)?)).expect("memory takes it");
    line
}

/// A folder of journals, and where that of the pods of `b` lies.
struct Place {
    temporary: TempDir,
    folder: Folder,
}

impl Place {
    fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a directory");
        let folder = Folder::at(temporary.path().join("members"));
        Self { temporary, folder }
    }

    fn path(&self) -> PathBuf {
        self.temporary.path().join("members/b/pods.journal")
    }

    /// A journal with these pods, all of version 1.
    fn with(names: &[&str]) -> (Self, Writer) {
        let place = Self::new();
        let mut writer = Writer::new(b(), Collection::Pods, place.folder.clone());
        writer.begin().expect("it can be made");
        for name in names {
            writer.listed(&line(Op::Applied, &pod(name, 1))).expect("written");
        }
        writer.complete().expect("written");
        (place, writer)
    }

    fn restore(&self) -> Result<Vec<Restored>, Unrestored> {
        restore(&self.folder, &b(), &[Collection::Pods])
    }

    /// The pods that are restored, and their versions.
    fn pods(&self) -> BTreeMap<String, String> {
        pods(&self.restore().expect("it is believed"))
    }

    fn refusal(&self) -> String {
        self.restore().expect_err("it is not believed").to_string()
    }
}

fn pods(restored: &[Restored]) -> BTreeMap<String, String> {
    let [Restored { readings, .. }] = restored else { panic!("{restored:?}") };
    let read = readings.iter().map(|reading| match (&reading.key, &reading.object) {
        (ObjectKey::Pod(key), Some(Object::Pod(pod))) => (key.name.to_string(), pod.uid.to_string()),
        _ => panic!("{reading:?}"),
    });
    read.collect()
}

/// A step in the life of a journal.
#[derive(Clone, Debug)]
enum Step {
    List(Vec<u8>),
    Apply(u8),
    Delete(u8),
    Compact,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => prop::collection::vec(0u8..6, 0..6).prop_map(Step::List),
        5 => (0u8..6).prop_map(Step::Apply),
        3 => (0u8..6).prop_map(Step::Delete),
        1 => Just(Step::Compact),
    ];
    let first = prop::collection::vec(0u8..6, 0..6).prop_map(Step::List);
    (first, prop::collection::vec(step, 0..24)).prop_map(|(first, mut steps)| {
        steps.insert(0, first);
        steps
    })
}

/// What the pods are after each step since the last list or compaction, and what that journal was before it.
#[derive(Default)]
struct Lives {
    /// What they are now.
    pods: BTreeMap<String, String>,
    /// The length of the journal after each of its lines that count, and what they were then.
    after: Vec<(u64, BTreeMap<String, String>)>,
}

fn live(place: &Place, writer: &mut Writer, steps: &[Step]) -> Lives {
    let mut lives = Lives::default();
    for (step, version) in steps.iter().zip(1..) {
        let name = |number: &u8| format!("p{number}");
        let is_new = match step {
            Step::List(numbers) => {
                lives.pods.clear();
                writer.begin().expect("made");
                for number in numbers.iter().collect::<BTreeSet<_>>() {
                    writer.listed(&line(Op::Applied, &pod(&name(number), version))).expect("written");
                    lives.pods.insert(name(number), version.to_string());
                }
                writer.complete().expect("written");
                true
            }
            Step::Apply(number) => {
                writer.append(&line(Op::Applied, &pod(&name(number), version))).expect("written");
                lives.pods.insert(name(number), version.to_string());
                false
            }
            Step::Delete(number) => {
                writer.append(&line(Op::Deleted, &pod(&name(number), version))).expect("written");
                lives.pods.remove(&name(number));
                false
            }
            Step::Compact => {
                writer.compact().expect("written");
                true
            }
        };
        if is_new {
            lives.after.clear();
        }
        lives.after.push((fs::metadata(place.path()).expect("it is there").len(), lives.pods.clone()));
    }
    lives
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever happened, and wherever the journal is cut off: what is restored is the state after the last whole line,
    /// and without the end of its list nothing.
    #[test]
    fn what_is_restored_is_what_was_last_whole(steps in steps()) {
        let place = Place::new();
        let mut writer = Writer::new(b(), Collection::Pods, place.folder.clone());
        let lives = live(&place, &mut writer, &steps);
        prop_assert_eq!(&place.pods(), &lives.pods);
        let whole = fs::read(place.path()).expect("it is there");
        for length in (0..=whole.len()).rev() {
            fs::OpenOptions::new().write(true).open(place.path()).expect("ours").set_len(length as u64).expect("cut");
            let expect = lives.after.iter().rev().find(|(end, _)| *end <= length as u64);
            match (place.restore(), expect) {
                (Ok(restored), Some((_, expect))) => prop_assert_eq!(&pods(&restored), expect, "of {} bytes", length),
                (Err(_), None) => {}
                (got, expect) => prop_assert!(false, "of {} bytes: {:?} and not {:?}", length, got, expect),
            }
        }
    }

    /// One byte is another: the journal is refused; where it is the end of the last line, that one counts as cut off.
    #[test]
    fn what_is_damaged_is_refused(steps in steps(), at in any::<prop::sample::Index>(), byte in 1u8..) {
        let place = Place::new();
        let mut writer = Writer::new(b(), Collection::Pods, place.folder.clone());
        let lives = live(&place, &mut writer, &steps);
        let mut bytes = fs::read(place.path()).expect("it is there");
        let at = at.index(bytes.len());
        bytes[at] ^= byte;
        fs::write(place.path(), &bytes).expect("ours");
        if let Ok(restored) = place.restore() {
            prop_assert_eq!(at, bytes.len() - 1);
            let (_, before) = &lives.after[lives.after.len().checked_sub(2).expect("a list needs its end")];
            prop_assert_eq!(&pods(&restored), before);
        }
    }

    /// Bytes that nobody wrote are refused, behind what was written too.
    #[test]
    fn anything_else_is_refused(noise in prop::collection::vec(any::<u8>(), 0..300), is_behind in any::<bool>()) {
        let (place, _writer) = Place::with(&["p"]);
        let mut bytes = if is_behind { fs::read(place.path()).expect("it is there") } else { Vec::new() };
        bytes.extend(&noise);
        fs::write(place.path(), &bytes).expect("ours");
        match place.restore() {
            Ok(restored) => prop_assert!(is_behind && pods(&restored).len() == 1),
            Err(Unrestored::Refused { .. }) => {}
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn a_line_that_is_lost_repeated_moved_or_joined_is_noticed() {
    let (place, mut writer) = Place::with(&["p", "q"]);
    for version in 2..6 {
        writer.append(&line(Op::Applied, &pod("r", version))).expect("written");
    }
    let text = fs::read_to_string(place.path()).expect("it is there");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for at in 1..lines.len() - 1 {
        for change in [vec![], vec![lines[at], lines[at]], vec![lines[at + 1], lines[at]]] {
            let skip = if change.len() == 2 && change[0] != change[1] { 2 } else { 1 };
            let changed = [&lines[..at], &change, &lines[at + skip..]].concat().concat();
            if changed == text || text.starts_with(&changed) {
                continue;
            }
            fs::write(place.path(), &changed).expect("ours");
            assert!(place.refusal().contains("is not as it was written"), "{changed}");
        }
        let joined = [&lines[..at], &[lines[at].trim_end()], &lines[at + 1..]].concat().concat();
        fs::write(place.path(), &joined).expect("ours");
        assert!(place.refusal().contains("is not as it was written"), "{joined}");
    }
}

#[test]
fn a_journal_of_another_member_collection_or_version_is_refused() {
    let (place, _writer) = Place::with(&["p"]);
    let other = |cluster: &str, collection: Collection| {
        let to = place.temporary.path().join(format!("members/{cluster}/{collection}.journal"));
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        fs::copy(place.path(), to).expect("copied");
        let cluster = cluster.parse().expect("an id");
        restore(&place.folder, &cluster, &[collection]).expect_err("it is another's").to_string()
    };
    let message = other("c", Collection::Pods);
    assert!(message.contains("begins with \"crosswall.dev/snapshot/v1 b pods "), "{message}");
    assert!(message.contains("members/c/pods.journal is not believed"), "{message}");
    assert!(other("b", Collection::Namespaces).contains("it is another one"));
    let text = fs::read_to_string(place.path()).expect("it is there");
    fs::write(place.path(), text.replacen("/v1 ", "/v2 ", 1)).expect("ours");
    assert!(place.refusal().contains("another version"));
    fs::write(place.path(), "{\"kind\": \"Pod\"}\n").expect("ours");
    assert!(place.refusal().contains("it is no snapshot"));
}

#[test]
fn what_others_can_write_to_is_refused() {
    let (place, _writer) = Place::with(&["p"]);
    let restrict = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).expect("changed");
    let folder = place.path().parent().expect("a folder").to_owned();
    let root = folder.parent().expect("a folder").to_owned();
    for (path, private) in [(place.path(), 0o600), (folder, 0o700), (root, 0o700)] {
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, private, "{path:?}");
        restrict(&path, private | 0o020);
        assert!(place.refusal().contains("others may write to it"), "{path:?}");
        restrict(&path, private);
    }
    fs::rename(place.path(), place.temporary.path().join("elsewhere")).expect("moved");
    symlink(place.temporary.path().join("elsewhere"), place.path()).expect("linked");
    assert!(place.refusal().contains("cannot be read"), "a link leads elsewhere");
}

#[test]
fn what_is_too_large_is_neither_read_nor_written() {
    let (mut place, _writer) = Place::with(&["p"]);
    place.folder.max_bytes = fs::metadata(place.path()).expect("it is there").len();
    assert_eq!(place.pods().len(), 1);
    let mut writer = Writer::new(b(), Collection::Pods, place.folder.clone());
    writer.begin().expect("made");
    writer.listed(&line(Op::Applied, &pod("p", 1))).expect("written");
    writer.complete().expect("as large as it may be");
    let error = writer.append(&line(Op::Applied, &pod("q", 1))).expect_err("too large").to_string();
    assert!(error.contains("would not be read again"), "{error}");
    place.folder.max_bytes -= 1;
    assert!(place.refusal().contains("more than"));
}

#[test]
fn all_collections_are_restored_or_none() {
    let (place, _writer) = Place::with(&["p"]);
    let both = || restore(&place.folder, &b(), Collection::REMOTE);
    assert!(matches!(both(), Err(Unrestored::Absent(Collection::Namespaces))));
    let mut writer = Writer::new(b(), Collection::Namespaces, place.folder.clone());
    writer.begin().expect("made");
    assert!(matches!(both(), Err(Unrestored::Absent(Collection::Namespaces))), "its list is not complete");
    writer.complete().expect("written");
    assert_eq!(both().expect("both are there").len(), 2);
    fs::write(place.path(), "x").expect("ours");
    assert!(matches!(both(), Err(Unrestored::Refused { collection: Collection::Pods, .. })));
}

#[test]
fn a_list_that_does_not_end_leaves_the_last_one() {
    let (place, mut writer) = Place::with(&["p", "q"]);
    writer.begin().expect("made");
    writer.listed(&line(Op::Applied, &pod("r", 2))).expect("written");
    drop(writer);
    assert_eq!(place.pods().into_keys().collect::<Vec<_>>(), ["p", "q"]);
}

#[test]
fn a_long_journal_is_written_anew_and_grows_no_older_or_younger_by_that() {
    let (place, mut writer) = Place::with(&["p", "q"]);
    writer.append(&line(Op::Deleted, &pod("q", 1))).expect("written");
    let lines: Vec<u8> = (2..5002).flat_map(|version| line(Op::Applied, &pod("p", version))).collect();
    writer.append(&lines).expect("written");
    let (long, then) = (fs::metadata(place.path()).expect("it is there").len(), SystemTime::now() - LONG);
    writer.heard(then).expect("touched");
    writer.compact_if_long().expect("written anew");
    let short = fs::metadata(place.path()).expect("it is there");
    assert!(short.len() < 1000 && long > 500_000, "{long} bytes became {}", short.len());
    assert_eq!(place.restore().expect("it is believed")[0].heard, short.modified().expect("it has a time"));
    assert!(short.modified().expect("it has a time") <= then, "nothing was heard meanwhile");
    let few: Vec<u8> = (0..1000).flat_map(|version| line(Op::Applied, &pod("r", version))).collect();
    writer.append(&few).expect("written behind it");
    let length = fs::metadata(place.path()).expect("it is there").len();
    writer.compact_if_long().expect("not yet");
    assert_eq!(fs::metadata(place.path()).expect("it is there").len(), length);
    let expect = BTreeMap::from([("p".to_owned(), "5001".to_owned()), ("r".to_owned(), "999".to_owned())]);
    assert_eq!(place.pods(), expect);
}

#[test]
fn what_was_heard_in_the_future_was_heard_now() {
    let (place, mut writer) = Place::with(&["p"]);
    writer.heard(SystemTime::now() + LONG).expect("touched");
    assert!(place.restore().expect("it is believed")[0].heard <= SystemTime::now());
}

/// A scribe, and a journal of the pods of `b` that it writes.
fn scribe(
    folder: &Folder,
    max_queued: usize,
    retry: Duration,
) -> (Scribe, Journal, tokio::sync::watch::Receiver<super::Health>) {
    let scribe = Scribe::with(folder.clone(), max_queued, retry).expect("a thread");
    let (mut journals, health) = scribe.follow(&b(), &[Collection::Pods]);
    (scribe, journals.remove(0), health)
}

fn list(journal: &mut Journal, names: &[&str]) {
    journal.begin();
    names.iter().for_each(|name| journal.listed(&pod(name, 1)));
    journal.complete();
}

#[test]
fn what_is_told_is_written() {
    let place = Place::new();
    let (scribe, mut journal, health) = scribe(&place.folder, 1 << 20, LONG);
    list(&mut journal, &["p", "q"]);
    journal.applied(&pod("q", 2));
    journal.deleted(&pod("p", 1));
    scribe.settle();
    assert_eq!(place.pods(), BTreeMap::from([("q".to_owned(), "2".to_owned())]));
    assert!(health.borrow().is_empty() && !journal.wants_list());
    let before = place.restore().expect("it is believed")[0].heard;
    journal.heard();
    scribe.settle();
    assert!(place.restore().expect("it is believed")[0].heard > before);
}

#[test]
fn what_cannot_be_written_is_said_until_a_list_can() {
    let place = Place::new();
    // A file stands where the folder should be.
    fs::write(place.temporary.path().join("members"), "").expect("written");
    let (scribe, mut journal, health) = scribe(&place.folder, 1 << 20, Duration::ZERO);
    list(&mut journal, &["p"]);
    journal.applied(&pod("q", 1));
    scribe.settle();
    assert!(health.borrow().contains_key(&Collection::Pods) && journal.wants_list());
    fs::remove_file(place.temporary.path().join("members")).expect("removed");
    journal.applied(&pod("q", 2));
    scribe.settle();
    assert!(!place.path().exists() && journal.wants_list(), "without a list it has no beginning");
    list(&mut journal, &["p", "q"]);
    scribe.settle();
    assert!(health.borrow().is_empty() && !journal.wants_list());
    assert_eq!(place.pods().len(), 2);
}

#[test]
fn a_disk_that_does_not_keep_up_leaves_what_was_once_true() {
    let place = Place::new();
    let (scribe, mut journal, health) = scribe(&place.folder, 1000, Duration::ZERO);
    list(&mut journal, &["p"]);
    scribe.settle();
    let mut large = pod("q", 1);
    large["metadata"]["labels"] = json!({"x": "y".repeat(1000)});
    journal.applied(&large);
    journal.applied(&pod("r", 1));
    scribe.settle();
    assert_eq!(place.pods().into_keys().collect::<Vec<_>>(), ["p"], "nothing is written behind what is missing");
    assert!(health.borrow()[&Collection::Pods].contains("does not keep up") && journal.wants_list());
    list(&mut journal, &["p", "r"]);
    scribe.settle();
    assert!(health.borrow().is_empty());
    assert_eq!(place.pods().len(), 2);
}

#[test]
fn what_is_kept_of_former_members_and_other_roles_goes() {
    let (place, _writer) = Place::with(&["p"]);
    let members = place.temporary.path().join("members");
    fs::create_dir_all(members.join("former.eu")).expect("made");
    fs::write(members.join("former.eu/pods.journal"), "x").expect("written");
    fs::create_dir(members.join("No_Id")).expect("made");
    fs::write(members.join("b/nodes.journal"), "x").expect("written");
    let scribe = Scribe::with(place.folder.clone(), 1000, LONG).expect("a thread");
    let (_journals, _health) = scribe.follow(&b(), Collection::REMOTE);
    scribe.keep(BTreeSet::from([b()]));
    scribe.settle();
    let names = |path: &Path| {
        let entries = fs::read_dir(path).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&members), ["No_Id", "b"].map(str::to_owned).into());
    assert_eq!(names(&members.join("b")), ["pods.journal"].map(str::to_owned).into());
    scribe.keep(BTreeSet::new());
    scribe.settle();
    assert!(!members.join("b").exists());
}
