//! Finding the manifests below a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::document::Format;

/// How deep sub-folders are followed; a guard against mounts and links that loop.
const MAX_DEPTH: usize = 32;

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

/// Looks through `root` and its sub-folders, links followed. An error is one of the root itself.
pub(super) fn scan(root: &Path) -> io::Result<Scan> {
    let mut scan = Scan::default();
    let entries = fs::read_dir(root)?;
    let metadata = fs::metadata(root)?;
    scan.folders.insert((OsString::new(), root.to_owned()));
    let mut ancestors = vec![(metadata.dev(), metadata.ino())];
    scan_folder(entries, OsStr::new(""), &mut ancestors, &mut scan);
    Ok(scan)
}

fn scan_folder(entries: fs::ReadDir, folder: &OsStr, ancestors: &mut Vec<(u64, u64)>, scan: &mut Scan) {
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                scan.failures.push((folder.to_owned(), error));
                continue;
            }
        };
        let name = entry.file_name();
        if is_hidden(&name) {
            continue;
        }
        let (path, relative) = (entry.path(), join(folder, &name));
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) => {
                let gone = error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_err();
                if !gone && format_of(&name).is_some() {
                    scan.failures.push((relative, error));
                }
                continue;
            }
        };
        if metadata.is_file() && format_of(&name).is_some() {
            scan.files.insert(relative, Stamp::of(&metadata));
        } else if metadata.is_dir() {
            let id = (metadata.dev(), metadata.ino());
            if ancestors.contains(&id) || ancestors.len() == MAX_DEPTH {
                continue;
            }
            match fs::read_dir(&path) {
                Ok(entries) => {
                    scan.folders.insert((relative.clone(), path));
                    ancestors.push(id);
                    scan_folder(entries, &relative, ancestors, scan);
                    ancestors.pop();
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => scan.failures.push((relative, error)),
            }
        }
    }
}
