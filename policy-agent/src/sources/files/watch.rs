//! Watching the files of a running agent: inotify says where to look, [`FilesSource`] says what changed.
//!
//! A file is read when its writer closes it or when a name is moved or linked to it, never while it is being written.
//! What inotify cannot see (another host's writes to a network file system, the target of a link) is found by looking
//! at every file's size and times now and then.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use policy_core::model::{ClusterId, Issue, IssueCode, Level};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::scan::{format_of, is_hidden, join};
use super::{Changes, FilesSource};
use crate::cluster_set::ClusterSet;
use crate::sources::Batch;

/// How long a change waits for others that belong to it, as the two halves of a rename.
const DEBOUNCE: Duration = Duration::from_millis(4);
/// How many events are told apart; of more, everything is looked at.
const MAX_EVENTS: usize = 16 * 1024;
/// How often everything is looked at while inotify works.
const RESCAN_INTERVAL: Duration = Duration::from_secs(30);
/// How often everything is looked at while it does not.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often new folders may appear between listing them and watching them before the next event is waited for.
const MAX_ROUNDS: usize = 8;

/// What the files say.
#[derive(Debug)]
pub struct Told {
    /// What changed, and what is wrong.
    pub batch: Batch,
    /// The ClusterSet, if it is another than before.
    pub cluster_set: Option<ClusterSet>,
}

/// Sends what the files say, at once and then whenever they change, until nobody listens.
pub async fn watch(mut source: FilesSource, told: mpsc::Sender<Told>) {
    let (mut stream, mut watches, mut failure) = match open() {
        Ok((stream, watches)) => (Some(stream), Some(watches), None),
        Err(error) => (None, None, Some(error.to_string())),
    };
    let mut last_issues = None;
    let mut last_set = None;
    let mut notices = Notices::Everything;
    let mut rescanned_at = Instant::now();
    loop {
        if matches!(notices, Notices::Everything) {
            rescanned_at = Instant::now();
        }
        // Whatever touches files does so here, where nobody waits for it: a file system may hang.
        let look = move || {
            let changes = notices.changes(watches.as_ref());
            if changes.is_empty() {
                return (source, watches, failure, None);
            }
            let mut batch = source.refresh(&changes);
            if let (Some(watches), true) = (&mut watches, changes.may_move_folders()) {
                failure = watches.follow(&mut source, &mut batch).err().map(|error| error.to_string());
            }
            batch.issues.get_or_insert_default().extend(failure.as_ref().map(|failure| degraded(&source, failure)));
            (source, watches, failure, Some(batch))
        };
        // Ends early only with the runtime itself.
        let Ok((looked, watching, failed, batch)) = tokio::task::spawn_blocking(look).await else { return };
        (source, watches, failure) = (looked, watching, failed);
        if let Some(batch) = batch
            && (!batch.events.is_empty() || last_issues != batch.issues)
        {
            last_issues.clone_from(&batch.issues);
            let is_other = last_set.as_ref() != Some(source.cluster_set());
            let cluster_set = is_other.then(|| source.cluster_set().clone());
            last_set = cluster_set.clone().or(last_set);
            if told.send(Told { batch, cluster_set }).await.is_err() {
                return;
            }
        }
        let interval = if failure.is_some() { POLL_INTERVAL } else { RESCAN_INTERVAL };
        notices = tokio::select! {
            heard = next_notices(stream.as_mut()) => heard,
            () = tokio::time::sleep_until(rescanned_at + interval) => Notices::Everything,
            () = told.closed() => return,
        };
    }
}

/// What inotify has to say, in order.
#[derive(Debug)]
enum Notices {
    /// Anything may have changed.
    Everything,
    /// These events came.
    Heard(Vec<EventOwned>),
}

impl Notices {
    /// What may have changed.
    fn changes(&self, watches: Option<&Watches>) -> Changes {
        let mut changes = Changes::default();
        match (self, watches) {
            (Self::Heard(events), Some(watches)) => events.iter().for_each(|event| watches.note(event, &mut changes)),
            _ => changes.everything = true,
        }
        changes
    }
}

fn open() -> io::Result<(EventStream<Vec<u8>>, Watches)> {
    let inotify = Inotify::init()?;
    let watches = Watches { inotify: inotify.watches(), places: HashMap::new() };
    Ok((inotify.into_event_stream(vec![0; 16 * 1024])?, watches))
}

/// Waits for inotify; for ever where there is none. Where events were lost, or none can be read, it may be anything.
async fn next_notices(stream: Option<&mut EventStream<Vec<u8>>>) -> Notices {
    let Some(stream) = stream else { return std::future::pending().await };
    let usable = |event: Option<io::Result<EventOwned>>| match event {
        Some(Ok(event)) if !event.mask.contains(EventMask::Q_OVERFLOW) => Some(event),
        _ => None,
    };
    let mut events = Vec::new();
    let mut next = Some(stream.next().await);
    tokio::time::sleep(DEBOUNCE).await;
    while let Some(event) = next {
        match usable(event) {
            Some(event) if events.len() < MAX_EVENTS => events.push(event),
            _ => return Notices::Everything,
        }
        next = stream.next().now_or_never();
    }
    Notices::Heard(events)
}

fn degraded(source: &FilesSource, failure: &str) -> Issue {
    Issue {
        code: IssueCode::UnusableSource,
        level: Level::Warning,
        object: source.path().display().to_string(),
        field: String::new(),
        message: format!(
            "files cannot be watched ({failure}), so changes are found by looking every {} s; \
             raise the limits fs.inotify.max_user_watches and fs.inotify.max_user_instances",
            POLL_INTERVAL.as_secs()
        ),
    }
}

