//! One cluster's directory: which objects its files hold, and what changed when a file did.
//!
//! Invariants: a file whose new content cannot be read keeps its last good one; an object whose new content cannot be
//! read keeps its last valid version; a directory that cannot be read at all keeps everything. Only a file that is
//! gone, or that no longer holds an object, takes the object away.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy_core::model::{ClusterId, Event, Issue, IssueCode, Level};

use super::scan::{self, Stamp};
use crate::convert::{self, Object, ObjectKey, Readings};
use crate::document;

/// How many issues of one file are told.
const MAX_ISSUES: usize = 100;

/// How much of a cluster is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it: its policies judge its own pods.
    All,
    /// Its pods and what they are known by: another cluster's policies and Services are none of ours.
    Peers,
}

/// One cluster's directory of manifests and what was read of it.
#[derive(Debug)]
pub struct Directory {
    cluster: ClusterId,
    root: PathBuf,
    extent: Extent,
    files: BTreeMap<Arc<OsStr>, File>,
    /// Where each object stands, in the order in which the last one wins.
    claims: HashMap<ObjectKey, Vec<Claim>>,
    effective: HashMap<ObjectKey, Arc<Object>>,
    object_issues: BTreeMap<ObjectKey, Vec<Issue>>,
    scan_issues: Vec<Issue>,
    folders: BTreeSet<(OsString, PathBuf)>,
    state: State,
}

/// Whether the directory could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not yet.
    Unseen,
    /// At the last look.
    Read,
    /// Before, but not at the last look.
    Lost,
}

#[derive(Debug, Default)]
struct File {
    /// `None` where it must be read again.
    stamp: Option<Stamp>,
    objects: Vec<FileObject>,
    issues: Vec<Issue>,
    failure: Option<Issue>,
}

#[derive(Debug)]
struct FileObject {
    key: ObjectKey,
    object: Option<Arc<Object>>,
    issues: Vec<Issue>,
}

/// An object's place: a file and the object's number in it.
type Claim = (Arc<OsStr>, usize);

impl Directory {
    /// The directory `root` of `cluster`, not looked at yet.
    pub fn new(cluster: ClusterId, root: PathBuf, extent: Extent) -> Self {
        Self {
            cluster,
            root,
            extent,
            files: BTreeMap::new(),
            claims: HashMap::new(),
            effective: HashMap::new(),
            object_issues: BTreeMap::new(),
            scan_issues: Vec::new(),
            folders: BTreeSet::new(),
            state: State::Unseen,
        }
    }

    /// Whose objects these are.
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// Where the manifests stand.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it could be read at the last look.
    pub fn is_readable(&self) -> bool {
        self.state == State::Read
    }

    /// Changes where the manifests stand and what is read of them; what is known stays until the next
    /// [`Self::rescan`]. Returns whether there is anything to look at.
    pub fn reconfigure(&mut self, root: &Path, extent: Extent) -> bool {
        let changed = self.root != root || self.extent != extent;
        if changed {
            self.root = root.to_owned();
            self.extent = extent;
            self.files.values_mut().for_each(|file| file.stamp = None);
        }
        changed
    }

    /// All that is wrong now.
    pub fn issues(&self) -> impl Iterator<Item = &Issue> {
        let of_files = self.files.values().flat_map(|file| file.failure.iter().chain(&file.issues));
        self.scan_issues.iter().chain(of_files).chain(self.object_issues.values().flatten())
    }

    /// The folders in which files were found or may appear, with their paths relative to the root.
    pub(super) fn folders(&self) -> &BTreeSet<(OsString, PathBuf)> {
        &self.folders
    }

    /// Looks at everything; reads the files that changed.
    pub fn rescan(&mut self, events: &mut Vec<Event>) {
        self.scan_issues.clear();
        let scan = match scan::scan(&self.root) {
            Ok(scan) => scan,
            Err(error) => return self.lose(&error),
        };
        let mut touched = BTreeSet::new();
        let failed = |path: &OsStr| {
            scan.failures.iter().any(|(failed, _)| {
                let rest = path.as_bytes().strip_prefix(failed.as_bytes());
                rest.is_some_and(|rest| failed.is_empty() || rest.is_empty() || rest.starts_with(b"/"))
            })
        };
        let gone = self.files.keys().filter(|path| !scan.files.contains_key(&***path) && !failed(path));
        for path in gone.cloned().collect::<Vec<_>>() {
            self.forget(&path, &mut touched);
        }
        for (path, error) in &scan.failures {
            let issue = self.failure(path, error);
            self.scan_issues.push(issue);
        }
        for (path, stamp) in scan.files {
            if self.files.get(&*path).is_none_or(|file| file.stamp != Some(stamp)) {
                self.read(&path, &mut touched);
            }
        }
        self.folders = scan.folders;
        self.settle(touched, events);
        if self.state == State::Unseen {
            events.push(Event::Synced(self.cluster.clone()));
        }
        self.state = State::Read;
    }

