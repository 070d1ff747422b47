//! A TCP connection that stays open, to see whether its data still flows after a change.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::probe::{Denial, Outcome};
use crate::address::Family;
use crate::error::{Error, Result};
use crate::lab::Lab;

/// An established connection to an echo server.
#[derive(Debug)]
pub struct EstablishedTcp {
    stream: TcpStream,
    sent: u64,
    echoed: u64,
    /// The beginning of a number of which the rest has not arrived.
    partial: Vec<u8>,
}

impl Lab {
    /// Opens a connection and sees one exchange through; an error if that is denied.
    pub fn establish_tcp(
        &self,
        from: &str,
        to: &str,
        port: u16,
        family: Family,
        timeout: Duration,
    ) -> Result<EstablishedTcp> {
        let what = || format!("{from} -> {to} TCP/{port} {family}");
        let at = SocketAddr::new(self.target(to, family)?, port);
        let stream = self
            .host(from)?
            .netns()
            .enter(|| TcpStream::connect_timeout(&at, timeout))?
            .map_err(Error::io(format!("cannot connect {}", what())))?;
        stream.set_nodelay(true).map_err(Error::io(format!("cannot set up {}", what())))?;
        let mut connection = EstablishedTcp { stream, sent: 0, echoed: 0, partial: Vec::new() };
        match connection.exchange(timeout) {
            Outcome::Allowed => Ok(connection),
            Outcome::Denied(_) => Err(Error::Timeout {
                what: format!("the first exchange on {}", what()),
                within_ms: timeout.as_millis(),
                detail: String::new(),
            }),
        }
    }
}

impl EstablishedTcp {
    /// Sends a few bytes and waits for their echo. After a timeout the connection can be
    /// tried again: TCP goes on to retransmit, and late echoes of earlier exchanges are
    /// taken for what they are.
    pub fn exchange(&mut self, within: Duration) -> Outcome {
        match self.try_exchange(within) {
            Ok(()) => Outcome::Allowed,
            Err(error) => Outcome::Denied(Denial::from(&error)),
        }
    }

    /// The two ends as the opener sees them.
    pub fn addresses(&self) -> Result<(SocketAddr, SocketAddr)> {
        let failed = "cannot read the connection's addresses";
        Ok((self.stream.local_addr().map_err(Error::io(failed))?, self.stream.peer_addr().map_err(Error::io(failed))?))
    }

    fn try_exchange(&mut self, within: Duration) -> std::io::Result<()> {
        let deadline = Instant::now() + within;
        self.stream.set_write_timeout(Some(within))?;
        self.sent += 1;
        self.stream.write_all(&self.sent.to_be_bytes())?;
        while self.echoed < self.sent {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut buffer = [0; 1024];
            let read = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::ConnectionReset.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.partial.extend_from_slice(&buffer[..read]);
            while let Some((number, rest)) = self.partial.split_first_chunk::<8>() {
                self.echoed = u64::from_be_bytes(*number);
                self.partial = rest.to_vec();
            }
        }
        Ok(())
    }
}
