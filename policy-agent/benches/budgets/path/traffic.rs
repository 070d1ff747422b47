//! Traffic over a road, and what it costs.
//!
//! One thread, pinned to one core, has the sockets of both ends and never waits for the other one: every packet crosses
//! all three namespaces inside the system call that sends it. So no wake-up, no other core and no idle state of one is in
//! the figures, which leaves the path itself. Each figure of a visit is a median of many short pieces of work, most of
//! which nothing interrupts.

use std::io::{ErrorKind, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use policy_lab::{Family, NetNs};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::road::Road;

/// The first port that the pod serves, and how many there are: each round takes the next one, so that no connection comes
/// back before its traces are gone.
pub const FIRST_PORT: u16 = 8000;
/// The last port that the pod serves.
pub const LAST_PORT: u16 = 8099;
/// A port that every filter keeps closed.
pub const CLOSED_PORT: u16 = 7999;

/// How many connections are opened in a visit, and how many of them before they are accepted and closed.
const CONNECTIONS: usize = 1024;
const OPEN_AT_ONCE: usize = 16;
/// How many datagrams are sent in a visit, and how many of them before they are received.
const DATAGRAMS: usize = 8192;
const UNDER_WAY: usize = 32;
/// What a datagram carries, as the answer to a small question.
const DATAGRAM: [u8; 64] = [0; 64];
/// How much a stream carries before it is measured, how often it then does how much, and how much of that at once.
const WARM_UP_BYTES: usize = 8 << 20;
const PIECES: usize = 96;
const PIECE_BYTES: usize = 1 << 20;
const CHUNK: usize = 128 << 10;
/// How many echoes are asked for in a visit.
const ECHOES: usize = 1024;
/// What is not there after this does not come.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a filter drops is not waited for longer.
const SHORT: Duration = Duration::from_millis(100);

/// What a visit to a road measured.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// How long connect(2) takes, half of the times.
    pub connect_p50: Duration,
    /// The same, 99 of 100 times.
    pub connect_p99: Duration,
    /// Connections opened, accepted and closed in a second, from the making of their sockets on.
    pub connections_per_s: f64,
    /// What a datagram takes from the call that sends it to the end of the one that receives it, in nanoseconds.
    pub datagram_ns: f64,
    /// What a stream carries in a second, in gigabytes.
    pub stream_gb_per_s: f64,
    /// How long an echo takes, half of the times.
    pub echo_p50: Duration,
}

/// Measures a road once; the round chooses the port.
pub fn visit(road: &Road, round: usize) -> Result<Visit> {
    let ports = usize::from(LAST_PORT - FIRST_PORT + 1);
    let address = SocketAddr::new(road.pod.address(Family::V4)?, FIRST_PORT + (round % ports) as u16);
    let (client, pod) = (road.client.netns(), road.pod.netns());
    let listener = inside(pod, || listen(address))?;
    let receiver = inside(pod, || receive_at(address))?;
    let (mut connects, mut batches) = inside(client, || connect_many(&listener, address)).context("connections")?;
    let mut bursts = inside(client, || datagrams(&receiver, address)).context("datagrams")?;
    let mut pieces = inside(client, || stream(&listener, address)).context("a stream")?;
    let peer = road.client.address(Family::V4)?;
    let mut echoes = inside(pod, || echoes(peer)).context("echoes")?;
    Ok(Visit {
        connect_p50: percentile(&mut connects, 50),
        connect_p99: percentile(&mut connects, 99),
        connections_per_s: OPEN_AT_ONCE as f64 / percentile(&mut batches, 50).as_secs_f64(),
        datagram_ns: percentile(&mut bursts, 50).as_nanos() as f64 / UNDER_WAY as f64,
        stream_gb_per_s: PIECE_BYTES as f64 / percentile(&mut pieces, 50).as_secs_f64() / 1e9,
        echo_p50: percentile(&mut echoes, 50),
    })
}

/// Whether a datagram gets to a port that filters keep closed.
pub fn is_open(road: &Road) -> Result<bool> {
    let address = SocketAddr::new(road.pod.address(Family::V4)?, CLOSED_PORT);
    let receiver = inside(road.pod.netns(), || receive_at(address))?;
    receiver.set_read_timeout(Some(SHORT))?;
    inside(road.client.netns(), || {
        socket(Type::DGRAM, None)?.send_to(&DATAGRAM, &address.into()).context("send a datagram")
    })?;
    Ok((&receiver).read(&mut [0; DATAGRAM.len()]).is_ok())
}

/// Runs `work` inside a namespace, on the last of the cores that this process may use.
fn inside<T: Send>(netns: &NetNs, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    netns.enter(|| {
        let this_thread = Pid::from_raw(0);
        let usable = sched_getaffinity(this_thread).context("ask for the cores")?;
        let last = (0..CpuSet::count()).rev().find(|core| usable.is_set(*core).unwrap_or_default());
        let mut one = CpuSet::new();
        one.set(last.context("no core is usable")?)?;
        sched_setaffinity(this_thread, &one).context("stay on one core")?;
        work()
    })?
}

