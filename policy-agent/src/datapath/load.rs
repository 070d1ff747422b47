//! Loading the embedded object: its maps become the pinned ones, its programs replace the pinned ones.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::EbpfLoader;
use aya::maps::MapError;
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError};

use super::error::DatapathError;
use super::pins::{Pins, Shape, remove_pin};
use super::sys;

/// The programs, compiled by `cargo xtask build-ebpf`.
pub(super) const OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/crosswall.bpf.o");

/// How much of the verifier's log is shown.
const LOG_LINES: usize = 12;

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hook {
    /// tcx ingress of an endpoint's host-side interface.
    FromPod,
    /// tcx egress of it.
    ToPod,
}

impl Hook {
    pub(super) const ALL: [Self; 2] = [Self::FromPod, Self::ToPod];

    /// The program's name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::ToPod => "to_pod",
        }
    }
}

/// A program in the kernel.
#[derive(Debug)]
pub(super) struct Program {
    fd: OwnedFd,
    id: u32,
}

impl Program {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The kernel's number of it.
    pub(super) fn id(&self) -> u32 {
        self.id
    }
}

/// Loads the object. Maps that are pinned are used as they are, so they must fit; the others are made and pinned.
pub(super) fn load(pins: &Pins, shapes: &BTreeMap<String, Shape>) -> Result<[Program; 2], DatapathError> {
    let mut loader = EbpfLoader::new();
    for (name, shape) in shapes {
        loader.map_max_entries(name, shape.max_entries());
        loader.map_pin_path(name, pins.map(name));
    }
    let mut ebpf = loader.load(OBJECT).map_err(refused)?;
    let [from_pod, to_pod] = Hook::ALL.map(|hook| program(&mut ebpf, hook));
    let programs = [from_pod?, to_pod?];
    for (hook, program) in Hook::ALL.into_iter().zip(&programs) {
        pin(pins, hook, program)?;
    }
    Ok(programs)
}

fn refused(error: EbpfError) -> DatapathError {
    if let EbpfError::MapError(MapError::CreateError { name, io_error }) = error {
        return DatapathError::unless_forbidden(io_error, format!("make table {name}"), |source| {
            DatapathError::Object { source: format!("table {name}: {source}").into() }
        });
    }
    DatapathError::Object { source: error.into() }
}

fn program(ebpf: &mut Ebpf, hook: Hook) -> Result<Program, DatapathError> {
    let name = hook.as_str();
    let missing = || DatapathError::Object { source: format!("there is no program {name}").into() };
    let unusable = |error: ProgramError| DatapathError::Object { source: error.into() };
    let classifier: &mut SchedClassifier = ebpf.program_mut(name).ok_or_else(missing)?.try_into().map_err(unusable)?;
    match classifier.load() {
        Ok(()) => {}
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            return Err(not_loaded(name, io_error, &verifier_log.to_string()));
        }
        Err(error) => return Err(unusable(error)),
    }
    let fd = classifier.fd().map_err(unusable)?.as_fd().try_clone_to_owned();
    let held = fd.and_then(|fd| Ok(Program { id: sys::program_id(fd.as_fd())?, fd }));
    held.map_err(|source| DatapathError::System { operation: "hold a program", source })
}

/// The verifier says EACCES too (kernel/bpf/verifier.c); who may not load at all never gets to it, and to its log.
fn not_loaded(name: &str, source: io::Error, log: &str) -> DatapathError {
    let refused = |source| DatapathError::Verifier { program: name.to_owned(), log: tail(log), source };
    if log.trim().is_empty() {
        return DatapathError::unless_forbidden(source, format!("load program {name}"), refused);
    }
    refused(source)
}

/// The last lines of a verifier's log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Puts a program in the place of the pinned one.
fn pin(pins: &Pins, hook: Hook, program: &Program) -> Result<(), DatapathError> {
    let path = pins.programs().join(hook.as_str());
    let next = pins.programs().join(format!("next-{}", hook.as_str()));
    remove_pin(&next)?;
    let pinned = sys::pin(program.fd(), &next).and_then(|()| fs::rename(&next, &path));
    pinned.map_err(|source: io::Error| DatapathError::Pin { operation: "pin a program at", path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_verifier_refuses_is_not_taken_for_a_want_of_rights() {
        let refusal = |errno, log| not_loaded("to_pod", io::Error::from_raw_os_error(errno), log);
        let log = "combined stack size of 4 calls is 528. Too large";
        assert!(matches!(refusal(libc::EACCES, log), DatapathError::Verifier { log: told, .. } if told == log));
        assert!(matches!(refusal(libc::EPERM, ""), DatapathError::NotPermitted { .. }));
        assert!(matches!(refusal(libc::EACCES, ""), DatapathError::NotPermitted { .. }));
        assert!(matches!(refusal(libc::EINVAL, ""), DatapathError::Verifier { .. }));
    }

    #[test]
    fn of_a_long_log_the_last_lines_are_shown() {
        let log: String = (0..100).map(|number| format!("line {number}\n\n")).collect();
        let shown = tail(&log);
        assert_eq!(shown.lines().count(), LOG_LINES);
        assert!(shown.ends_with("line 99"), "{shown}");
        assert_eq!(tail("one line"), "one line");
    }
}
