//! Echo servers of all pods of a lab, driven by one thread: a socket stays in the namespace it was made in.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::spec::PortProtocol;

/// The thread that answers for everyone. Stops on drop.
#[derive(Debug)]
pub(crate) struct EchoServers {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Command {
    Add { owner: String, sockets: Vec<Listening> },
    Remove { owner: String, done: Sender<()> },
    Stop,
}

#[derive(Debug)]
enum Listening {
    Tcp(Socket),
    Udp(Socket),
}

impl EchoServers {
    pub(crate) fn start() -> Result<Self> {
        let failed = "cannot start the echo servers";
        let poll = Poll::new().map_err(Error::io(failed))?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(Error::io(failed))?);
        let (commands, inbox) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("lab-echo".into())
            .spawn(move || Loop::new(poll, inbox).run())
            .map_err(Error::io(failed))?;
        Ok(Self { commands, waker, thread: Some(thread) })
    }

    /// Opens ports of a host, on all its addresses. `owner` names them for [`EchoServers::close`].
    pub(crate) fn open(&self, owner: &str, host: &Host, ports: &[(PortProtocol, u16)]) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        let sockets = host.netns.enter(|| {
            let mut sockets = Vec::new();
            for (protocol, port) in ports {
                for address in host.addresses.iter() {
                    let at = SocketAddr::new(address, *port);
                    sockets.extend(
                        listen(*protocol, at)
                            .map_err(Error::io(format!("cannot listen on {protocol:?} {at} in {}", host.name)))?,
                    );
                }
            }
            Ok::<_, Error>(sockets)
        })??;
        self.send(Command::Add { owner: owner.into(), sockets });
        Ok(())
    }

    /// Closes a host's ports and connections, and waits until that is done.
    pub(crate) fn close(&self, owner: &str) {
        let (done, wait) = mpsc::channel();
        self.send(Command::Remove { owner: owner.into(), done });
        let _ = wait.recv();
    }

    fn send(&self, command: Command) {
        // Fails only when the thread has ended, and then there is nothing left to serve.
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }
}

impl Drop for EchoServers {
    fn drop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(protocol: PortProtocol, at: SocketAddr) -> io::Result<Option<Listening>> {
    let domain = Domain::for_address(at);
    let bind = |kind: Type| -> io::Result<Socket> {
        let socket = Socket::new(domain, kind.nonblocking(), None)?;
        socket.set_reuse_address(true)?;
        if at.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&at.into())?;
        Ok(socket)
    };
    Ok(match protocol {
        PortProtocol::Tcp => {
            let socket = bind(Type::STREAM)?;
            socket.listen(1024)?;
            Some(Listening::Tcp(socket))
        }
        PortProtocol::Udp => {
            let socket = bind(Type::DGRAM)?;
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES)?;
            Some(Listening::Udp(socket))
        }
        // The kernels at hand have no SCTP sockets; SCTP is tested with crafted packets.
        PortProtocol::Sctp => None,
    })
}

const WAKER: Token = Token(0);
/// Room for what comes while a busy machine does other things: what is lost in a socket looks like a policy's work.
const BUFFER_BYTES: usize = 8 << 20;

#[derive(Debug)]
enum Source {
    Listener(TcpListener),
    Connection(Connection),
    Datagrams(UdpSocket),
}

struct Loop {
    poll: Poll,
    inbox: Receiver<Command>,
    sources: HashMap<Token, (String, Source)>,
    next: usize,
    buffer: Box<[u8; 65536]>,
}

impl Loop {
    fn new(poll: Poll, inbox: Receiver<Command>) -> Self {
        Self { poll, inbox, sources: HashMap::new(), next: 1, buffer: Box::new([0; 65536]) }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
                Ok(()) => {}
            }
            for event in &events {
                if event.token() == WAKER {
                    if self.obey().is_stop() {
                        return;
                    }
                } else {
                    self.serve(event);
                }
            }
        }
    }

    fn obey(&mut self) -> After {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Add { owner, sockets } => {
                    for socket in sockets {
                        let source = match socket {
                            Listening::Tcp(s) => Source::Listener(TcpListener::from_std(s.into())),
                            Listening::Udp(s) => Source::Datagrams(UdpSocket::from_std(s.into())),
                        };
                        self.add(&owner, source);
                    }
                }
                Command::Remove { owner, done } => {
                    self.sources.retain(|_, (of, _)| *of != owner);
                    let _ = done.send(());
                }
                Command::Stop => return After::Stop,
            }
        }
        After::GoOn
    }

    fn add(&mut self, owner: &str, mut source: Source) {
        let token = Token(self.next);
        self.next += 1;
        if source.register(self.poll.registry(), token).is_ok() {
            self.sources.insert(token, (owner.into(), source));
        }
    }

    fn serve(&mut self, event: &Event) {
        let token = event.token();
        let Some((owner, source)) = self.sources.get_mut(&token) else {
            return;
        };
        match source {
            Source::Listener(listener) => {
                let accepted: Vec<_> =
                    std::iter::from_fn(|| listener.accept().ok()).map(|(stream, _)| stream).collect();
                let owner = owner.clone();
                for stream in accepted {
                    self.add(&owner, Source::Connection(Connection::new(stream)));
                }
            }
            Source::Connection(connection) => {
                if connection.echo(&mut self.buffer[..]).is_stop() {
                    self.sources.remove(&token);
                }
            }
            Source::Datagrams(socket) => echo_datagrams(socket, &mut self.buffer[..]),
        }
    }
}

impl Source {
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Listener(socket) => registry.register(socket, token, Interest::READABLE),
            Self::Datagrams(socket) => registry.register(socket, token, Interest::READABLE),
            Self::Connection(Connection { stream, .. }) => {
                registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
            }
        }
    }
}

/// Whether something is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    GoOn,
    Stop,
}

impl After {
    fn is_stop(self) -> bool {
        self == Self::Stop
    }
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// Read, but not yet written back: then reading waits, so that the sender is slowed down.
    unsent: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        Self { stream, unsent: Vec::new() }
    }

    fn echo(&mut self, buffer: &mut [u8]) -> After {
        loop {
            while !self.unsent.is_empty() {
                match self.stream.write(&self.unsent) {
                    Ok(written) => drop(self.unsent.drain(..written)),
                    Err(error) => return after(&error),
                }
            }
            match self.stream.read(buffer) {
                Ok(0) => return After::Stop,
                Ok(read) => self.unsent.extend_from_slice(&buffer[..read]),
                Err(error) => return after(&error),
            }
        }
    }
}

fn after(error: &io::Error) -> After {
    match error.kind() {
        io::ErrorKind::WouldBlock => After::GoOn,
        _ => After::Stop,
    }
}

fn echo_datagrams(socket: &UdpSocket, buffer: &mut [u8]) {
    loop {
        match socket.recv_from(buffer) {
            Ok((length, from)) => {
                // A reply that cannot be sent is lost, as datagrams may be.
                let _ = socket.send_to(&buffer[..length], from);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // An ICMP error of an earlier reply; the next call goes on.
            Err(_) => {}
        }
    }
}
