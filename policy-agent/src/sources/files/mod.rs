//! The source of manifests in files: a ClusterSet file, and a directory for each member.

mod directory;
mod scan;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use policy_core::model::{CLUSTER_KEY, ClusterId, Event, Issue, IssueCode, Level};

pub use directory::{Directory, Extent};
pub use watch::{Told, watch};

use super::Batch;
use crate::cluster_set::{ClusterSet, ClusterSetError, Loaded, Source};

/// Reads every member's directory once, every member's policies and Services included.
///
/// # Errors
///
/// One issue for each member whose directory cannot be read.
pub fn load(cluster_set: &ClusterSet) -> Result<Batch, Vec<Issue>> {
    let mut batch = Batch::default();
    let mut unreadable = Vec::new();
    let mut issues = Vec::new();
    for entry in &cluster_set.members {
        let Source::Directory(path) = &entry.source else {
            unreadable.push(no_directory(&entry.member.id));
            continue;
        };
        let mut directory = Directory::new(entry.member.id.clone(), path.clone(), Extent::All);
        directory.rescan(&mut batch.events);
        let told = if directory.is_readable() { &mut issues } else { &mut unreadable };
        told.extend(directory.issues().cloned());
    }
    batch.issues = Some(issues);
    if unreadable.is_empty() { Ok(batch) } else { Err(unreadable) }
}

fn no_directory(cluster: &ClusterId) -> Issue {
    Issue {
        code: IssueCode::UnusableSource,
        level: Level::Error,
        object: cluster.to_string(),
        field: String::new(),
        message:
            "has no directory: its objects are read here from files only; write them to one with kubectl get -o yaml"
                .to_owned(),
    }
}

/// The files of a running agent: remembers what they said, and tells what changed.
#[derive(Debug)]
pub struct FilesSource {
    path: PathBuf,
    /// Which one the local cluster says it is.
    says: Option<ClusterId>,
    cluster_set: Configured,
    /// What is wrong with the ClusterSet file.
    issues: Vec<Issue>,
    directories: Vec<Directory>,
}

#[derive(Debug)]
struct Configured {
    set: ClusterSet,
    local: ClusterId,
    /// Whether the control loop has been told.
    told: bool,
}

/// What may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Anything at all.
    pub everything: bool,
    /// The ClusterSet file.
    pub cluster_set: bool,
    /// Anything in the directories of these members.
    pub members: BTreeSet<ClusterId>,
    /// These files of members, by their paths relative to the directory.
    pub files: BTreeMap<ClusterId, BTreeSet<OsString>>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        let Self { everything, cluster_set, members, files } = self;
        !everything && !cluster_set && members.is_empty() && files.is_empty()
    }

    /// Whether there may be other folders than before.
    fn may_move_folders(&self) -> bool {
        let Self { everything, cluster_set, members, files: _ } = self;
        *everything || *cluster_set || !members.is_empty()
    }
}

impl FilesSource {
    /// Reads the ClusterSet file at `path`; its members' directories are read by the first [`Self::rescan`]. Where the
    /// cluster itself `says` which it is, the file need not, and must not say otherwise.
    pub fn open(path: &Path, says: Option<ClusterId>) -> Result<Self, ClusterSetError> {
        let (cluster_set, issues) = read_cluster_set(path, says.as_ref())?;
        let mut source = Self { path: path.to_owned(), says, cluster_set, issues, directories: Vec::new() };
        source.arrange();
        Ok(source)
    }

    /// The file that names the members.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The ClusterSet in force.
    pub fn cluster_set(&self) -> &ClusterSet {
        &self.cluster_set.set
    }

    /// The local cluster.
    pub fn local(&self) -> &ClusterId {
        &self.cluster_set.local
    }

    /// The members' directories.
    pub fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// Looks at everything; only what changed is read again.
    pub fn rescan(&mut self) -> Batch {
        let mut batch = Batch::default();
        self.reload(&mut batch.events);
        for directory in &mut self.directories {
            directory.rescan(&mut batch.events);
        }
        self.finish(batch)
    }

