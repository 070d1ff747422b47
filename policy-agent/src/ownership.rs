//! Whether only the agent's own user can change what the agent relies on.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// The permission bits by which a group or everybody may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why a file or directory cannot be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// It belongs to somebody else.
    Foreign {
        /// The owner's number.
        owner: u32,
        /// Ours.
        own: u32,
    },
    /// Others than its owner may write to it.
    Writable {
        /// Its permission bits.
        mode: u32,
    },
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { owner, own } => write!(f, "it belongs to user {owner}, and the agent is user {own}"),
            Self::Writable { mode } => write!(f, "others may write to it (its mode is {mode:04o})"),
        }
    }
}

/// The effective user of this process.
pub fn own_uid() -> io::Result<u32> {
    // The owner of a process' directory is its effective user (proc(5)).
    Ok(fs::metadata("/proc/self")?.uid())
}

/// Why what these metadata describe cannot be relied on; `None`: it can.
pub fn exposure(metadata: &Metadata) -> io::Result<Option<Exposure>> {
    Ok(judge(metadata.uid(), metadata.mode() & 0o7777, own_uid()?))
}

fn judge(owner: u32, mode: u32, own: u32) -> Option<Exposure> {
    if owner != own {
        Some(Exposure::Foreign { owner, own })
    } else if mode & WRITABLE_BY_OTHERS != 0 {
        Some(Exposure::Writable { mode })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_alone_to_write_is_relied_on() {
        assert_eq!(judge(7, 0o700, 7), None);
        assert_eq!(judge(7, 0o755, 7), None);
        assert_eq!(judge(7, 0o1777, 7), Some(Exposure::Writable { mode: 0o1777 }));
        assert_eq!(judge(7, 0o770, 7), Some(Exposure::Writable { mode: 0o770 }));
        assert_eq!(judge(0, 0o700, 7), Some(Exposure::Foreign { owner: 0, own: 7 }));
    }
}
