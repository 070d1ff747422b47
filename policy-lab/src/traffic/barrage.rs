//! Sends crafted packets all the time and counts those that arrive: what must not pass, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::packet::{Between, Frame};
use super::prober::SourcePort;
use super::sniffer::{Injector, Sniffer};
use crate::address::Family;
use crate::error::{Error, Result};
use crate::lab::Lab;

/// Packets of one kind from one pod to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shot {
    /// The pod that sends.
    pub from: String,
    /// The pod that is sent to.
    pub to: String,
    /// The address family.
    pub family: Family,
    /// What is sent.
    pub kind: ShotKind,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShotKind {
    /// Datagrams to a port.
    Udp(SourcePort, u16),
    /// Segments that open a connection to a port, each another one.
    Syn(u16),
    /// Segments in mid-stream to a port, each of another connection that nobody opened.
    Stray(u16),
    /// Segments in mid-stream of one connection: from a port to a port.
    MidStream(u16, u16),
    /// Echo requests.
    Ping(SourcePort),
}

/// What became of packets of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShotReport {
    /// What was sent.
    pub shot: Shot,
    /// How many.
    pub sent: u64,
    /// How many arrived at the receiver's interface.
    pub arrived: u64,
}

impl fmt::Display for ShotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |source: &SourcePort| match source {
            SourcePort::Steady => "known",
            SourcePort::Fresh => "new",
        };
        match self {
            Self::Udp(source, port) => write!(f, "UDP/{port}, {}", of(source)),
            Self::Syn(port) => write!(f, "TCP/{port} SYN"),
            Self::Stray(port) => write!(f, "TCP/{port} in mid-stream, of nobody's connection"),
            Self::MidStream(from, to) => write!(f, "TCP {from} > {to} in mid-stream"),
            Self::Ping(source) => write!(f, "ping, {}", of(source)),
        }
    }
}

impl fmt::Display for ShotReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shot: Shot { from, to, family, kind }, sent, arrived } = self;
        write!(f, "{from} -> {to} {kind} {family}: {arrived} of {sent} arrived")
    }
}

/// A running barrage; see [`Lab::barrage`]. It ends on drop.
#[derive(Debug)]
pub struct Barrage {
    reports: Arc<Mutex<Vec<ShotReport>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lab {
    /// Starts to send one packet of each kind every `interval`.
    ///
    /// Arrivals are counted at the receiving pod's interface, behind all its programs.
    pub fn barrage(&self, shots: &[Shot], interval: Duration) -> Result<Barrage> {
        let mut guns = Vec::new();
        let mut sniffers = BTreeMap::new();
        for shot in shots {
            let (from, to) = (self.host(&shot.from)?, self.host_with_own_interface(&shot.to)?);
            let between = Between { from: from.address(shot.family)?, to: to.address(shot.family)? };
            let frame = self.frame(&shot.from, between.to)?;
            guns.push(Gun { kind: shot.kind, frame, between, injector: Injector::at(from)? });
            if !sniffers.contains_key(&shot.to) {
                sniffers.insert(shot.to.clone(), Sniffer::at(to)?);
            }
        }
        let report = |shot: &Shot| ShotReport { shot: shot.clone(), sent: 0, arrived: 0 };
        let reports = Arc::new(Mutex::new(shots.iter().map(report).collect()));
        let is_over = Arc::new(AtomicBool::new(false));
        let firing = Firing { guns, sniffers: sniffers.into_values().collect(), reports: Arc::clone(&reports) };
        let over = Arc::clone(&is_over);
        let thread = thread::Builder::new()
            .name("lab-barrage".into())
            .spawn(move || firing.run(interval, &over))
            .map_err(Error::io("cannot start a barrage"))?;
        Ok(Barrage { reports, is_over, thread: Some(thread) })
    }
}

impl Barrage {
    /// What happened so far.
    #[must_use]
    pub fn reports(&self) -> Vec<ShotReport> {
        lock(&self.reports).clone()
    }

    /// Ends it, waits for what is on its way, and returns what happened.
    #[must_use]
    pub fn stop(mut self) -> Vec<ShotReport> {
        self.end();
        self.reports()
    }

    fn end(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Barrage {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock(reports: &Mutex<Vec<ShotReport>>) -> MutexGuard<'_, Vec<ShotReport>> {
    reports.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends packets of one kind.
struct Gun {
    kind: ShotKind,
    frame: Frame,
    between: Between,
    injector: Injector,
}

impl Gun {
    /// The frame number `number`, which carries `mark`.
    fn load(&self, number: u64, mark: &[u8]) -> Result<Vec<u8>> {
        /// Below the ports that sockets take of themselves.
        const STEADY: u16 = 20_001;
        let fresh = 1024 + (number % 16_384) as u16;
        let port = |source| if source == SourcePort::Steady { STEADY } else { fresh };
        match self.kind {
            ShotKind::Udp(source, to) => self.frame.udp(self.between, (port(source), to), mark),
            ShotKind::Syn(to) => self.frame.tcp_syn(self.between, (fresh, to), mark),
            ShotKind::Stray(to) => self.frame.tcp_ack(self.between, (fresh, to), mark),
            ShotKind::MidStream(from, to) => self.frame.tcp_ack(self.between, (from, to), mark),
            ShotKind::Ping(source) => self.frame.echo_request(self.between, port(source), mark),
        }
    }
}

struct Firing {
    guns: Vec<Gun>,
    sniffers: Vec<Sniffer>,
    reports: Arc<Mutex<Vec<ShotReport>>>,
}

impl Firing {
    fn run(&self, interval: Duration, is_over: &AtomicBool) {
        /// A packet takes far less to cross the lab.
        const ON_THE_WAY: Duration = Duration::from_millis(100);
        let mut buffer = vec![0; 65536];
        let mut due = Instant::now();
        let mut number = 0;
        while !is_over.load(Ordering::Relaxed) {
            self.fire(number);
            number += 1;
            self.look(&mut buffer);
            due = (due + interval).max(Instant::now());
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        thread::sleep(ON_THE_WAY);
        self.look(&mut buffer);
    }

    /// A packet of each kind.
    fn fire(&self, number: u64) {
        for (index, gun) in self.guns.iter().enumerate() {
            let sent = gun.load(number, &encode(index)).and_then(|frame| gun.injector.send(&frame));
            lock(&self.reports)[index].sent += u64::from(sent.is_ok());
        }
    }

    /// What has arrived.
    fn look(&self, buffer: &mut [u8]) {
        for sniffer in &self.sniffers {
            while let Ok(Some(length)) = sniffer.read(buffer) {
                let Some(index) = find(&buffer[..length]) else { continue };
                if let Some(report) = lock(&self.reports).get_mut(index) {
                    report.arrived += 1;
                }
            }
        }
    }
}

const MAGIC: [u8; 8] = *b"cwBarrag";

/// What a packet of a kind carries.
fn encode(index: usize) -> [u8; 16] {
    let mut mark = [0; 16];
    mark[..8].copy_from_slice(&MAGIC);
    mark[8..].copy_from_slice(&(index as u64).to_be_bytes());
    mark
}

/// The kind of a packet in a frame.
fn find(frame: &[u8]) -> Option<usize> {
    let at = frame.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let (index, _) = frame[at + MAGIC.len()..].split_first_chunk()?;
    usize::try_from(u64::from_be_bytes(*index)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_behind_any_headers_and_not_when_cut() {
        let frame = [&[0x45; 54][..], &encode(7)].concat();
        assert_eq!(find(&frame), Some(7));
        assert_eq!(find(&frame[..frame.len() - 1]), None);
    }
}
