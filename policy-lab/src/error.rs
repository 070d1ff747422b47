//! What can go wrong while a lab is built, changed or used.

use std::io;
use std::path::PathBuf;

/// An operation of the lab that failed: what was tried, on what, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or file operation failed.
    #[error("{what}")]
    Io {
        /// The operation and its object.
        what: String,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// A command that the lab runs (`ip`) did not succeed.
    #[error("{command} failed in namespace {namespace}: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// The namespace it ran in.
        namespace: String,
        /// What it said, and the line of the batch where it stopped.
        stderr: String,
    },
    /// A name that the lab does not have.
    #[error("the lab has no {kind} named {name}")]
    Unknown {
        /// "cluster", "node", "pod" or "host".
        kind: &'static str,
        /// The name as it was asked for.
        name: String,
    },
    /// A name or address that the lab already has.
    #[error("the lab already has {what}")]
    Taken {
        /// The object that is in the way.
        what: String,
    },
    /// A name or specification that cannot be used.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// A host has no address of the family that was asked for.
    #[error("{host} has no {family} address")]
    NoAddress {
        /// The host.
        host: String,
        /// "IPv4" or "IPv6".
        family: &'static str,
    },
    /// Something did not become true in time.
    #[error("waited {within_ms} ms in vain for {what}{detail}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long, in milliseconds.
        within_ms: u128,
        /// More about it (the tail of a log), or empty.
        detail: String,
    },
    /// The process is being shut down by a signal; nothing new is made.
    #[error("the lab is being removed")]
    ShuttingDown,
}

/// The result of a lab operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] for `what`; use with `map_err`.
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: source.into() }
    }

    /// An [`Error::Io`] about a path.
    pub(crate) fn path<E: Into<io::Error>>(verb: &str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        Self::io(format!("cannot {verb} {}", path.into().display()))
    }
}
