//! Programs on interfaces: pinned tcx links, made once, replaced in place by later runs of the agent.

use std::collections::{BTreeMap, BTreeSet};
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

/// The pin of a live link whose interface lost its name to another one. No interface's own pin is called so: a percent
/// sign in a name is escaped.
fn aside_name(ifindex: u32, hook: Hook) -> String {
    format!("%{ifindex}-{}", hook.as_str())
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
            if self.take_over_one((ifindex, hook), &programs[hook as usize]).map_err(failed("take over"))? {
                self.name((ifindex, hook), &path)?;
                continue;
            }
            if let Some(dead) = self.known.remove(&(ifindex, hook)) {
                remove_pin(&dead)?;
            }
            self.clear(&path)?;
            let link = sys::create_tcx_link(programs[hook as usize].fd(), ifindex, attach_type(hook))
                .map_err(|error| not_attached(error, ifindex, name, hook))?;
            sys::pin(link.as_fd(), &path).map_err(failed("pin the link of"))?;
            self.known.insert((ifindex, hook), path);
        }
        Ok(())
    }

    /// Whether there is a link at a place; puts our program on it.
    fn take_over_one(&self, place: (u32, Hook), program: &Program) -> io::Result<bool> {
        let Some(path) = self.known.get(&place) else { return Ok(false) };
        let link = match sys::open_pin(path) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match sys::tcx_link(link.as_fd())? {
            Some(leads) if leads.ifindex == place.0 => replace(&link, leads, program).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Gives a link's pin its name, whoever had that before.
    fn name(&mut self, place: (u32, Hook), path: &Path) -> Result<(), DatapathError> {
        let Some(known) = self.known.get(&place).filter(|known| *known != path).cloned() else { return Ok(()) };
        self.clear(path)?;
        self.rename(place, &known, path.to_owned())
    }

    /// Makes a name free. Nobody but its pin may hold a link, so that of an interface that only lost its name is
    /// renamed: without a pin its programs would be off at once.
    fn clear(&mut self, path: &Path) -> Result<(), DatapathError> {
        let holder = self.known.iter().find(|(_, known)| *known == path).map(|(place, _)| *place);
        let Some(place) = holder else { return remove_pin(path).map(drop) };
        if !is_dead(place.0, path) {
            let aside = self.directory.join(aside_name(place.0, place.1));
            return self.rename(place, path, aside);
        }
        self.known.remove(&place);
        remove_pin(path).map(drop)
    }

    fn rename(&mut self, place: (u32, Hook), from: &Path, to: PathBuf) -> Result<(), DatapathError> {
        match fs::rename(from, &to) {
            Ok(()) => drop(self.known.insert(place, to)),
            Err(source) => return Err(DatapathError::Pin { operation: "rename", path: from.to_owned(), source }),
        }
        Ok(())
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

    /// Removes the pins of links that lead nowhere any more, because the interface is gone or somebody took the link
    /// off; returns the interfaces that still have both programs.
    pub(super) fn prune(&mut self) -> Result<BTreeSet<u32>, DatapathError> {
        let dead = self.known.iter().filter(|(place, path)| is_dead(place.0, path));
        let dead: Vec<((u32, Hook), PathBuf)> = dead.map(|(place, path)| (*place, path.clone())).collect();
        for (place, path) in dead {
            remove_pin(&path)?;
            self.known.remove(&place);
        }
        Ok(self.interfaces().collect())
    }
}

/// Whether the link pinned at a path is not on this interface any more. Where that cannot be told, for want of memory or
/// descriptors, it is not taken for dead: removing the pin of a live link opens its interface.
fn is_dead(ifindex: u32, path: &Path) -> bool {
    match sys::open_pin(path).and_then(|link| sys::tcx_link(link.as_fd())) {
        Ok(Some(leads)) => leads.ifindex != ifindex,
        Ok(None) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
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
        assert_eq!(hook_of(Path::new(&aside_name(7, Hook::ToPod))), Some(Hook::ToPod));
        assert_ne!(aside_name(7, Hook::ToPod), pin_name("%7", Hook::ToPod));
    }
}
