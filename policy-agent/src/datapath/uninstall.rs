//! Removing everything from the kernel, whatever state it is in.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use super::error::DatapathError;
use super::links::entries;
use super::pins::{Pins, take_off};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The links, by the names of their pins: interface and hook.
    pub links: Vec<String>,
    /// The programs.
    pub programs: Vec<String>,
    /// The tables.
    pub tables: Vec<String>,
}

impl Removed {
    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        let Self { links, programs, tables } = self;
        links.is_empty() && programs.is_empty() && tables.is_empty()
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing was installed");
        }
        let Self { links, programs, tables } = self;
        let kinds = [("links", links), ("programs", programs), ("tables", tables)];
        let said = kinds.into_iter().filter(|(_, names)| !names.is_empty());
        let said: Vec<String> = said.map(|(kind, names)| format!("{kind}: {}", names.join(", "))).collect();
        write!(f, "removed {}", said.join("; "))
    }
}

/// Takes all programs off their interfaces and removes all pins below `bpffs`.
///
/// # Errors
///
/// If an agent runs with them. Otherwise what can be removed is removed even so; the first failure is told.
pub fn uninstall(bpffs: &Path) -> Result<Removed, DatapathError> {
    let pins = Pins::below(bpffs)?;
    let Some(_lock) = pins.lock()? else { return Ok(Removed::default()) };
    let mut removed = Removed::default();
    let mut first_failure = None;
    let mut keep = |outcome: Result<(), DatapathError>| {
        if let Err(error) = outcome {
            first_failure.get_or_insert(error);
        }
    };
    // Links first: from then on no program looks at anything.
    for (directory, names) in [
        (pins.links(), &mut removed.links),
        (pins.programs(), &mut removed.programs),
        (pins.root().to_owned(), &mut removed.tables),
    ] {
        match entries(&directory) {
            Ok(paths) => paths.into_iter().for_each(|path| match take_off(&path) {
                Ok(true) => names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned())),
                Ok(false) => {}
                Err(error) => keep(Err(error)),
            }),
            Err(error) => keep(Err(error)),
        }
        names.sort();
        keep(remove_directory(&directory));
    }
    first_failure.map_or(Ok(removed), Err)
}

fn remove_directory(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DatapathError::Pin { operation: "remove", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_said_in_a_line() {
        assert_eq!(Removed::default().to_string(), "nothing was installed");
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let removed = Removed {
            links: names(&["veth0-from_pod", "veth0-to_pod"]),
            programs: Vec::new(),
            tables: names(&["control"]),
        };
        assert_eq!(removed.to_string(), "removed links: veth0-from_pod, veth0-to_pod; tables: control");
    }
}
