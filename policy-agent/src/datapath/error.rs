//! What can go wrong between the agent and the kernel, and what a person can do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::ownership::Exposure;

/// What can go wrong between the agent and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The directory for pins is not on a BPF file system.
    #[error("{path} is not on a BPF file system; mount one with `mount -t bpf -o mode=0700 bpf {path}`, or name another by \
             --bpffs", path = path.display())]
    NoBpffs {
        /// The directory.
        path: PathBuf,
    },
    /// The directory for pins cannot be looked at.
    #[error("cannot use {path} for pins; --bpffs names the directory of a mounted BPF file system",
        path = path.display())]
    Bpffs {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than the agent's user could pin their programs there.
    #[error("cannot rely on {path}: {exposure}; remove it, and see that the BPF file system is mounted with mode=0700",
        path = path.display())]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Why.
        exposure: Exposure,
    },
    /// Another agent has the tables.
    #[error("a running policy-agent has the tables at {path}; end it first", path = path.display())]
    Held {
        /// Where they are pinned.
        path: PathBuf,
    },
    /// The kernel does not let this process do what it must.
    #[error("not permitted to {operation}; the agent needs root, or the capabilities BPF, NET_ADMIN and PERFMON")]
    NotPermitted {
        /// What was tried.
        operation: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The tables in the kernel were made by another version.
    #[error("the tables at {path} have layout {found}, this version needs {needed}; {REMOVE}", path = path.display())]
    Abi {
        /// Where they are pinned.
        path: PathBuf,
        /// Their `ABI_VERSION`.
        found: u32,
        /// Ours.
        needed: u32,
    },
    /// A table in the kernel cannot be used again.
    #[error("the table at {path} cannot be used again: {misfit}; {REMOVE}", path = path.display())]
    Misfit {
        /// Where it is pinned.
        path: PathBuf,
        /// What does not fit.
        misfit: Misfit,
    },
    /// The embedded object cannot be loaded.
    #[error(
        "cannot load the embedded programs into the kernel; they need Linux 6.6 with BTF (/sys/kernel/btf/vmlinux), and \
         memory for the tables"
    )]
    Object {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel's verifier refuses a program.
    #[error("the kernel's verifier refuses program {program}; the last it said:\n{log}")]
    Verifier {
        /// The program.
        program: String,
        /// The last lines of the verifier's log.
        log: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A system call on a table failed.
    #[error("cannot {operation} table {table}")]
    Table {
        /// What was tried, with the key where there is one.
        operation: String,
        /// The table.
        table: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A table holds what no version of the agent writes.
    #[error("table {table} holds {what}; {REMOVE}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What it holds.
        what: String,
    },
    /// The kernel is too old for the hooks.
    #[error(
        "cannot attach to interface {interface}: this kernel (Linux {release}) has no tcx hooks for it; they came with Linux 6.6"
    )]
    NoTcx {
        /// The interface.
        interface: String,
        /// The kernel's release.
        release: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The interface went away.
    #[error("interface {interface} (index {ifindex}) is gone")]
    InterfaceGone {
        /// Its name.
        interface: String,
        /// Its index.
        ifindex: u32,
    },
    /// A system call on a hook of an interface failed.
    #[error("cannot {operation} {hook} on interface {interface}")]
    Link {
        /// What was tried.
        operation: &'static str,
        /// The program.
        hook: &'static str,
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file or directory below the BPF file system.
    #[error("cannot {operation} {path}", path = path.display())]
    Pin {
        /// What was tried.
        operation: &'static str,
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else that the kernel refused.
    #[error("cannot {operation}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What to do about tables that cannot be used.
const REMOVE: &str =
    "`policy-agent uninstall` removes what is there, and nothing is enforced until the agent runs again";

/// Why a pinned map cannot be used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It is not there, though others are.
    Missing,
    /// It is another kind of map, or its keys or values have another size.
    Shape,
    /// It has another size than is configured.
    Capacity {
        /// How many elements it has room for.
        found: u32,
        /// How many it should have.
        needed: u32,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is not there, though other tables are"),
            Self::Shape => f.write_str("it has another layout than this version's"),
            Self::Capacity { found, needed } => {
                write!(f, "it has room for {found} elements, {needed} are configured")
            }
        }
    }
}

impl DatapathError {
    /// An error of a system call, told apart by whether more rights would help.
    pub(super) fn unless_forbidden(
        source: io::Error,
        operation: impl Into<String>,
        other: impl FnOnce(io::Error) -> Self,
    ) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { operation: operation.into(), source },
            _ => other(source),
        }
    }
}
