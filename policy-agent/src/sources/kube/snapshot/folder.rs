//! Where journals lie: `STATE_DIR/members/CLUSTER/COLLECTION.journal`, for the agent's user alone.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use policy_core::model::ClusterId;

use super::format::Refusal;
use crate::ownership::exposure;
use crate::sources::kube::collection::Collection;

/// The largest journal that is written or read.
pub const MAX_BYTES: u64 = 4 << 30;

/// The folder of all members' journals.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    /// The largest journal that is written or read.
    pub max_bytes: u64,
}

impl Folder {
    /// The folder at `root`; it need not exist.
    pub fn at(root: PathBuf) -> Self {
        Self { root, max_bytes: MAX_BYTES }
    }

    /// The folder of a member. A cluster's id is text that has been checked, and is a name of a file all the same only if
    /// it is one.
    fn of_member(&self, cluster: &ClusterId) -> io::Result<PathBuf> {
        let mut components = Path::new(cluster.as_str()).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(name)), None) if name == cluster.as_str() => Ok(self.root.join(name)),
            _ => Err(io::Error::other(format!("{cluster} cannot be the name of a folder"))),
        }
    }

    /// The journal of a collection.
    pub fn journal(&self, cluster: &ClusterId, collection: Collection) -> io::Result<PathBuf> {
        Ok(self.of_member(cluster)?.join(format!("{collection}.journal")))
    }

    /// Opens a journal to read it; `None`: there is none.
    pub fn open(&self, cluster: &ClusterId, collection: Collection) -> Result<Option<File>, Refusal> {
        let path = self.journal(cluster, collection)?;
        let mut open = OpenOptions::new();
        let file = match open.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        // Whoever may write to a folder may put another file in the place of ours.
        for folder in [self.root.clone(), self.of_member(cluster)?] {
            relied_on(&fs::symlink_metadata(folder)?)?;
        }
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file").into());
        }
        relied_on(&metadata)?;
        let (bytes, limit) = (metadata.len(), self.max_bytes);
        if bytes > limit {
            return Err(Refusal::TooLarge { bytes, limit });
        }
        Ok(Some(file))
    }

    /// Makes a new file beside a journal, which [`Self::replace`] puts in its place.
    pub fn create(&self, cluster: &ClusterId, collection: Collection) -> io::Result<File> {
        if let Some(parent) = self.root.parent() {
            fs::create_dir_all(parent)?;
        }
        for folder in [self.root.clone(), self.of_member(cluster)?] {
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            relied_on(&fs::symlink_metadata(&folder)?)
                .map_err(|refusal| io::Error::other(format!("{}: {refusal}", folder.display())))?;
        }
        let path = beside(&self.journal(cluster, collection)?);
        // What an earlier agent left unfinished; its mode would stay.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
    }

    /// Puts the new file in the place of the journal, once it is on the disk.
    pub fn replace(&self, cluster: &ClusterId, collection: Collection, new: &File) -> io::Result<()> {
        new.sync_all()?;
        let path = self.journal(cluster, collection)?;
        fs::rename(beside(&path), &path)?;
        // The new name is on the disk only with its folder.
        File::open(self.of_member(cluster)?)?.sync_all()
    }

    /// Gives up the new file beside a journal.
    pub fn give_up(&self, cluster: &ClusterId, collection: Collection) {
        if let Ok(path) = self.journal(cluster, collection) {
            // What stays is written over by the next.
            drop(fs::remove_file(beside(&path)));
        }
    }

    /// Removes a member's journals of collections other than these.
    pub fn keep_collections(&self, cluster: &ClusterId, collections: &[Collection]) {
        for collection in Collection::LOCAL.iter().filter(|collection| !collections.contains(collection)) {
            if let Ok(path) = self.journal(cluster, *collection) {
                // Nothing reads it; it only takes room.
                drop(fs::remove_file(path));
            }
        }
    }

    /// Removes what there is of other members than these.
    pub fn keep_members(&self, members: &BTreeSet<ClusterId>) -> io::Result<()> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Some(cluster) = entry.file_name().to_str().and_then(|name| name.parse::<ClusterId>().ok()) else {
                // No member's: it is not ours to remove.
                continue;
            };
            if !members.contains(&cluster) && entry.file_type()?.is_dir() {
                tracing::info!("{cluster} is followed no more; its snapshot is removed");
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

fn relied_on(metadata: &fs::Metadata) -> Result<(), Refusal> {
    if metadata.is_symlink() {
        return Err(io::Error::other("it is a link").into());
    }
    exposure(metadata)?.map_or(Ok(()), |exposure| Err(Refusal::Exposed(exposure)))
}

/// The file that will take a journal's place.
fn beside(journal: &Path) -> PathBuf {
    journal.with_extension("new")
}