/// A socket of the namespace of the calling thread.
fn socket(kind: Type, protocol: Option<Protocol>) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind, protocol).context("make a socket")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Of connect(2), too (`inet_stream_connect` in net/ipv4/af_inet.c).
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> Result<Socket> {
    let listener = socket(Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.bind(&address.into()).with_context(|| format!("take TCP port {address}"))?;
    listener.listen(1024)?;
    Ok(listener)
}

fn receive_at(address: SocketAddr) -> Result<Socket> {
    let receiver = socket(Type::DGRAM, None)?;
    receiver.bind(&address.into()).with_context(|| format!("take UDP port {address}"))?;
    Ok(receiver)
}

/// How long each connect(2) took, and each batch of connections from the making of their sockets to the end.
fn connect_many(listener: &Socket, address: SocketAddr) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let address = SockAddr::from(address);
    let (mut times, mut batches) = (Vec::with_capacity(CONNECTIONS), Vec::new());
    connect_some(listener, &address, &mut times)?;
    times.clear();
    while times.len() < CONNECTIONS {
        let begun = Instant::now();
        connect_some(listener, &address, &mut times)?;
        batches.push(begun.elapsed());
    }
    Ok((times, batches))
}

fn connect_some(listener: &Socket, address: &SockAddr, times: &mut Vec<Duration>) -> Result<()> {
    let mut open = Vec::with_capacity(2 * OPEN_AT_ONCE);
    for _ in 0..OPEN_AT_ONCE {
        let client = socket(Type::STREAM, None)?;
        // Ends with a reset: no connection lingers and keeps a port.
        client.set_linger(Some(Duration::ZERO))?;
        let begun = Instant::now();
        client.connect(address).context("connect")?;
        times.push(begun.elapsed());
        open.push(client);
    }
    for _ in 0..OPEN_AT_ONCE {
        open.push(listener.accept().context("accept")?.0);
    }
    Ok(())
}

/// How long each burst of datagrams of a known exchange takes.
fn datagrams(receiver: &Socket, address: SocketAddr) -> Result<Vec<Duration>> {
    let sender = socket(Type::DGRAM, None)?;
    sender.connect(&address.into())?;
    let mut buffer = [MaybeUninit::uninit(); DATAGRAM.len()];
    // An answer, after which conntrack, too, takes the rest for an exchange.
    sender.send(&DATAGRAM)?;
    let (_, from) = receiver.recv_from(&mut buffer).context("the first datagram")?;
    receiver.send_to(&DATAGRAM, &from)?;
    sender.recv(&mut buffer).context("its answer")?;
    let mut bursts = Vec::with_capacity(DATAGRAMS / UNDER_WAY);
    for _ in 0..DATAGRAMS / UNDER_WAY {
        let begun = Instant::now();
        for _ in 0..UNDER_WAY {
            sender.send(&DATAGRAM)?;
        }
        for _ in 0..UNDER_WAY {
            receiver.recv(&mut buffer).context("a datagram is lost")?;
        }
        bursts.push(begun.elapsed());
    }
    Ok(bursts)
}

/// How long each piece of a stream takes.
fn stream(listener: &Socket, address: SocketAddr) -> Result<Vec<Duration>> {
    let mut client = socket(Type::STREAM, None)?;
    client.connect(&address.into()).context("connect")?;
    let (mut server, _) = listener.accept().context("accept")?;
    client.set_nonblocking(true)?;
    server.set_nonblocking(true)?;
    carry(&mut client, &mut server, WARM_UP_BYTES)?;
    let mut piece = || -> Result<Duration> {
        let begun = Instant::now();
        carry(&mut client, &mut server, PIECE_BYTES)?;
        Ok(begun.elapsed())
    };
    (0..PIECES).map(|_| piece()).collect()
}

fn carry(client: &mut Socket, server: &mut Socket, bytes: usize) -> Result<()> {
    static CONTENT: [u8; CHUNK] = [0x55; CHUNK];
    let mut buffer = [0; CHUNK];
    let (mut sent, mut received) = (0, 0);
    let mut last = Instant::now();
    while received < bytes {
        let rest = &CONTENT[..CHUNK.min(bytes - sent)];
        sent += or_nothing(client.write(rest)).context("send")?;
        loop {
            let read = or_nothing(server.read(&mut buffer)).context("receive")?;
            if read == 0 {
                break;
            }
            received += read;
            last = Instant::now();
        }
        ensure!(last.elapsed() < PATIENCE, "it stands still after {received} bytes");
    }
    Ok(())
}

/// How much a call moved that does not wait.
fn or_nothing(moved: std::io::Result<usize>) -> std::io::Result<usize> {
    match moved {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        moved => moved,
    }
}

/// How long each echo took.
fn echoes(peer: IpAddr) -> Result<Vec<Duration>> {
    let echo = socket(Type::DGRAM, Some(Protocol::ICMPV4))?;
    echo.connect(&SocketAddr::new(peer, 0).into())?;
    // An echo request with the content of ping(8); the kernel fills in the identifier and the checksum.
    let mut request = [0; 64];
    request[0] = 8;
    let mut answer = [MaybeUninit::uninit(); 64];
    let mut times = Vec::with_capacity(ECHOES);
    for number in 0..=ECHOES as u16 {
        request[6..8].copy_from_slice(&number.to_be_bytes());
        let begun = Instant::now();
        echo.send(&request).context("send")?;
        echo.recv(&mut answer).context("no echo")?;
        times.push(begun.elapsed());
    }
    // The first one opened the exchange.
    times.remove(0);
    Ok(times)
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}
