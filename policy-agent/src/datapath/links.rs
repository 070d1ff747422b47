//! Programs on interfaces: pinned tcx links, made once, replaced in place by later runs of the agent.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use aya_obj::generated::bpf_attach_type;

use super::error::DatapathError;
use super::load::{Hook, Program};
use super::pins::{Pins, remove_pin, take_off};
use super::sys;

/// The links of this network namespace's interfaces.
#[derive(Debug)]
pub(super) struct Links {
    directory: PathBuf,
    /// The pins of live links, by interface and hook.
    known: BTreeMap<(u32, Hook), PathBuf>,
}

/// The pin of a link: `<ifname>-<hook>`. The BPF file system keeps dots to itself (`bpf_lookup` in kernel/bpf/inode.c).
fn pin_name(interface: &str, hook: Hook) -> String {
    format!("{}-{}", interface.replace('%', "%25").replace('.', "%2e"), hook.as_str())
}

/// The hook that a pin's name tells.
fn hook_of(path: &Path) -> Option<Hook> {
    let name = path.file_name()?.to_str()?;
    Hook::ALL.into_iter().find(|hook| name.strip_suffix(hook.as_str()).is_some_and(|rest| rest.ends_with('-')))
}

fn attach_type(hook: Hook) -> bpf_attach_type {
    match hook {
        Hook::FromPod => bpf_attach_type::BPF_TCX_INGRESS,
        Hook::ToPod => bpf_attach_type::BPF_TCX_EGRESS,
    }
}

/// The paths in a directory; none if it does not exist.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, DatapathError> {
    let failed = |source| DatapathError::Pin { operation: "list", path: directory.to_owned(), source };
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

impl Links {
    /// Takes over the links that are pinned, with these programs on them from now on.
    pub(super) fn take_over(pins: &Pins, programs: &[Program; 2]) -> Result<Self, DatapathError> {
        let mut links = Self { directory: pins.links(), known: BTreeMap::new() };
        for path in entries(&links.directory)? {
            let Some(hook) = hook_of(&path) else { continue };
            let failed = |source| DatapathError::Pin { operation: "take over the link at", path: path.clone(), source };
            let link = sys::open_pin(&path).map_err(failed)?;
            match sys::tcx_link(link.as_fd()).map_err(failed)? {
                Some(leads) if leads.ifindex != 0 => {
                    replace(&link, leads, &programs[hook as usize]).map_err(failed)?;
                    links.known.insert((leads.ifindex, hook), path);
                }
                _ => drop(remove_pin(&path)?),
            }
        }
        Ok(links)
    }

    /// The interfaces that have both programs.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = u32> {
        let both = |ifindex: &u32| self.known.contains_key(&(*ifindex, Hook::ToPod));
        self.known.keys().filter(|(_, hook)| *hook == Hook::FromPod).map(|(ifindex, _)| *ifindex).filter(both)
    }

    /// Puts the programs on an interface.
    pub(super) fn attach(&mut self, ifindex: u32, name: &str, programs: &[Program; 2]) -> Result<(), DatapathError> {
        for hook in Hook::ALL {
            let failed = |operation| {
                let interface = name.to_owned();
                move |source| DatapathError::Link { operation, hook: hook.as_str(), interface, source }
            };
            let path = self.directory.join(pin_name(name, hook));
            if self.still_there(ifindex, hook, &path, &programs[hook as usize]).map_err(failed("take over"))? {
                continue;
            }
            // Whatever has the name now was another interface's.
            remove_pin(&path)?;
            self.known.retain(|_, known| *known != path);
            let link = sys::create_tcx_link(programs[hook as usize].fd(), ifindex, attach_type(hook))
                .map_err(|error| not_attached(error, ifindex, name, hook))?;
            sys::pin(link.as_fd(), &path).map_err(failed("pin the link of"))?;
            self.known.insert((ifindex, hook), path);
        }
        Ok(())
    }

    /// Whether an interface has a link at a hook; puts its pin where it belongs and our program on it.
    fn still_there(&mut self, ifindex: u32, hook: Hook, path: &Path, program: &Program) -> io::Result<bool> {
        let Some(known) = self.known.get(&(ifindex, hook)) else { return Ok(false) };
        let Ok(link) = sys::open_pin(known) else { return Ok(false) };
        match sys::tcx_link(link.as_fd())? {
            Some(leads) if leads.ifindex == ifindex => replace(&link, leads, program)?,
            _ => return Ok(false),
        }
        if known != path {
            // The interface has another name now. A pin that has it already is of an interface that had it before.
            fs::rename(known, path)?;
            self.known.retain(|_, known| *known != path);
            self.known.insert((ifindex, hook), path.to_owned());
        }
        Ok(true)
    }

    /// Takes the programs off an interface.
    pub(super) fn detach(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        for hook in Hook::ALL {
            if let Some(path) = self.known.remove(&(ifindex, hook)) {
                take_off(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the pins of links whose interfaces are gone; returns how many.
    pub(super) fn prune(&mut self) -> Result<usize, DatapathError> {
        let mut gone = Vec::new();
        for (place, path) in &self.known {
            let leads = sys::open_pin(path).and_then(|link| sys::tcx_link(link.as_fd()));
            if !matches!(leads, Ok(Some(leads)) if leads.ifindex == place.0) {
                gone.push(*place);
            }
        }
        for place in &gone {
            if let Some(path) = self.known.remove(place) {
                remove_pin(&path)?;
            }
        }
        Ok(gone.len())
    }
}

fn replace(link: &OwnedFd, leads: sys::TcxLink, program: &Program) -> io::Result<()> {
    if leads.program == program.id() { Ok(()) } else { sys::update_link(link.as_fd(), program.fd()) }
}

fn not_attached(source: io::Error, ifindex: u32, name: &str, hook: Hook) -> DatapathError {
    let interface = name.to_owned();
    match source.raw_os_error() {
        Some(libc::ENODEV) => DatapathError::InterfaceGone { interface, ifindex },
        // Without tcx the attach type is unknown (bpf_prog_attach_check_attach_type in kernel/bpf/syscall.c).
        Some(libc::EINVAL | libc::EOPNOTSUPP) => {
            let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
            DatapathError::NoTcx { interface, release, source }
        }
        _ => {
            let operation = format!("attach {} to interface {name}", hook.as_str());
            DatapathError::unless_forbidden(source, operation, |source| DatapathError::Link {
                operation: "attach",
                hook: hook.as_str(),
                interface,
                source,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_named_by_interface_and_hook() {
        assert_eq!(pin_name("veth0", Hook::FromPod), "veth0-from_pod");
        assert_eq!(pin_name("veth-x.100%", Hook::ToPod), "veth-x%2e100%25-to_pod");
        assert_eq!(hook_of(Path::new("/bpf/links/veth-x%2e100-to_pod")), Some(Hook::ToPod));
        assert_eq!(hook_of(Path::new("/bpf/links/a-from_pod-from_pod")), Some(Hook::FromPod));
        assert_eq!(hook_of(Path::new("/bpf/links/from_pod")), None);
    }
}
