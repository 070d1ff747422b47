//! Runs any number of probes at once: sockets are made inside their namespaces and then driven from one thread.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};

use super::probe::{Denial, Outcome, Protocol, Timing};
use crate::error::{Error, Result};
use crate::netns::NetNs;

/// A probe whose names have been looked up.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) netns: Arc<NetNs>,
    pub(crate) protocol: Protocol,
    /// Where to; the port is 0 for ICMP.
    pub(crate) to: SocketAddr,
}

/// Runs all jobs at once; the answers stand in the jobs' order.
pub(crate) fn run(jobs: &[Job], timing: Timing) -> Result<Vec<Outcome>> {
    let mut round = Round::new(jobs)?;
    let start = Instant::now();
    let attempts = timing.attempts.max(1);
    for attempt in 0..attempts {
        round.open()?;
        let until = start + timing.timeout * (attempt + 1) / attempts;
        if round.drive(until)? == Progress::Done {
            break;
        }
    }
    Ok(round.finish())
}

struct Round<'a> {
    jobs: &'a [Job],
    outcomes: Vec<Option<Outcome>>,
    poll: Poll,
    attempts: Vec<Attempt>,
    undecided: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Done,
    TimeUp,
}

impl<'a> Round<'a> {
    fn new(jobs: &'a [Job]) -> Result<Self> {
        Ok(Self {
            jobs,
            outcomes: vec![None; jobs.len()],
            poll: Poll::new().map_err(Error::io("cannot make a poll"))?,
            attempts: Vec::new(),
            undecided: jobs.len(),
        })
    }

    /// Opens one more attempt for every job that is undecided.
    fn open(&mut self) -> Result<()> {
        for (job, made) in open_sockets(self.jobs, &self.outcomes)? {
            match made {
                Err(error) => self.decide(job, Outcome::Denied(Denial::from(&error))),
                Ok(socket) => {
                    let token = Token(self.attempts.len());
                    self.poll
                        .registry()
                        .register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE | Interest::WRITABLE)
                        .map_err(Error::io("cannot watch a socket"))?;
                    let nonce = (token.0 as u64).to_be_bytes();
                    self.attempts.push(Attempt::new(job, socket, nonce, &self.jobs[job]));
                }
            }
        }
        Ok(())
    }

    fn drive(&mut self, until: Instant) -> Result<Progress> {
        let mut events = Events::with_capacity(1024);
        while self.undecided > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Ok(Progress::TimeUp);
            }
            match self.poll.poll(&mut events, Some(left)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(Error::io("cannot wait for sockets"))?,
            }
            for event in &events {
                let attempt = &mut self.attempts[event.token().0];
                if let Some(outcome) = attempt.advance() {
                    let job = attempt.job;
                    self.decide(job, outcome);
                }
            }
        }
        Ok(Progress::Done)
    }

    /// The first answer counts: a later attempt's failure does not take back a success.
    fn decide(&mut self, job: usize, outcome: Outcome) {
        if self.outcomes[job].is_none() {
            self.outcomes[job] = Some(outcome);
            self.undecided -= 1;
        }
    }

    fn finish(self) -> Vec<Outcome> {
        let mut opened: Vec<bool> = vec![false; self.jobs.len()];
        for attempt in &self.attempts {
            opened[attempt.job] |=
                attempt.state == State::AwaitingEcho && self.jobs[attempt.job].protocol == Protocol::Tcp;
        }
        self.outcomes
            .into_iter()
            .zip(opened)
            .map(|(outcome, opened)| {
                outcome.unwrap_or(Outcome::Denied(if opened { Denial::NoEcho } else { Denial::Timeout }))
            })
            .collect()
    }
}

/// A socket for a job, or why there is none.
type Opened = (usize, io::Result<Socket>);

