//! The state directory: one agent at a time.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::ownership::{Exposure, exposure};

/// The state directory, held for as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    _lock: File,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It cannot be made, or not be written to.
    #[error("cannot use the state directory {}; name another one with --state-dir", .path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than the agent's user could change what is in it.
    #[error(
        "cannot rely on the state directory: {}: {exposure}; `chown` it to the agent's user and `chmod 700` it, or name \
         another one with --state-dir",
        .path.display()
    )]
    Exposed {
        /// The directory, or the file in it.
        path: PathBuf,
        /// Why.
        exposure: Exposure,
    },
    /// Another agent has it.
    #[error(
        "another policy-agent{holder} runs with the state directory {}; end it, or name another one with --state-dir",
        .path.display()
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// Its process, where it says so.
        holder: String,
    },
}

impl StateDir {
    /// Takes the directory, made if need be, for nobody but the agent's user.
    pub fn take(path: &Path) -> Result<Self, StateDirError> {
        let unusable = |source| StateDirError::Unusable { path: path.to_owned(), source };
        make(path).map_err(unusable)?;
        let relied_on = |path: &Path, metadata: io::Result<Metadata>| match metadata
            .and_then(|metadata| exposure(&metadata))
            .map_err(unusable)?
        {
            Some(exposure) => Err(StateDirError::Exposed { path: path.to_owned(), exposure }),
            None => Ok(()),
        };
        relied_on(path, fs::metadata(path))?;
        let file = path.join("agent.lock");
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut lock = open.open(&file).map_err(unusable)?;
        relied_on(&file, lock.metadata())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Who it is only makes the message better.
                let _read = lock.read_to_string(&mut pid);
                let holder = if pid.trim().is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
                return Err(StateDirError::Held { path: path.to_owned(), holder });
            }
        }
        let note = |lock: &mut File| {
            lock.set_len(0)?;
            lock.seek(SeekFrom::Start(0))?;
            writeln!(lock, "{}", std::process::id())
        };
        note(&mut lock).map_err(unusable)?;
        Ok(Self { _lock: lock })
    }
}

/// Makes a directory for its owner alone; one that exists is left as it is.
fn make(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_made_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("new/state");
        let _held = StateDir::take(&path).expect("it can be made");
        let mode = |path: &Path| fs::metadata(path).expect("made").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("agent.lock"))), (0o700, 0o600));
    }

    #[test]
    fn what_others_can_write_to_is_not_relied_on() {
        let folder = tempfile::tempdir().expect("a directory");
        set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("changed");
        let message = StateDir::take(folder.path()).expect_err("anybody could").to_string();
        assert!(message.contains("others may write to it (its mode is 0777)"), "{message}");
        assert!(message.contains("chmod 700") && message.contains("--state-dir"), "{message}");
        set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("changed");
        symlink("/etc/passwd", folder.path().join("agent.lock")).expect("linked");
        let refused = StateDir::take(folder.path()).expect_err("a link leads elsewhere");
        assert!(matches!(refused, StateDirError::Unusable { .. }), "{refused:?}");
    }

    #[test]
    fn a_second_agent_is_told_who_has_the_directory() {
        let folder = tempfile::tempdir().expect("a directory");
        let held = StateDir::take(folder.path()).expect("nobody has it");
        let message = StateDir::take(folder.path()).expect_err("it is taken").to_string();
        assert!(message.contains(&format!("(process {})", std::process::id())), "{message}");
        drop(held);
        StateDir::take(folder.path()).expect("it is free again");
    }
}
