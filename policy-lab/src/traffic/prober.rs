//! Sends numbered datagrams all the time and counts those that arrive, to see what passes or is cut meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::sniffer::Sniffer;
use crate::address::Family;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::netns::NetNs;

/// A stream of datagrams from one pod to a UDP port of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The pod that sends.
    pub from: String,
    /// The pod that is sent to.
    pub to: String,
    /// The UDP port; if nobody serves it there are no echoes, but arrivals all the same.
    pub port: u16,
    /// The address family.
    pub family: Family,
    /// Where they are sent from.
    pub source: SourcePort,
}

/// Which source ports a flow's datagrams have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourcePort {
    /// One for all: after the first, datagrams belong to a connection that is known.
    Steady,
    /// Each its own: every datagram is a new connection that is judged by policy.
    Fresh,
}

/// What became of a flow's datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowReport {
    /// The flow.
    pub flow: Flow,
    /// How many were sent.
    pub sent: u64,
    /// How many arrived at the receiver's interface.
    pub arrived: u64,
    /// How many echoes arrived back at the sender's.
    pub echoed: u64,
    /// When the first one arrived, since the prober's start.
    pub first_arrival: Option<Duration>,
    /// When the last one arrived, since the prober's start.
    pub last_arrival: Option<Duration>,
    /// The longest time between two arrivals.
    pub longest_gap: Duration,
}

/// Running flows; see [`Lab::probe_continuously`]. They end on drop.
#[derive(Debug)]
pub struct Prober {
    start: Instant,
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<()>>,
    collector: Option<JoinHandle<()>>,
}

impl Flow {
    /// Datagrams over IPv4 from one source port.
    #[must_use]
    pub fn steady(from: &str, to: &str, port: u16) -> Self {
        Self { from: from.into(), to: to.into(), port, family: Family::V4, source: SourcePort::Steady }
    }

    /// Datagrams over IPv4, each from a source port of its own.
    #[must_use]
    pub fn fresh(from: &str, to: &str, port: u16) -> Self {
        Self { source: SourcePort::Fresh, ..Self::steady(from, to, port) }
    }

    /// The same over IPv6.
    #[must_use]
    pub fn v6(mut self) -> Self {
        self.family = Family::V6;
        self
    }
}

impl FlowReport {
    /// How many did not arrive.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.arrived)
    }

    fn new(flow: Flow) -> Self {
        Self {
            flow,
            sent: 0,
            arrived: 0,
            echoed: 0,
            first_arrival: None,
            last_arrival: None,
            longest_gap: Duration::ZERO,
        }
    }

    fn arrive(&mut self, at: Duration) {
        self.arrived += 1;
        self.first_arrival.get_or_insert(at);
        let before = self.last_arrival.replace(at).unwrap_or(at);
        self.longest_gap = self.longest_gap.max(at.saturating_sub(before));
    }
}

impl Lab {
    /// Starts to send a datagram on every flow each `interval` (a millisecond is fine).
    ///
    /// Arrivals are counted at the receiving pod's interface, behind all its programs.
    pub fn probe_continuously(&self, flows: &[Flow], interval: Duration) -> Result<Prober> {
        let start = Instant::now();
        let shared = Arc::new(Shared::new(flows));
        let mut listeners: BTreeMap<&str, Listener> = BTreeMap::new();
        for (number, flow) in flows.iter().enumerate() {
            for (host, end) in [(&flow.to, End::Receiver), (&flow.from, End::Sender)] {
                let listener = match listeners.entry(host) {
                    std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                    std::collections::btree_map::Entry::Vacant(new) => new.insert(Listener {
                        sniffer: Sniffer::at(self.host_with_own_interface(host)?)?,
                        flows: BTreeMap::new(),
                    }),
                };
                listener.flows.insert(number, end);
            }
        }
        let collector = collect(listeners.into_values().collect(), Arc::clone(&shared), start)?;
        let mut prober = Prober { start, shared, senders: Vec::new(), collector: Some(collector) };
        for (number, flow) in flows.iter().enumerate() {
            let sender = Sender {
                number,
                netns: Arc::clone(self.host(&flow.from)?.netns()),
                to: SocketAddr::new(self.target(&flow.to, flow.family)?, flow.port),
                source: flow.source,
                interval,
                shared: Arc::clone(&prober.shared),
            };
            prober.senders.push(sender.start()?);
        }
        Ok(prober)
    }
}

