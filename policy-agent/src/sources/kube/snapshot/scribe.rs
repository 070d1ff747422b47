//! The thread that writes all journals, so that no event ever waits for a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use policy_core::model::ClusterId;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::folder::Folder;
use super::format::Op;
use super::write::{Writer, push_line};
use crate::sources::kube::collection::Collection;

/// How much may wait to be written. A disk that is slower for long is as good as one that is full.
const MAX_QUEUED: usize = 32 << 20;
/// How much of a list is handed over at a time.
const CHUNK: usize = 64 << 10;
/// How long after a failure a list is asked for, with which a journal can begin anew.
const RETRY: Duration = Duration::from_secs(300);

/// Why journals of a member cannot be written, by collection.
pub type Health = BTreeMap<Collection, String>;

/// Has the journals of all members written.
#[derive(Clone, Debug)]
pub struct Scribe {
    orders: mpsc::Sender<Order>,
    /// How many bytes of lines wait.
    queued: Arc<AtomicUsize>,
    folder: Folder,
    max_queued: usize,
    retry: Duration,
}

#[derive(Debug)]
enum Order {
    /// A member is followed: these are its collections.
    Follow(ClusterId, &'static [Collection], watch::Sender<Health>),
    /// Only these members are followed.
    Keep(BTreeSet<ClusterId>),
    /// To a journal.
    Write(ClusterId, Collection, Entry),
    /// Says when it is done with all before.
    #[cfg(test)]
    Tell(mpsc::Sender<()>),
}

/// What a journal is told.
#[derive(Debug)]
enum Entry {
    Begin,
    Listed(Vec<u8>),
    Complete,
    Append(Vec<u8>),
    Heard(SystemTime),
    /// Nothing more before the next list, for this reason.
    GiveUp(String),
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Self::Listed(lines) | Self::Append(lines) => lines.len(),
            Self::Begin | Self::Complete | Self::Heard(_) | Self::GiveUp(_) => 0,
        }
    }
}

impl Scribe {
    /// Begins to write to the folder at `root`, which is made when it is needed.
    pub fn start(root: PathBuf) -> io::Result<Self> {
        Self::with(Folder::at(root), MAX_QUEUED, RETRY)
    }

    /// Begins to write to a folder, with so many bytes waiting at most, and a list asked for so long after a failure.
    pub fn with(folder: Folder, max_queued: usize, retry: Duration) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let desk = Desk { folder: folder.clone(), queued: Arc::clone(&queued), journals: BTreeMap::new() };
        std::thread::Builder::new().name("snapshots".to_owned()).spawn(move || desk.work(&received))?;
        Ok(Self { orders, queued, folder, max_queued, retry })
    }

    /// Where the journals lie.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Journals for a member's collections, and what keeps them from being written.
    pub fn follow(
        &self,
        cluster: &ClusterId,
        collections: &'static [Collection],
    ) -> (Vec<Journal>, watch::Receiver<Health>) {
        let (health, healthy) = watch::channel(Health::new());
        let journal = |collection: &Collection| Journal {
            scribe: Some(self.clone()),
            cluster: cluster.clone(),
            collection: *collection,
            health: health.clone(),
            chunk: Vec::new(),
            is_behind: false,
            list_due: None,
        };
        let journals = collections.iter().map(journal).collect();
        self.order(Order::Follow(cluster.clone(), collections, health));
        (journals, healthy)
    }

    /// Removes what is kept of members that are followed no more.
    pub fn keep(&self, members: BTreeSet<ClusterId>) {
        self.order(Order::Keep(members));
    }

    /// Waits until all is written that was ordered before.
    #[cfg(test)]
    pub fn settle(&self) {
        let (done, told) = mpsc::channel();
        self.order(Order::Tell(done));
        told.recv().expect("it works as long as somebody orders");
    }

    fn order(&self, order: Order) {
        // It works as long as somebody orders.
        drop(self.orders.send(order));
    }
}

/// A collection's journal, as its follower has it.
#[derive(Debug)]
pub struct Journal {
    /// `None`: nothing is kept.
    scribe: Option<Scribe>,
    cluster: ClusterId,
    collection: Collection,
    health: watch::Sender<Health>,
    chunk: Vec<u8>,
    /// Whether something could not be handed over, so that nothing is before the next list.
    is_behind: bool,
    /// When a list is asked for, since the journal cannot go on without.
    list_due: Option<Instant>,
}

impl Journal {
    /// One that keeps nothing.
    pub fn none(cluster: ClusterId, collection: Collection) -> Self {
        let health = watch::Sender::new(Health::new());
        Self { scribe: None, cluster, collection, health, chunk: Vec::new(), is_behind: false, list_due: None }
    }

    /// A list begins; what was written of one that did not end is gone.
    pub fn begin(&mut self) {
        self.is_behind = false;
        self.list_due = None;
        self.chunk.clear();
        self.write(Entry::Begin);
    }

