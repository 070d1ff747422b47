//! TCP connections that live long and carry data both ways all the time, to see whether one is ever cut.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::stream::EstablishedTcp;
use crate::address::Family;
use crate::error::{Error, Result};
use crate::lab::Lab;

/// A connection from one pod to a TCP port of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Talk {
    /// The pod that opens it.
    pub from: String,
    /// The pod that it is opened to.
    pub to: String,
    /// The port.
    pub port: u16,
    /// The address family.
    pub family: Family,
}

/// How a connection went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TalkReport {
    /// The connection.
    pub talk: Talk,
    /// How often bytes were sent and came back.
    pub exchanges: u64,
    /// The longest time that took.
    pub longest: Duration,
    /// When bytes did not come back in time, since the start; nothing is sent any more then.
    pub cut: Option<Duration>,
}

impl fmt::Display for TalkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { talk: Talk { from, to, port, family }, exchanges, longest, cut } = self;
        write!(f, "{from} -> {to} TCP/{port} {family}: {exchanges} exchanges, the longest took {longest:.1?}")?;
        cut.map_or(Ok(()), |cut| write!(f, "; cut after {cut:.1?}"))
    }
}

/// Connections that are in use; see [`Lab::converse`]. They end on drop.
#[derive(Debug)]
pub struct Conversations {
    reports: Arc<Mutex<Vec<TalkReport>>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Lab {
    /// Opens connections, and sends bytes on each every `interval`, which come back. One on which they do not within
    /// `patience`, retransmissions included, is cut.
    pub fn converse(&self, talks: &[Talk], interval: Duration, patience: Duration) -> Result<Conversations> {
        let report = |talk: &Talk| TalkReport { talk: talk.clone(), exchanges: 0, longest: Duration::ZERO, cut: None };
        let reports = Arc::new(Mutex::new(talks.iter().map(report).collect()));
        let is_over = Arc::new(AtomicBool::new(false));
        let mut conversations = Conversations { reports, is_over, threads: Vec::new() };
        for (number, Talk { from, to, port, family }) in talks.iter().enumerate() {
            let connection = self.establish_tcp(from, to, *port, *family, patience)?;
            let speaker = Speaker {
                number,
                connection,
                interval,
                patience,
                reports: Arc::clone(&conversations.reports),
                is_over: Arc::clone(&conversations.is_over),
            };
            let thread = thread::Builder::new().name("lab-talk".into()).spawn(move || speaker.run());
            conversations.threads.push(thread.map_err(Error::io("cannot start a conversation"))?);
        }
        Ok(conversations)
    }
}

impl Conversations {
    /// How they went so far.
    #[must_use]
    pub fn reports(&self) -> Vec<TalkReport> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends them, and returns how they went.
    #[must_use]
    pub fn stop(mut self) -> Vec<TalkReport> {
        self.end();
        self.reports()
    }

    fn end(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Conversations {
    fn drop(&mut self) {
        self.end();
    }
}

struct Speaker {
    number: usize,
    connection: EstablishedTcp,
    interval: Duration,
    patience: Duration,
    reports: Arc<Mutex<Vec<TalkReport>>>,
    is_over: Arc<AtomicBool>,
}

impl Speaker {
    fn run(mut self) {
        let start = Instant::now();
        while !self.is_over.load(Ordering::Relaxed) {
            let sent = Instant::now();
            let outcome = self.connection.exchange(self.patience);
            let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
            let report = &mut reports[self.number];
            if !outcome.is_allowed() {
                report.cut = Some(start.elapsed());
                return;
            }
            report.exchanges += 1;
            report.longest = report.longest.max(sent.elapsed());
            drop(reports);
            thread::sleep(self.interval);
        }
    }
}
