//! Datagrams from pods of the crowd, and what became of them.
//!
//! One thread sends and receives: what passes is there when the call that sent it returns, so each pass asks the kernel for
//! its verdict of that moment.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::PacketBuilder;
use policy_lab::{Family, Host};
use socket2::{Domain, Protocol, Socket, Type};

use super::changes::address;

const PORT: u16 = 7000;
/// Between two datagrams of a pod.
const PAUSE: Duration = Duration::from_micros(100);
/// So many in a row have the new fate before it is believed; the first of them counts.
const CONFIRMED: u32 = 8;
/// What is not settled after this never is.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happens to a pod.
#[derive(Clone, Copy, Debug)]
pub enum Tale {
    /// The API server is asked for a change.
    Begun { pod: u32, admitted: bool, at: Instant },
    /// It said that it is made.
    Answered { pod: u32, at: Instant },
    /// It told somebody who watches.
    Watched { pod: u32, admitted: bool, at: Instant },
}

/// A change that packets are decided by.
#[derive(Debug)]
pub struct Settled {
    requested: Instant,
    answered: Instant,
    watched: Instant,
    /// When the first datagram that met the new fate was sent.
    decided: Instant,
}

impl Settled {
    fn event(&self) -> Instant {
        self.answered.min(self.watched)
    }

    /// From when anybody knew of it.
    pub fn event_to_verdict(&self) -> Duration {
        self.decided.saturating_duration_since(self.event())
    }

    /// How long a bare watch took to hear of it, from when anybody knew of it.
    pub fn event_to_watch(&self) -> Duration {
        self.watched.saturating_duration_since(self.event())
    }

    /// From when it was asked for.
    pub fn request_to_verdict(&self) -> Duration {
        self.decided.saturating_duration_since(self.requested)
    }
}

/// A change that is not settled yet.
#[derive(Debug)]
struct Case {
    pod: u32,
    admitted: bool,
    requested: Instant,
    answered: Option<Instant>,
    watched: Option<Instant>,
    decided: Option<Instant>,
    /// How many datagrams in a row met the new fate.
    run: u32,
}

/// Both ends of the way.
pub struct Crowd {
    sender: Socket,
    receiver: UdpSocket,
    target: SocketAddr,
    target_v4: Ipv4Addr,
}

impl Crowd {
    /// Sends from a node whose pods they are to a pod.
    pub fn new(from: &Host, to: &Host) -> Result<Self> {
        let IpAddr::V4(target) = to.address(Family::V4)? else { bail!("{} has no IPv4 address", to.name()) };
        // Whoever makes a socket of this protocol writes the IP header itself (raw(7)), its source included.
        let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)));
        let sender = from.netns().enter(raw)?.context("make a raw socket")?;
        let receiver = to.netns().enter(|| UdpSocket::bind((target, PORT)))?.context("bind a port of the pod")?;
        receiver.set_nonblocking(true)?;
        Ok(Self { sender, receiver, target: (target, PORT).into(), target_v4: target })
    }

    /// Asks for the fate of every pod that is changed until it is the new one; ends when nothing is told any more.
    pub fn watch(&self, tales: &Receiver<Tale>) -> Result<Vec<Settled>> {
        let (mut open, mut settled): (Vec<Case>, Vec<Settled>) = Default::default();
        let mut is_over = false;
        while !(is_over && open.is_empty()) {
            loop {
                match tales.try_recv() {
                    Ok(tale) => take(&mut open, tale)?,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        is_over = true;
                        break;
                    }
                }
            }
            self.probe(&mut open)?;
            settled.extend(open.extract_if(.., |case| case.is_settled()).filter_map(Case::settled));
            if let Some(late) = open.iter().find(|case| case.requested.elapsed() > PATIENCE) {
                bail!("not settled after {PATIENCE:?}: {late:?}");
            }
            thread::sleep(PAUSE);
        }
        Ok(settled)
    }

    fn probe(&self, open: &mut [Case]) -> Result<()> {
        for case in open.iter_mut().filter(|case| case.run < CONFIRMED) {
            let sent = Instant::now();
            self.send(case.pod)?;
            let passed = self.received(case.pod)?;
            if passed == case.admitted {
                case.decided.get_or_insert(sent);
                case.run += 1;
            } else {
                (case.decided, case.run) = (None, 0);
            }
        }
        Ok(())
    }

    fn send(&self, pod: u32) -> Result<()> {
        let mark = pod.to_be_bytes();
        let packet = PacketBuilder::ipv4(address(pod).octets(), self.target_v4.octets(), 64).udp(PORT, PORT);
        let mut bytes = Vec::with_capacity(packet.size(mark.len()));
        packet.write(&mut bytes, &mark).context("build a datagram")?;
        let sent = self.sender.send_to(&bytes, &self.target.into()).context("send a datagram")?;
        ensure!(sent == bytes.len(), "only {sent} bytes of a datagram were sent");
        Ok(())
    }

    /// Whether a datagram of this pod has come; what came of others is late, and of no account.
    fn received(&self, pod: u32) -> Result<bool> {
        let mut has_come = false;
        loop {
            let mut mark = [0; 4];
            match self.receiver.recv(&mut mark) {
                Ok(_) => has_come |= u32::from_be_bytes(mark) == pod,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(has_come),
                Err(error) => return Err(error).context("receive a datagram"),
            }
        }
    }
}

fn take(open: &mut Vec<Case>, tale: Tale) -> Result<()> {
    let case = |open: &mut Vec<Case>, pod| open.iter_mut().position(|case| case.pod == pod);
    match tale {
        Tale::Begun { pod, admitted, at } => {
            ensure!(case(open, pod).is_none(), "a pod is changed again before its last change is settled");
            let requested = at;
            open.push(Case { pod, admitted, requested, answered: None, watched: None, decided: None, run: 0 });
        }
        Tale::Answered { pod, at } => {
            if let Some(place) = case(open, pod) {
                open[place].answered = Some(at);
            }
        }
        Tale::Watched { pod, admitted, at } => {
            if let Some(place) = case(open, pod).filter(|place| open[*place].admitted == admitted) {
                open[place].watched = Some(at);
            }
        }
    }
    Ok(())
}

impl Case {
    fn is_settled(&self) -> bool {
        self.run >= CONFIRMED && self.answered.is_some() && self.watched.is_some()
    }

    fn settled(self) -> Option<Settled> {
        let Self { requested, answered, watched, decided, .. } = self;
        Some(Settled { requested, answered: answered?, watched: watched?, decided: decided? })
    }
}