    /// An object of the list.
    pub fn listed(&mut self, object: &Value) {
        if self.scribe.is_some() {
            add_line(&mut self.chunk, Op::Applied, object);
            if self.chunk.len() >= CHUNK {
                self.flush();
            }
        }
    }

    /// The list is complete.
    pub fn complete(&mut self) {
        self.flush();
        self.write(Entry::Complete);
    }

    /// An object exists with this content.
    pub fn applied(&mut self, object: &Value) {
        self.append(Op::Applied, object);
    }

    /// An object is gone.
    pub fn deleted(&mut self, object: &Value) {
        let of = |name: &str| object.get("metadata").and_then(|metadata| metadata.get(name));
        self.append(Op::Deleted, &json!({"metadata": {"name": of("name"), "namespace": of("namespace")}}));
    }

    /// The server has said that all is as it was told.
    pub fn heard(&mut self) {
        self.write(Entry::Heard(SystemTime::now()));
    }

    /// Whether everything should be listed anew, so that the journal, which could not be written, has a beginning.
    pub fn wants_list(&mut self) -> bool {
        let Some(scribe) = &self.scribe else { return false };
        if !self.health.borrow().contains_key(&self.collection) {
            self.list_due = None;
            return false;
        }
        *self.list_due.get_or_insert(Instant::now() + scribe.retry) <= Instant::now()
    }

    fn append(&mut self, op: Op, object: &Value) {
        if self.scribe.is_some() {
            let mut line = Vec::with_capacity(1024);
            add_line(&mut line, op, object);
            self.write(Entry::Append(line));
        }
    }

    fn flush(&mut self) {
        if !self.chunk.is_empty() {
            let chunk = std::mem::take(&mut self.chunk);
            self.write(Entry::Listed(chunk));
        }
    }

    fn write(&mut self, entry: Entry) {
        let Some(scribe) = &self.scribe else { return };
        if self.is_behind {
            return;
        }
        let bytes = entry.bytes();
        let entry = if scribe.queued.fetch_add(bytes, Ordering::Relaxed) + bytes <= scribe.max_queued {
            entry
        } else {
            scribe.queued.fetch_sub(bytes, Ordering::Relaxed);
            self.is_behind = true;
            let why = "the disk does not keep up with what changes".to_owned();
            // Where the disk hangs, this is all that will be said.
            self.health.send_modify(|health| drop(health.insert(self.collection, why.clone())));
            Entry::GiveUp(why)
        };
        scribe.order(Order::Write(self.cluster.clone(), self.collection, entry));
    }
}

fn add_line(lines: &mut Vec<u8>, op: Op, object: &Value) {
    // Memory takes everything, and every value is JSON.
    drop(push_line(lines, op, |line| serde_json::to_writer(line, object).map_err(io::Error::from)));
}

/// Where the thread works.
struct Desk {
    folder: Folder,
    queued: Arc<AtomicUsize>,
    journals: BTreeMap<(ClusterId, Collection), (Writer, watch::Sender<Health>)>,
}

impl Desk {
    fn work(mut self, orders: &mpsc::Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            match order {
                Order::Follow(cluster, collections, health) => {
                    self.folder.keep_collections(&cluster, collections);
                    self.journals.retain(|(of, _), _| *of != cluster);
                    for collection in collections {
                        let writer = Writer::new(cluster.clone(), *collection, self.folder.clone());
                        self.journals.insert((cluster.clone(), *collection), (writer, health.clone()));
                    }
                }
                Order::Keep(members) => {
                    self.journals.retain(|(of, _), _| members.contains(of));
                    if let Err(error) = self.folder.keep_members(&members) {
                        tracing::warn!("snapshots of former members cannot be removed: {error}");
                    }
                }
                Order::Write(cluster, collection, entry) => {
                    let bytes = entry.bytes();
                    if let Some((writer, health)) = self.journals.get_mut(&(cluster, collection)) {
                        write(writer, collection, entry, health);
                    }
                    self.queued.fetch_sub(bytes, Ordering::Relaxed);
                }
                #[cfg(test)]
                // Whoever asked may have gone.
                Order::Tell(done) => drop(done.send(())),
            }
        }
    }
}

fn write(writer: &mut Writer, collection: Collection, entry: Entry, health: &watch::Sender<Health>) {
    let is_mended = matches!(entry, Entry::Complete);
    let written = match entry {
        Entry::Begin => writer.begin(),
        Entry::Listed(lines) => writer.listed(&lines),
        Entry::Complete => writer.complete(),
        Entry::Append(lines) => writer.append(&lines).and_then(|()| writer.compact_if_long()),
        Entry::Heard(at) => writer.heard(at),
        Entry::GiveUp(why) => Err(io::Error::other(why)),
    };
    match written {
        Ok(()) if is_mended && writer.is_following() => {
            health.send_if_modified(|health| health.remove(&collection).is_some());
        }
        Ok(()) => {}
        Err(error) => {
            writer.give_up();
            health.send_modify(|health| drop(health.insert(collection, error.to_string())));
        }
    }
}
