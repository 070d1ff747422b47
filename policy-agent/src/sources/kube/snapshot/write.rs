//! Writing one journal: a list into a new file, which takes the old one's place when the list is complete, and then what
//! happens, line by line.

use std::fs::File;
use std::io::{self, Write};
use std::time::SystemTime;

use policy_core::model::ClusterId;

use super::folder::Folder;
use super::format::{Chain, END, Op, header};
use super::read::Live;
use crate::sources::kube::collection::Collection;

/// A journal with fewer lines than this beside its objects is not worth writing anew.
const FEW: u64 = 4096;
/// How much is written at a time when a journal is written anew.
const BUFFER: usize = 128 << 10;

/// A journal in the hands of its writer.
#[derive(Debug)]
pub struct Writer {
    cluster: ClusterId,
    collection: Collection,
    folder: Folder,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Nothing is written before the next list.
    Idle,
    /// A list is written.
    Listing(Lines<File>),
    /// What happens is written.
    Following {
        lines: Lines<File>,
        /// How many lines it had when it was last written anew.
        at_first: u64,
    },
}

impl Writer {
    /// The writer of a collection's journal.
    pub fn new(cluster: ClusterId, collection: Collection, folder: Folder) -> Self {
        Self { cluster, collection, folder, stage: Stage::Idle }
    }

    /// Whether it takes what happens.
    pub fn is_following(&self) -> bool {
        matches!(self.stage, Stage::Following { .. })
    }

    /// A list begins.
    pub fn begin(&mut self) -> io::Result<()> {
        self.stage = Stage::Idle;
        self.stage = Stage::Listing(self.new_file()?);
        Ok(())
    }

    /// Objects of the list, a line each.
    pub fn listed(&mut self, lines: &[u8]) -> io::Result<()> {
        match &mut self.stage {
            Stage::Listing(file) => file.write(lines),
            Stage::Idle | Stage::Following { .. } => Ok(()),
        }
    }

    /// The list is complete.
    pub fn complete(&mut self) -> io::Result<()> {
        if let Stage::Listing(mut lines) = std::mem::replace(&mut self.stage, Stage::Idle) {
            lines.end()?;
            self.put_in_place(lines)?;
        }
        Ok(())
    }

    /// What happened, a line each.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match &mut self.stage {
            Stage::Following { lines: file, .. } => file.write(lines),
            Stage::Idle | Stage::Listing(_) => Ok(()),
        }
    }

    /// The API server has said that all is as it is told.
    pub fn heard(&mut self, at: SystemTime) -> io::Result<()> {
        match &self.stage {
            Stage::Following { lines, .. } => lines.out.set_modified(at),
            Stage::Idle | Stage::Listing(_) => Ok(()),
        }
    }

    /// Nothing more is written before the next list: what was written stays what was once true.
    pub fn give_up(&mut self) {
        self.stage = Stage::Idle;
        self.folder.give_up(&self.cluster, self.collection);
    }

    /// Writes the journal anew where it has become too long for what it says.
    pub fn compact_if_long(&mut self) -> io::Result<()> {
        match &mut self.stage {
            Stage::Following { lines, at_first } if lines.count > *at_first + FEW.max(*at_first) => {
                // Whether it works or not, the next try is as far away.
                *at_first = lines.count;
                self.compact()
            }
            _ => Ok(()),
        }
    }

    /// Writes the journal anew from itself: what no longer holds is left out.
    pub fn compact(&mut self) -> io::Result<()> {
        let Some(mut old) = self.folder.open(&self.cluster, self.collection).map_err(io::Error::other)? else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        let heard = old.metadata()?.modified()?;
        let header = header(&self.cluster, self.collection);
        let live = Live::of(&mut old, &header).map_err(io::Error::other)?;
        let mut new = self.new_file()?;
        let mut lines = Vec::new();
        live.each(&mut old, &header, |text| {
            push_line(&mut lines, Op::Applied, |line| line.write_all(text))?;
            if lines.len() >= BUFFER {
                new.write(&lines)?;
                lines.clear();
            }
            Ok(())
        })
        .map_err(io::Error::other)?;
        new.write(&lines)?;
        new.end()?;
        // It says nothing that was not known before.
        new.out.set_modified(heard)?;
        self.put_in_place(new)
    }

    fn new_file(&self) -> io::Result<Lines<File>> {
        let file = self.folder.create(&self.cluster, self.collection)?;
        Lines::begin(file, &header(&self.cluster, self.collection), self.folder.max_bytes)
    }

    fn put_in_place(&mut self, lines: Lines<File>) -> io::Result<()> {
        self.folder.replace(&self.cluster, self.collection, &lines.out)?;
        self.stage = Stage::Following { at_first: lines.count, lines };
        Ok(())
    }
}

/// Adds a line about an object to others.
pub fn push_line(lines: &mut Vec<u8>, op: Op, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    lines.push(op.sign());
    write(lines)?;
    lines.push(b'\n');
    Ok(())
}

/// The lines of a journal, as they are written.
#[derive(Debug)]
struct Lines<W> {
    out: W,
    chain: Chain,
    framed: Vec<u8>,
    count: u64,
    bytes: u64,
    limit: u64,
}

impl<W: Write> Lines<W> {
    fn begin(mut out: W, header: &str, limit: u64) -> io::Result<Self> {
        let first = format!("{header}\n");
        out.write_all(first.as_bytes())?;
        let bytes = first.len() as u64;
        Ok(Self { out, chain: Chain::after(header), framed: Vec::new(), count: 0, bytes, limit })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.framed.clear();
        let count = self.chain.frame(lines, &mut self.framed);
        self.bytes += self.framed.len() as u64;
        if self.bytes > self.limit {
            return Err(io::Error::other(format!("more than {} bytes would not be read again", self.limit)));
        }
        self.out.write_all(&self.framed)?;
        self.count += count;
        Ok(())
    }

    /// The end of the list, which all lines until now are.
    fn end(&mut self) -> io::Result<()> {
        let count = self.count;
        self.write(format!("{}{count}\n", char::from(END)).as_bytes())?;
        // What comes now comes in small pieces.
        self.framed = Vec::new();
        Ok(())
    }
}