    /// Looks at these files only, whether they seem changed or not.
    pub fn refresh<'p>(&mut self, paths: impl IntoIterator<Item = &'p OsStr>, events: &mut Vec<Event>) {
        // The files of a directory that was moved away are no more gone than it is.
        if self.state != State::Read || !self.root.is_dir() {
            return self.rescan(events);
        }
        let mut touched = BTreeSet::new();
        for path in paths {
            match fs::metadata(self.root.join(path)) {
                Ok(metadata) if metadata.is_file() => self.read(path, &mut touched),
                Ok(_) => (),
                // A link that leads nowhere is there all the same.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.root.join(path).is_symlink() => {
                    self.forget(path, &mut touched);
                }
                Err(_) => self.read(path, &mut touched),
            }
        }
        self.settle(touched, events);
    }

    fn lose(&mut self, error: &io::Error) {
        let consequence = match self.state {
            State::Unseen => "nothing of it is known yet",
            State::Read | State::Lost => "its last known state stays in force",
        };
        self.scan_issues.push(Issue {
            code: IssueCode::UnusableSource,
            level: Level::Error,
            object: self.cluster.to_string(),
            field: String::new(),
            message: format!(
                "the directory {} of member {} cannot be read: {error}; {consequence}",
                self.root.display(),
                self.cluster
            ),
        });
        if self.state == State::Read {
            self.state = State::Lost;
        }
        self.folders.clear();
    }

    fn display(&self, path: &OsStr) -> String {
        self.root.join(path).display().to_string()
    }

    fn failure(&self, path: &OsStr, error: &dyn std::fmt::Display) -> Issue {
        let known = self.files.get(path).is_some_and(|file| !file.objects.is_empty());
        let consequence = if known { "its last good content stays in force" } else { "nothing in it is used" };
        Issue {
            code: IssueCode::UnreadableObject,
            level: Level::Error,
            object: self.display(path),
            field: String::new(),
            message: format!("cannot be read: {error}; {consequence} until it is mended"),
        }
    }

    fn forget(&mut self, path: &OsStr, touched: &mut BTreeSet<ObjectKey>) {
        if let Some((path, file)) = self.files.remove_entry(path) {
            self.release(&path, file.objects, touched);
        }
    }

    fn release(&mut self, path: &OsStr, objects: Vec<FileObject>, touched: &mut BTreeSet<ObjectKey>) {
        for FileObject { key, .. } in objects {
            if let Some(claims) = self.claims.get_mut(&key) {
                claims.retain(|(file, _)| &**file != path);
                if claims.is_empty() {
                    self.claims.remove(&key);
                }
            }
            touched.insert(key);
        }
    }

    /// Reads a file; where that fails its last good content stays.
    fn read(&mut self, path: &OsStr, touched: &mut BTreeSet<ObjectKey>) {
        let Some(format) = Path::new(path).file_name().and_then(scan::format_of) else { return };
        // The stamp is that of the file when it was opened: what is written meanwhile is read again at the next look.
        let content = document::read(&self.root.join(path));
        let stamp = content.as_ref().ok().map(|(_, metadata)| Stamp::of(metadata));
        let documents = content
            .map_err(|error| error.to_string())
            .and_then(|(bytes, _)| document::parse(&bytes, format).map_err(|error| error.to_string()));
        let failure = documents.as_ref().err().map(|error| self.failure(path, error));
        let path: Arc<OsStr> = self.files.get_key_value(path).map_or_else(|| path.into(), |(path, _)| path.clone());
        let file = self.files.entry(path.clone()).or_default();
        file.stamp = stamp;
        file.failure = failure;
        let Ok(documents) = documents else { return };
        let before = std::mem::take(&mut file.objects);
        self.release(&path, before, touched);
        let mut readings = Readings::default();
        let origin = self.display(&path);
        for document in &documents {
            convert::read_document(&self.cluster, document, &origin, &mut readings);
        }
        leave_out(&mut readings, &origin);
        self.claim(path, readings, touched);
    }

    fn claim(&mut self, path: Arc<OsStr>, readings: Readings, touched: &mut BTreeSet<ObjectKey>) {
        let is_read = |key: &ObjectKey| match key {
            ObjectKey::Namespace(_) | ObjectKey::Node(_) | ObjectKey::Pod(_) => true,
            ObjectKey::Policy(_) | ObjectKey::Service(_) | ObjectKey::EndpointSlice(_) => self.extent == Extent::All,
        };
        let kept = readings.objects.into_iter().filter(|reading| is_read(&reading.key));
        let objects: Vec<FileObject> = kept
            .map(|reading| FileObject {
                key: reading.key,
                object: reading.object.map(Arc::new),
                issues: reading.issues,
            })
            .collect();
        for (at, object) in objects.iter().enumerate() {
            let claims = self.claims.entry(object.key.clone()).or_default();
            let claim = (path.clone(), at);
            let place = claims.partition_point(|known| *known < claim);
            claims.insert(place, claim);
            touched.insert(object.key.clone());
        }
        let file = self.files.entry(path).or_default();
        file.objects = objects;
        file.issues = readings.issues;
    }

    /// Compares what is in force of each touched object with what its files say now.
    fn settle(&mut self, touched: BTreeSet<ObjectKey>, events: &mut Vec<Event>) {
        for key in touched {
            self.object_issues.remove(&key);
            let Some((path, at)) = self.claims.get(&key).and_then(|claims| claims.last()) else {
                if let Some(object) = self.effective.remove(&key) {
                    events.push(Object::clone(&object).deleted());
                }
                continue;
            };
            let FileObject { object, issues, .. } = &self.files[path].objects[*at];
            let mut issues = issues.clone();
            let before = self.effective.get(&key);
            if object.is_none() {
                let in_force = before.is_some();
                issues.iter_mut().for_each(|issue| say_consequence(issue, in_force));
            }
            issues.extend(self.duplicate(&key));
            if let Some(object) = object
                && before.is_none_or(|before| before != object)
            {
                events.push(Object::clone(object).applied());
                self.effective.insert(key.clone(), object.clone());
            }
            if !issues.is_empty() {
                self.object_issues.insert(key, issues);
            }
        }
    }

    fn duplicate(&self, key: &ObjectKey) -> Option<Issue> {
        let [others @ .., (winner, _)] = self.claims.get(key)?.as_slice() else { return None };
        if others.is_empty() {
            return None;
        }
        let others: BTreeSet<String> = others.iter().map(|(path, _)| self.display(path)).collect();
        let others: Vec<String> = others.into_iter().collect();
        let winner = self.display(winner);
        Some(Issue {
            code: IssueCode::DuplicateObject,
            level: Level::Warning,
            object: key.to_string(),
            field: String::new(),
            message: format!("stands in {} and again in {winner}; the latter counts. Remove one", others.join(", ")),
        })
    }
}

/// Leaves out all issues of a file but the first [`MAX_ISSUES`].
fn leave_out(readings: &mut Readings, origin: &str) {
    let mut room = MAX_ISSUES;
    let mut left_out = Vec::new();
    let of_objects = readings.objects.iter_mut().map(|reading| &mut reading.issues);
    for issues in of_objects.chain([&mut readings.issues]) {
        let kept = room.min(issues.len());
        left_out.extend(issues.drain(kept..).map(|issue| issue.level));
        room -= kept;
    }
    if let Some(level) = left_out.iter().min() {
        readings.issues.push(Issue {
            code: IssueCode::UnreadableObject,
            level: *level,
            object: origin.to_owned(),
            field: String::new(),
            message: format!("and {} more issues, which are told when the others are mended", left_out.len()),
        });
    }
}

fn say_consequence(issue: &mut Issue, in_force: bool) {
    if matches!(issue.code, IssueCode::UnreadablePolicy | IssueCode::UnreadableObject) {
        issue.message.push_str(match in_force {
            true => "; its last valid version stays in force",
            false => "; it is not applied",
        });
    }
}
