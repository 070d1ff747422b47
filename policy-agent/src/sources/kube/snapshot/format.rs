//! The form of a journal: a line that says whose it is, and then a line for each thing that happened.
//!
//! ```text
//! crosswall.dev/snapshot/v1 CLUSTER COLLECTION KEPT
//! 8F0E2A11 +{"metadata":{"name":"web",…},…}      an object of the list
//! 03B4C7D2 =1                                    the end of the list: so many there were
//! 5C11D09E +{"metadata":{"name":"db",…},…}       later, an object exists with this content
//! 77A0E3F4 -{"metadata":{"name":"web",…}}        later, an object is gone
//! ```
//!
//! KEPT is a checksum of what is kept of objects: what an agent wrote who kept less says too little. Each line's checksum
//! (CRC-32C) goes on from the line before it, so no line can be lost, repeated or come from another journal unseen.

use std::fmt;
use std::io::{self, BufRead, Read as _};

use policy_core::model::ClusterId;

use crate::sources::kube::collection::Collection;

/// What the first line of every version begins with.
const MAGIC: &str = "crosswall.dev/snapshot/";
/// The version of the form.
const VERSION: &str = "v1";
/// The longest line that is read. An API server stores no object of more than a few MiB.
const MAX_LINE: u64 = 16 << 20;
/// The checksum in hexadecimal digits, and the space behind it.
const CHECKSUM: usize = 9;

/// The first line of a journal, without its end.
pub fn header(cluster: &ClusterId, collection: Collection) -> String {
    let kept = crc32c::crc32c(format!("{:?}", collection.keep()).as_bytes());
    format!("{MAGIC}{VERSION} {cluster} {collection} {kept:08X}")
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// It exists with this content.
    Applied,
    /// It is gone.
    Deleted,
}

impl Op {
    /// Its sign.
    pub fn sign(self) -> u8 {
        match self {
            Self::Applied => b'+',
            Self::Deleted => b'-',
        }
    }
}

/// The sign of the end of a list.
pub const END: u8 = b'=';

/// Puts checksums before lines.
#[derive(Clone, Debug)]
pub struct Chain(u32);

impl Chain {
    /// That of a journal which begins with this line.
    pub fn after(header: &str) -> Self {
        Self(crc32c::crc32c(header.as_bytes()))
    }

    /// Writes lines of a sign and a text each, all with their ends, with their checksums; returns how many they are.
    pub fn frame(&mut self, lines: &[u8], framed: &mut Vec<u8>) -> u64 {
        let mut count = 0;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.0 = crc32c::crc32c_append(self.0, line);
            framed.extend_from_slice(format!("{:08X} ", self.0).as_bytes());
            framed.extend_from_slice(line);
            count += 1;
        }
        count
    }

    /// Whether this is the next line, its end included.
    fn accepts(&mut self, line: &[u8]) -> bool {
        let Some((checksum, content)) = line.split_at_checked(CHECKSUM) else { return false };
        let next = crc32c::crc32c_append(self.0, content);
        let is_next = checksum == format!("{next:08X} ").as_bytes();
        if is_next {
            self.0 = next;
        }
        is_next
    }
}

/// Why a journal is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Somebody else could have written it.
    #[error("{0}")]
    Exposed(crate::ownership::Exposure),
    /// It has more bytes than a journal may have.
    #[error("it has {bytes} bytes, and more than {limit} are not read")]
    TooLarge {
        /// How many.
        bytes: u64,
        /// How many it may have.
        limit: u64,
    },
    /// It begins with another line than it should.
    #[error("{}", Foreign(found, wanted))]
    Foreign {
        /// Its first line.
        found: String,
        /// What that should be.
        wanted: String,
    },
    /// A line is not as it was written.
    #[error("its line {0} is not as it was written")]
    Damaged(u64),
    /// The list in it has no end.
    #[error("its list has no end")]
    Incomplete,
}

struct Foreign<'a>(&'a str, &'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(found, wanted) = self;
        if found.starts_with(MAGIC) {
            write!(f, "it is another one, or of another version: it begins with {found:?}, not with {wanted:?}")
        } else {
            f.write_str("it is no snapshot")
        }
    }
}

/// Reads a journal line by line.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    chain: Chain,
    line: Vec<u8>,
    number: u64,
    /// How many objects the list has; `None`: its end has come.
    listed: Option<u64>,
}

impl<R: BufRead> Reader<R> {
    /// Begins to read; `wanted` is the first line that it must have.
    pub fn open(mut input: R, wanted: String) -> Result<Self, Refusal> {
        let mut line = Vec::new();
        input.by_ref().take(4096).read_until(b'\n', &mut line)?;
        let found = String::from_utf8_lossy(&line);
        if found.strip_suffix('\n') != Some(&wanted) {
            return Err(Refusal::Foreign { found: found.trim_end().to_owned(), wanted });
        }
        Ok(Self { input, chain: Chain::after(&wanted), line, number: 1, listed: Some(0) })
    }

    /// Goes on to the next change. `None`: there is no more, or the last line was cut off.
    pub fn next(&mut self) -> Result<Option<Op>, Refusal> {
        loop {
            self.line.clear();
            self.number += 1;
            self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.line)?;
            if !self.line.ends_with(b"\n") && self.input.fill_buf()?.is_empty() {
                // Only the last line can have been cut off, and then it has no end; before it there was a list.
                return self.listed.map_or(Ok(None), |_| Err(Refusal::Incomplete));
            }
            if !(self.line.ends_with(b"\n") && self.chain.accepts(&self.line)) {
                return Err(Refusal::Damaged(self.number));
            }
            let op = match (self.line.get(CHECKSUM).copied(), &mut self.listed) {
                (Some(b'+'), Some(count)) => {
                    *count += 1;
                    Op::Applied
                }
                (Some(END), Some(count)) if text_of(&self.line) == count.to_string().as_bytes() => {
                    self.listed = None;
                    continue;
                }
                (Some(b'+'), None) => Op::Applied,
                (Some(b'-'), None) => Op::Deleted,
                _ => return Err(Refusal::Damaged(self.number)),
            };
            return Ok(Some(op));
        }
    }

    /// The text of the object of the last change.
    pub fn text(&self) -> &[u8] {
        text_of(&self.line)
    }

    /// Which line was read last.
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// What stands between the sign and the end of a line that was accepted.
fn text_of(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").and_then(|line| line.get(CHECKSUM + 1..)).unwrap_or_default()
}