/// Which folders are watched, and why.
struct Watches {
    inotify: inotify::Watches,
    places: HashMap<WatchDescriptor, Vec<Place>>,
}

/// What a change in a folder means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The path to something leads through this entry of the folder.
    Way { name: OsString, to: Destination },
    /// Manifests of a member stand in it.
    Folder { member: ClusterId, relative: OsString, path: PathBuf },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Destination {
    ClusterSet,
    Member(ClusterId),
}

impl Watches {
    /// Watches the folders that the source has now. What appeared in a folder before it was watched is looked at too.
    fn follow(&mut self, source: &mut FilesSource, batch: &mut Batch) -> io::Result<()> {
        for _ in 0..MAX_ROUNDS {
            if !self.arrange(source)? {
                break;
            }
            batch.extend(source.rescan());
        }
        Ok(())
    }

    /// Watches exactly these folders; returns whether one was not watched before.
    fn arrange(&mut self, source: &FilesSource) -> io::Result<bool> {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let mut places: HashMap<WatchDescriptor, Vec<Place>> = HashMap::new();
        for (folder, place) in wanted(source) {
            match self.inotify.add(&folder, mask) {
                Ok(watch) => places.entry(watch).or_default().push(place),
                // Its parent is watched.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => (),
                Err(error) => return Err(error),
            }
        }
        let is_new = places.keys().any(|watch| !self.places.contains_key(watch));
        for (watch, _) in std::mem::replace(&mut self.places, places) {
            if !self.places.contains_key(&watch) {
                // The kernel may have removed it with its folder.
                let _gone = self.inotify.remove(watch);
            }
        }
        Ok(is_new)
    }

    /// Notes what an event means.
    fn note(&self, event: &EventOwned, changes: &mut Changes) {
        for place in self.places.get(&event.wd).into_iter().flatten() {
            match (place, event.name.as_deref()) {
                (Place::Way { name, to }, Some(entry)) if entry == name || is_version(entry) => to.note(changes),
                (Place::Way { .. }, Some(_)) => (),
                (Place::Way { to, .. }, None) => to.note(changes),
                (Place::Folder { member, relative, path }, Some(entry)) => {
                    note_entry(event.mask, member, relative, path, entry, changes);
                }
                (Place::Folder { member, .. }, None) => drop(changes.members.insert(member.clone())),
            }
        }
    }
}

impl Destination {
    fn note(&self, changes: &mut Changes) {
        match self {
            Self::ClusterSet => changes.cluster_set = true,
            Self::Member(member) => drop(changes.members.insert(member.clone())),
        }
    }
}

/// Kubernetes mounts a ConfigMap as links through `..data`, and swaps that one link for a new version.
fn is_version(entry: &OsStr) -> bool {
    entry.as_bytes().starts_with(b"..")
}

fn note_entry(
    mask: EventMask,
    member: &ClusterId,
    relative: &OsStr,
    folder: &Path,
    entry: &OsStr,
    changes: &mut Changes,
) {
    if is_version(entry) || (mask.contains(EventMask::ISDIR) && !is_hidden(entry)) {
        changes.members.insert(member.clone());
    } else if format_of(entry).is_some() {
        if mask.contains(EventMask::CREATE) {
            match fs::symlink_metadata(folder.join(entry)) {
                // A link may lead to a folder.
                Ok(metadata) if metadata.is_symlink() => drop(changes.members.insert(member.clone())),
                // Its writer has yet to close it.
                Ok(metadata) if metadata.is_file() && metadata.nlink() == 1 => return,
                _ => (),
            }
        }
        changes.files.entry(member.clone()).or_default().insert(join(relative, entry));
    } else if mask.intersects(EventMask::CREATE | EventMask::MOVED_TO | EventMask::MOVED_FROM | EventMask::DELETE)
        && !is_hidden(entry)
    {
        let link_to_folder = fs::symlink_metadata(folder.join(entry)).is_ok_and(|metadata| metadata.is_symlink());
        let gone = !mask.intersects(EventMask::CREATE | EventMask::MOVED_TO);
        if link_to_folder || gone {
            changes.members.insert(member.clone());
        }
    }
}

/// The folders to be watched.
fn wanted(source: &FilesSource) -> Vec<(PathBuf, Place)> {
    let mut wanted = Vec::new();
    let mut way = |path: &Path, to: Destination| {
        if let Some((folder, name)) = nearest(path) {
            wanted.push((folder, Place::Way { name, to }));
        }
    };
    way(source.path(), Destination::ClusterSet);
    for directory in source.directories() {
        way(directory.root(), Destination::Member(directory.cluster().clone()));
    }
    for directory in source.directories() {
        for (relative, path) in directory.folders() {
            let (member, relative) = (directory.cluster().clone(), relative.clone());
            wanted.push((path.clone(), Place::Folder { member, relative, path: path.clone() }));
        }
    }
    wanted
}

/// The nearest folder above `path` that exists, and the entry in it that leads to `path`.
fn nearest(path: &Path) -> Option<(PathBuf, OsString)> {
    let absolute = std::path::absolute(path).ok()?;
    let mut path = absolute.as_path();
    loop {
        let (folder, name) = (path.parent()?, path.file_name()?);
        if folder.is_dir() {
            return Some((folder.to_owned(), name.to_owned()));
        }
        path = folder;
    }
}
