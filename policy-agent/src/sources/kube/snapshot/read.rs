//! Reading journals: which of their lines still hold, and what those say.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead, BufReader, Seek as _, SeekFrom};
use std::time::SystemTime;

use policy_core::model::ClusterId;
use serde::Deserialize;
use serde_json::Value;

use super::folder::Folder;
use super::format::{Op, Reader, Refusal, header};
use crate::convert::{self, Reading};
use crate::sources::kube::collection::Collection;

/// How much is read at a time.
const BUFFER: usize = 128 << 10;

/// A collection as its journal has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Restored {
    /// Which collection.
    pub collection: Collection,
    /// All its objects.
    pub readings: Vec<Reading>,
    /// When the API server last said that this is so.
    pub heard: SystemTime,
}

/// Why a member is not restored.
#[derive(Debug, thiserror::Error)]
pub enum Unrestored {
    /// Nothing is kept of one of its collections.
    #[error("there is no snapshot of {0}")]
    Absent(Collection),
    /// What is kept is not believed.
    #[error("the snapshot of {collection} at {path} is not believed: {refusal}")]
    Refused {
        /// Which collection's.
        collection: Collection,
        /// Where it lies.
        path: String,
        /// Why.
        refusal: Refusal,
    },
}

/// Reads these collections of a member: all of those on which verdicts rest, or none, and of the others those that can be
/// read. That they are of this member only its caller says.
pub fn restore(folder: &Folder, cluster: &ClusterId, collections: &[Collection]) -> Result<Vec<Restored>, Unrestored> {
    let one = |collection: &Collection| {
        let refused = |refusal| Unrestored::Refused {
            collection: *collection,
            path: folder.journal(cluster, *collection).unwrap_or_default().display().to_string(),
            refusal,
        };
        let read = restore_collection(folder, cluster, *collection).map_err(refused)?;
        read.ok_or(Unrestored::Absent(*collection))
    };
    let read = collections.iter().map(|collection| (collection, one(collection)));
    read.filter(|(collection, read)| read.is_ok() || collection.decides()).map(|(_, read)| read).collect()
}

fn restore_collection(
    folder: &Folder,
    cluster: &ClusterId,
    collection: Collection,
) -> Result<Option<Restored>, Refusal> {
    let Some(mut file) = folder.open(cluster, collection)? else { return Ok(None) };
    // A clock that was set back must not make anything young for ever.
    let heard = file.metadata()?.modified()?.min(SystemTime::now());
    let header = header(cluster, collection);
    let live = Live::of(&mut file, &header)?;
    let mut readings = Vec::with_capacity(live.len());
    live.each(&mut file, &header, |text| {
        let object: Value = serde_json::from_slice(text).map_err(io::Error::from)?;
        readings.extend(convert::read_typed(cluster, collection.object_type(), &object));
        Ok(())
    })?;
    Ok(Some(Restored { collection, readings, heard }))
}

/// Which lines of a journal still hold: of each object the last, if that is none about its end. Objects are told apart by
/// 128 bits of a hash whose keys nobody knows.
#[derive(Debug)]
pub struct Live {
    last: HashMap<u128, u64>,
}

impl Live {
    /// Looks through a whole journal.
    pub fn of(file: &mut File, header: &str) -> Result<Self, Refusal> {
        Self::of_input(BufReader::with_capacity(BUFFER, rewound(file)?), header)
    }

    fn of_input(input: impl BufRead, header: &str) -> Result<Self, Refusal> {
        let mut reader = Reader::open(input, header.to_owned())?;
        let hashes = [RandomState::new(), RandomState::new()];
        let mut last = HashMap::new();
        loop {
            let Some(op) = reader.next()? else { return Ok(Self { last }) };
            let named = serde_json::from_slice(reader.text());
            let named: Named<'_> = named.map_err(|_| Refusal::Damaged(reader.number()))?;
            let key = (named.metadata.namespace, named.metadata.name);
            let [high, low] = hashes.each_ref().map(|hash| u128::from(hash.hash_one(&key)));
            let key = high << 64 | low;
            match op {
                Op::Deleted => drop(last.remove(&key)),
                Op::Applied => drop(last.insert(key, reader.number())),
            }
        }
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.last.len()
    }

    /// Hands out the texts of the objects that there are, in the order in which they were told.
    pub fn each(
        self,
        file: &mut File,
        header: &str,
        take: impl FnMut(&[u8]) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.each_of_input(BufReader::with_capacity(BUFFER, rewound(file)?), header, take)
    }

    fn each_of_input(
        self,
        input: impl BufRead,
        header: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut lines: Vec<u64> = self.last.into_values().collect();
        lines.sort_unstable();
        let mut reader = Reader::open(input, header.to_owned())?;
        let mut lines = lines.into_iter().peekable();
        while let Some(line) = lines.peek().copied() {
            reader.next()?.ok_or(Refusal::Damaged(line))?;
            if reader.number() == line {
                take(reader.text())?;
                lines.next();
            }
        }
        Ok(())
    }
}

fn rewound(file: &mut File) -> io::Result<&mut File> {
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// The name in an object.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
}