/// Makes and connects the sockets of all undecided jobs, namespace by namespace, on a
/// thread that may move about.
fn open_sockets(jobs: &[Job], outcomes: &[Option<Outcome>]) -> Result<Vec<Opened>> {
    let mut by_namespace: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, job) in jobs.iter().enumerate() {
        if outcomes[index].is_none() {
            by_namespace.entry(job.netns.name()).or_default().push(index);
        }
    }
    let work = || {
        let mut opened = Vec::new();
        for indices in by_namespace.values() {
            let netns = &jobs[indices[0]].netns;
            netns.join().map_err(Error::io(format!("cannot enter {}", netns.name())))?;
            opened.extend(indices.iter().map(|index| (*index, connect(&jobs[*index]))));
        }
        Ok(opened)
    };
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(opened) => opened,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn connect(job: &Job) -> io::Result<Socket> {
    let domain = Domain::for_address(job.to);
    let (kind, protocol) = match (job.protocol, job.to) {
        (Protocol::Tcp, _) => (Type::STREAM, None),
        (Protocol::Udp, _) => (Type::DGRAM, None),
        (Protocol::Icmp, SocketAddr::V4(_)) => (Type::DGRAM, Some(SocketProtocol::ICMPV4)),
        (Protocol::Icmp, SocketAddr::V6(_)) => (Type::DGRAM, Some(SocketProtocol::ICMPV6)),
    };
    let socket = Socket::new(domain, kind.nonblocking(), protocol)?;
    match socket.connect(&job.to.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        other => other.map(|()| socket),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    AwaitingEcho,
    Over,
}

struct Attempt {
    job: usize,
    socket: Socket,
    state: State,
    /// What is sent, and for TCP and UDP comes back as it is.
    message: Vec<u8>,
    /// The end of it by which the answer is known.
    nonce: [u8; 8],
    received: Vec<u8>,
    protocol: Protocol,
}

impl Attempt {
    fn new(job: usize, socket: Socket, nonce: [u8; 8], spec: &Job) -> Self {
        let header = match (spec.protocol, spec.to.ip()) {
            (Protocol::Tcp | Protocol::Udp, _) => b"crosswall lab".to_vec(),
            (Protocol::Icmp, to) => echo_request(to),
        };
        Self {
            job,
            socket,
            state: State::Connecting,
            message: [header.as_slice(), &nonce].concat(),
            nonce,
            received: Vec::new(),
            protocol: spec.protocol,
        }
    }

    /// Does what can be done without waiting.
    fn advance(&mut self) -> Option<Outcome> {
        match self.step() {
            Ok(true) => {
                self.state = State::Over;
                Some(Outcome::Allowed)
            }
            Ok(false) => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                self.state = State::Over;
                Some(Outcome::Denied(Denial::from(&error)))
            }
        }
    }

    fn step(&mut self) -> io::Result<bool> {
        if self.state == State::Over {
            return Ok(false);
        }
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        if self.state == State::Connecting {
            if self.protocol == Protocol::Tcp && self.socket.peer_addr().is_err() {
                return Ok(false);
            }
            self.socket.send(&self.message)?;
            self.state = State::AwaitingEcho;
        }
        self.receive()
    }

    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 2048];
        loop {
            let read = (&self.socket).read(&mut buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            self.received.extend_from_slice(&buffer[..read]);
            if self.received.ends_with(&self.nonce) {
                return Ok(true);
            }
        }
    }
}

/// The header of an echo request; the kernel's ICMP sockets fill in identifier and
/// checksum (net/ipv4/ping.c).
fn echo_request(to: IpAddr) -> Vec<u8> {
    let echo = IcmpEchoHeader { id: 0, seq: 1 };
    match to {
        IpAddr::V4(_) => Icmpv4Header::new(Icmpv4Type::EchoRequest(echo)).to_bytes().to_vec(),
        IpAddr::V6(_) => Icmpv6Header::new(Icmpv6Type::EchoRequest(echo)).to_bytes().to_vec(),
    }
}
