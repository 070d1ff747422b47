//! Finding the manifests below a directory.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::document::Format;

/// How deep sub-folders are followed; a guard against mounts and links that loop.
const MAX_DEPTH: usize = 32;

/// How much a look takes in.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Files and folders, of whatever kind.
    entries: usize,
    /// Bytes of manifests.
    bytes: u64,
}

/// A member's files may be somebody else's: they must not cost the agent what it needs for the others.
const LIMITS: Limits = Limits { entries: 200_000, bytes: 4 << 30 };

/// By what a file is recognized as unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What lies below a directory. Paths are relative to it and ordered bytewise.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The manifests.
    pub(super) files: BTreeMap<OsString, Stamp>,
    /// The folders, as `(path relative, path)`; the root is the empty one.
    pub(super) folders: BTreeSet<(OsString, PathBuf)>,
    /// Files and folders that could not be looked at.
    pub(super) failures: Vec<(OsString, io::Error)>,
}

/// The format of a manifest by its name; `None` for other files, and for hidden ones.
pub(super) fn format_of(name: &OsStr) -> Option<Format> {
    if is_hidden(name) {
        return None;
    }
    match Path::new(name).extension()?.as_bytes() {
        b"yaml" | b"yml" => Some(Format::Yaml),
        b"json" => Some(Format::Json),
        _ => None,
    }
}

/// Editors keep their own files under such names, Kubernetes the versions of a mounted ConfigMap.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

/// `folder/name`, both relative.
pub(super) fn join(folder: &OsStr, name: &OsStr) -> OsString {
    let mut path = folder.to_owned();
    if !folder.is_empty() {
        path.push("/");
    }
    path.push(name);
    path
}

/// Looks through `root` and its sub-folders, links followed; a folder to which several paths lead is looked at once, by
/// the first of them. An error is one of the root itself, or that below it is more than anybody means to have there.
pub(super) fn scan(root: &Path) -> io::Result<Scan> {
    scan_within(root, LIMITS)
}

fn scan_within(root: &Path, limits: Limits) -> io::Result<Scan> {
    let metadata = fs::metadata(root)?;
    let mut scanner = Scanner { scan: Scan::default(), seen: HashSet::from([id(&metadata)]), limits };
    let entries = fs::read_dir(root)?;
    scanner.scan.folders.insert((OsString::new(), root.to_owned()));
    scanner.folder(entries, root, OsStr::new(""), 1)?;
    Ok(scanner.scan)
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// A look in the making.
struct Scanner {
    scan: Scan,
    /// Folders that were looked at, by device and inode.
    seen: HashSet<(u64, u64)>,
    /// What is left of them.
    limits: Limits,
}

impl Scanner {
    fn folder(&mut self, entries: fs::ReadDir, path: &Path, folder: &OsStr, depth: usize) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => names.push(entry.file_name()),
                Err(error) => self.scan.failures.push((folder.to_owned(), error)),
            }
            self.limits.take_entry()?;
        }
        // So that which path to a folder comes first does not change from look to look.
        names.sort_unstable();
        for name in names.into_iter().filter(|name| !is_hidden(name)) {
            self.entry(&path.join(&name), join(folder, &name), &name, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, relative: OsString, name: &OsStr, depth: usize) -> io::Result<()> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => {
                let gone = error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err();
                if !gone && format_of(name).is_some() {
                    self.scan.failures.push((relative, error));
                }
                return Ok(());
            }
        };
        if metadata.is_file() && format_of(name).is_some() {
            self.limits.take_bytes(metadata.size())?;
            self.scan.files.insert(relative, Stamp::of(&metadata));
        } else if metadata.is_dir() && depth < MAX_DEPTH && self.seen.insert(id(&metadata)) {
            match fs::read_dir(path) {
                Ok(entries) => {
                    self.scan.folders.insert((relative.clone(), path.to_owned()));
                    self.folder(entries, path, &relative, depth + 1)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => self.scan.failures.push((relative, error)),
            }
        }
        Ok(())
    }
}

impl Limits {
    fn take_entry(&mut self) -> io::Result<()> {
        let advice = "keep in it nothing but manifests, several in a file";
        self.entries = self.entries.checked_sub(1).ok_or_else(|| {
            io::Error::other(format!("it holds more than {} files and folders; {advice}", LIMITS.entries))
        })?;
        Ok(())
    }

    fn take_bytes(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| {
            io::Error::other(format!("its manifests are larger than {} GiB together", LIMITS.bytes >> 30))
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_that_multiply_paths_are_followed_once_to_each_folder() {
        let root = tempfile::tempdir().expect("a directory");
        let folder = |number: usize| root.path().join(format!("f{number}"));
        for number in 0..8 {
            fs::create_dir(folder(number)).expect("made");
            fs::write(folder(number).join("x.yaml"), "").expect("written");
        }
        // From every folder to every other one: 8! paths.
        for (from, to) in (0..64).map(|pair| (pair / 8, pair % 8)) {
            symlink(folder(to), folder(from).join(format!("l{to}"))).expect("linked");
        }
        let scan = scan(root.path()).expect("it can be read");
        assert_eq!((scan.folders.len(), scan.files.len(), scan.failures.len()), (9, 8, 0));
    }

    #[test]
    fn more_than_anybody_means_to_have_is_refused_whole() {
        let root = tempfile::tempdir().expect("a directory");
        fs::write(root.path().join("a.yaml"), "abc").expect("written");
        fs::write(root.path().join("b.txt"), "abc").expect("written");
        let within = |entries, bytes| scan_within(root.path(), Limits { entries, bytes }).map_err(|it| it.to_string());
        assert!(within(2, 3).is_ok());
        let refused = within(1, 3).expect_err("too many");
        assert!(refused.starts_with("it holds more than 200000 files and folders; "), "{refused}");
        assert_eq!(within(2, 2).expect_err("too large"), "its manifests are larger than 4 GiB together");
    }
}
