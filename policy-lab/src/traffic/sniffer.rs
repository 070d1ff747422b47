//! Sees the frames that arrive at a host, whatever its kernel then makes of them.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::lab::Lab;
use crate::netns::NetNs;
use crate::sys;
use crate::wiring::ETH0;

/// Every protocol, for packet sockets (linux/if_ether.h).
const ETH_P_ALL: u16 = 0x0003;
/// Room for bursts that arrive before they are read.
const BUFFER_BYTES: usize = 16 << 20;

/// Listens on a host's `eth0` from the moment it is made; frames that the host sends are
/// not heard.
#[derive(Debug)]
pub struct Sniffer {
    socket: Socket,
}

/// Sends frames as they are from a host's `eth0`.
#[derive(Debug)]
pub struct Injector {
    socket: Socket,
    host: String,
}

impl Sniffer {
    /// Starts to listen at a host.
    pub fn at(host: &Host) -> Result<Self> {
        Self::on(host.netns(), ETH0)
    }

    /// Starts to listen on an interface of a namespace.
    pub fn on(netns: &Arc<NetNs>, interface: &str) -> Result<Self> {
        let failed = || format!("cannot listen on {interface} of {}", netns.name());
        let socket = packet_socket(netns, interface, ETH_P_ALL).map_err(Error::io(failed()))?;
        sys::ignore_outgoing(&socket).map_err(Error::io(failed()))?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).map_err(Error::io(failed()))?;
        Ok(Self { socket })
    }

    /// The next frame that has arrived, with its Ethernet header, without waiting.
    pub fn try_next(&self) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 65536];
        Ok(self.read(&mut buffer)?.map(|length| {
            buffer.truncate(length);
            buffer
        }))
    }

    /// Reads the next frame into `buffer` and returns its length, without waiting.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<Option<usize>> {
        match (&self.socket).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(Error::io("cannot read a frame")(error)),
        }
    }

    /// The first frame, from the last one read on, for which `wanted` holds.
    pub fn wait_for(&self, wanted: impl Fn(&[u8]) -> bool, within: Duration) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + within;
        loop {
            while let Some(frame) = self.try_next()? {
                if wanted(&frame) {
                    return Ok(Some(frame));
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether a frame that contains `mark` arrives in time (or has arrived).
    pub fn hears(&self, mark: &[u8], within: Duration) -> Result<bool> {
        let found = self.wait_for(|frame| contains(frame, mark), within)?;
        Ok(found.is_some())
    }
}

impl Injector {
    /// Gets ready to send from a host.
    pub fn at(host: &Host) -> Result<Self> {
        // Protocol 0: this socket hears nothing (packet(7)).
        let socket = packet_socket(host.netns(), ETH0, 0)
            .map_err(Error::io(format!("cannot send frames from {}", host.name())))?;
        Ok(Self { socket, host: host.name().into() })
    }

    /// Sends a frame, Ethernet header included.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        (&self.socket).write(frame).map(drop).map_err(Error::io(format!("cannot send a frame from {}", self.host)))
    }
}

impl Lab {
    /// Starts to listen at a host.
    pub fn sniffer(&self, host: &str) -> Result<Sniffer> {
        Sniffer::at(self.host(host)?)
    }

    /// Sends a frame from a host, and says whether it arrives at another: whether a frame
    /// that contains `mark` is heard there in time.
    pub fn inject(&self, from: &str, to: &str, frame: &[u8], mark: &[u8], within: Duration) -> Result<bool> {
        let sniffer = self.sniffer(to)?;
        Injector::at(self.host(from)?)?.send(frame)?;
        sniffer.hears(mark, within)
    }

    /// Begins a frame from `from` to the address `to`: with its own link-layer address as
    /// source and the right next hop as destination. Spoofing starts above that.
    pub fn frame(&self, from: &str, to: IpAddr) -> Result<super::packet::Frame> {
        let host = self.host(from)?;
        let next_hop = self.next_hop(host, to).ok_or_else(|| Error::Unknown { kind: "host", name: to.to_string() })?;
        Ok(super::packet::Frame::new(host.mac(), next_hop))
    }
}

/// Whether `mark` occurs in `frame`.
#[must_use]
pub fn contains(frame: &[u8], mark: &[u8]) -> bool {
    !mark.is_empty() && frame.windows(mark.len()).any(|window| window == mark)
}

fn packet_socket(netns: &Arc<NetNs>, interface: &str, protocol: u16) -> io::Result<Socket> {
    let work = || {
        let index = nix::net::if_::if_nametoindex(interface)?;
        // Made deaf and then bound: nothing of other interfaces is heard in between.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(Protocol::from(0)))?;
        socket.bind(&sys::link_address(index, protocol))?;
        Ok(socket)
    };
    netns.enter(work).map_err(io::Error::other)?
}