impl Prober {
    /// The time since the start, to compare with the arrivals in reports.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// What happened so far; datagrams may be on their way.
    #[must_use]
    pub fn reports(&self) -> Vec<FlowReport> {
        self.shared.reports()
    }

    /// Ends all flows, waits for what is on its way, and returns what happened.
    #[must_use]
    pub fn stop(mut self) -> Vec<FlowReport> {
        self.end();
        self.shared.reports()
    }

    fn end(&mut self) {
        /// A datagram takes far less to cross the lab, an echo included.
        const ON_THE_WAY: Duration = Duration::from_millis(100);
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            let _ = sender.join();
        }
        if let Some(collector) = self.collector.take() {
            thread::sleep(ON_THE_WAY);
            self.shared.stop_listening.store(true, Ordering::Relaxed);
            let _ = collector.join();
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Debug)]
struct Shared {
    sent: Vec<AtomicU64>,
    received: Mutex<Vec<FlowReport>>,
    stop_sending: AtomicBool,
    stop_listening: AtomicBool,
}

impl Shared {
    fn new(flows: &[Flow]) -> Self {
        Self {
            sent: flows.iter().map(|_| AtomicU64::new(0)).collect(),
            received: Mutex::new(flows.iter().cloned().map(FlowReport::new).collect()),
            stop_sending: AtomicBool::new(false),
            stop_listening: AtomicBool::new(false),
        }
    }

    fn received(&self) -> MutexGuard<'_, Vec<FlowReport>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self) -> Vec<FlowReport> {
        let mut reports = self.received().clone();
        for (report, sent) in reports.iter_mut().zip(&self.sent) {
            report.sent = sent.load(Ordering::Relaxed);
        }
        reports
    }
}

/// Which end of a flow a listener is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Sender,
    Receiver,
}

#[derive(Debug)]
struct Listener {
    sniffer: Sniffer,
    flows: BTreeMap<usize, End>,
}