    /// Looks only at what may have changed.
    pub fn refresh(&mut self, changes: &Changes) -> Batch {
        if changes.everything {
            return self.rescan();
        }
        let mut batch = Batch::default();
        let mut members = changes.members.clone();
        if changes.cluster_set {
            members.append(&mut self.reload(&mut batch.events));
        }
        for directory in &mut self.directories {
            if members.contains(directory.cluster()) {
                directory.rescan(&mut batch.events);
            } else if let Some(files) = changes.files.get(directory.cluster()) {
                directory.refresh(files.iter().map(OsString::as_os_str), &mut batch.events);
            }
        }
        self.finish(batch)
    }

    /// Reads the ClusterSet file; the members that must be looked at are returned.
    fn reload(&mut self, events: &mut Vec<Event>) -> BTreeSet<ClusterId> {
        let mut changed = BTreeSet::new();
        match read_cluster_set(&self.path, self.says.as_ref()) {
            Ok((read, issues)) => {
                self.issues = issues;
                if (&read.set, &read.local) != (&self.cluster_set.set, &self.cluster_set.local) {
                    self.cluster_set = read;
                    changed = self.arrange();
                }
            }
            Err(error) => {
                self.issues = error.issues;
                for issue in &mut self.issues {
                    issue.message.push_str("; the last good ClusterSet stays in force");
                }
            }
        }
        if !self.cluster_set.told {
            self.cluster_set.told = true;
            events.push(Event::Configured(self.cluster_set.set.config(&self.cluster_set.local)));
        }
        changed
    }

    /// Makes the directories those of the ClusterSet; those that must be looked at are returned.
    fn arrange(&mut self) -> BTreeSet<ClusterId> {
        let mut before: BTreeMap<ClusterId, Directory> =
            self.directories.drain(..).map(|directory| (directory.cluster().clone(), directory)).collect();
        let mut changed = BTreeSet::new();
        for entry in &self.cluster_set.set.members {
            let Source::Directory(root) = &entry.source else { continue };
            let id = &entry.member.id;
            let extent = if *id == self.cluster_set.local { Extent::All } else { Extent::Peers };
            let directory = match before.remove(id) {
                Some(mut directory) => {
                    if directory.reconfigure(root, extent) {
                        changed.insert(id.clone());
                    }
                    directory
                }
                None => {
                    changed.insert(id.clone());
                    Directory::new(id.clone(), root.clone(), extent)
                }
            };
            self.directories.push(directory);
        }
        changed
    }

    fn finish(&self, mut batch: Batch) -> Batch {
        let of_directories = self.directories.iter().flat_map(Directory::issues);
        batch.issues = Some(self.issues.iter().chain(of_directories).cloned().collect());
        batch
    }
}

fn read_cluster_set(path: &Path, says: Option<&ClusterId>) -> Result<(Configured, Vec<Issue>), ClusterSetError> {
    let Loaded { mut cluster_set, issues } = ClusterSet::load(path)?;
    match local(&cluster_set, says) {
        Ok(local) => {
            cluster_set.local = Some(local.clone());
            Ok((Configured { set: cluster_set, local, told: false }, issues))
        }
        Err(message) => {
            let issue = Issue {
                code: IssueCode::UnreadableClusterSet,
                level: Level::Error,
                object: path.display().to_string(),
                field: "spec.local".to_owned(),
                message,
            };
            Err(ClusterSetError { issues: vec![issue] })
        }
    }
}

/// Which member is the local one, by the file and by the word of the cluster.
fn local(cluster_set: &ClusterSet, says: Option<&ClusterId>) -> Result<ClusterId, String> {
    match (&cluster_set.local, says) {
        (Some(written), Some(says)) if written != says => Err(format!(
            "is {written}, but the cluster's ClusterProperty {CLUSTER_KEY} says {says}; find out which of them is wrong"
        )),
        (Some(local), _) => Ok(local.clone()),
        (None, Some(says)) if !cluster_set.members.iter().any(|entry| entry.member.id == *says) => Err(format!(
            "is missing, and the cluster's ClusterProperty {CLUSTER_KEY} says {says}, which is no member; add it"
        )),
        (None, Some(says)) => Ok(says.clone()),
        (None, None) => Err(format!(
            "is missing; it names the member whose policies this node enforces, unless the cluster's ClusterProperty \
             {CLUSTER_KEY} does"
        )),
    }
}
