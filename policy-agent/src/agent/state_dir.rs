//! The state directory: one agent at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The state directory, held for as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    _lock: File,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It cannot be made, or not be written to.
    #[error("cannot use the state directory {}", .path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
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
    /// Takes the directory, made if need be.
    pub fn take(path: &Path) -> Result<Self, StateDirError> {
        let unusable = |source| StateDirError::Unusable { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(unusable)?;
        let file = path.join("agent.lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file);
        let mut lock = open.map_err(unusable)?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