fn collect(listeners: Vec<Listener>, shared: Arc<Shared>, start: Instant) -> Result<JoinHandle<()>> {
    let work = move || {
        let mut buffer = vec![0; 65536];
        let mut seen: BTreeMap<(usize, End), Seen> = BTreeMap::new();
        loop {
            // Read before the last look at the sockets, so that this look sees everything.
            let is_last = shared.stop_listening.load(Ordering::Relaxed);
            let mut reports = shared.received();
            for Listener { sniffer, flows } in &listeners {
                while let Ok(Some(length)) = sniffer.read(&mut buffer) {
                    let Some(Datagram { flow, sequence }) = Datagram::find(&buffer[..length]) else {
                        continue;
                    };
                    let Some(end) = flows.get(&flow) else {
                        continue;
                    };
                    if !seen.entry((flow, *end)).or_default().is_new(sequence) {
                        continue;
                    }
                    match end {
                        End::Receiver => reports[flow].arrive(start.elapsed()),
                        End::Sender => reports[flow].echoed += 1,
                    }
                }
            }
            drop(reports);
            if is_last {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    };
    thread::Builder::new().name("lab-prober".into()).spawn(work).map_err(Error::io("cannot start a prober"))
}

/// The numbers that have been seen, a bit each: a datagram that comes twice counts once.
#[derive(Debug, Default)]
struct Seen(Vec<u64>);

impl Seen {
    fn is_new(&mut self, sequence: u64) -> bool {
        let word = (sequence / 64) as usize;
        let bit = 1 << (sequence % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let was_seen = self.0[word] & bit != 0;
        self.0[word] |= bit;
        !was_seen
    }
}

struct Sender {
    number: usize,
    netns: Arc<NetNs>,
    to: SocketAddr,
    source: SourcePort,
    interval: Duration,
    shared: Arc<Shared>,
}

impl Sender {
    /// Starts the thread, and waits until it could open a socket.
    fn start(self) -> Result<JoinHandle<()>> {
        let failed = format!("cannot send from {}", self.netns.name());
        let (ready, wait) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("lab-sender".into())
            .spawn(move || {
                let opened = self.netns.join().and_then(|()| self.open());
                match opened {
                    Ok(socket) => {
                        let _ = ready.send(Ok(()));
                        self.run(socket);
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            })
            .map_err(Error::io(failed.clone()))?;
        match wait.recv() {
            Ok(Ok(())) => Ok(thread),
            Ok(Err(error)) => Err(Error::io(failed)(error)),
            Err(gone) => Err(Error::io(failed)(io::Error::other(gone))),
        }
    }

    fn run(&self, first: UdpSocket) {
        /// Sockets live on for a while, so that echoes find their port open.
        const KEPT: usize = 1000;
        let mut sockets = VecDeque::from([first]);
        let mut due = Instant::now();
        let mut sequence = 0;
        while !self.shared.stop_sending.load(Ordering::Relaxed) {
            if let Some(socket) = sockets.back() {
                let datagram = Datagram { flow: self.number, sequence };
                // An error that an earlier datagram left (ICMP) is reported once and cleared.
                let message = datagram.encode();
                if socket.send(&message).is_ok() || socket.send(&message).is_ok() {
                    sequence += 1;
                    self.shared.sent[self.number].store(sequence, Ordering::Relaxed);
                }
            }
            if self.source == SourcePort::Fresh
                && let Ok(socket) = self.open()
            {
                sockets.push_back(socket);
                if sockets.len() > KEPT {
                    sockets.pop_front();
                }
            }
            // After a pause there is no burst, which would be lost somewhere else than where policies are enforced.
            due = (due + self.interval).max(Instant::now());
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    fn open(&self) -> io::Result<UdpSocket> {
        let any: SocketAddr = match self.to {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0; 16], 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(self.to)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// What a prober's datagram says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Datagram {
    flow: usize,
    sequence: u64,
}

impl Datagram {
    const MAGIC: [u8; 8] = *b"cwProber";

    fn encode(self) -> [u8; 24] {
        let mut message = [0; 24];
        message[..8].copy_from_slice(&Self::MAGIC);
        message[8..16].copy_from_slice(&(self.flow as u64).to_be_bytes());
        message[16..].copy_from_slice(&self.sequence.to_be_bytes());
        message
    }

    /// Finds a datagram in a frame that carries one.
    fn find(frame: &[u8]) -> Option<Self> {
        let at = frame.windows(8).position(|window| window == Self::MAGIC)?;
        let (flow, rest) = frame[at + 8..].split_first_chunk()?;
        let (sequence, _) = rest.split_first_chunk()?;
        Some(Self { flow: usize::try_from(u64::from_be_bytes(*flow)).ok()?, sequence: u64::from_be_bytes(*sequence) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once() {
        let mut seen = Seen::default();
        let answers: Vec<bool> = [0, 200, 64, 200, 0, 63].map(|number| seen.is_new(number)).into();
        assert_eq!(answers, [true, true, true, false, false, true]);
    }

    #[test]
    fn a_datagram_is_found_behind_any_headers_and_not_when_cut() {
        let datagram = Datagram { flow: 3, sequence: 77 };
        let frame = [&[0x45; 42][..], &datagram.encode()].concat();
        assert_eq!(Datagram::find(&frame), Some(datagram));
        assert_eq!(Datagram::find(&frame[..frame.len() - 1]), None);
    }
}
