//! A named network namespace that exists as long as its guard.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::cleanup::{self, RunId};
use crate::error::{Error, Result};
use crate::sys;

/// Where named namespaces live, as `ip netns` has it (ip-netns(8)).
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// A network namespace of the lab's own, visible to `ip netns`, removed on drop.
///
/// Its name is `cw<pid>x<lab>-<label>`: whoever finds it later can tell whether the
/// process that made it is still there.
#[derive(Debug)]
pub struct NetNs {
    name: String,
    handle: Arc<OwnedFd>,
}

impl NetNs {
    /// Makes a namespace for `run`. `label` becomes the last part of its name; characters
    /// that do not suit a file name are replaced.
    pub fn create(run: RunId, label: &str) -> Result<Self> {
        let _open = cleanup::permit()?;
        let label: String =
            label.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        let name = format!("{run}-{label}");
        let path = path_of(&name);
        prepare_directory()?;
        File::create_new(&path).map_err(Error::path("create", &path))?;
        let made = thread::scope(|scope| {
            scope
                .spawn(|| unshare_and_bind(&path))
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread that makes it panicked")))
        });
        match made {
            Ok(handle) => Ok(Self { name, handle: Arc::new(handle) }),
            Err(source) => {
                let _ = fs::remove_file(&path);
                Err(Error::io(format!("cannot make the namespace {name}"))(source))
            }
        }
    }

    /// The name under which `ip netns` and `ip -n` know it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace, for `nsenter --net=`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        path_of(&self.name)
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for it.
    ///
    /// Only the network namespace differs: files, bpffs included, are those of the
    /// caller. Sockets made inside stay in the namespace when they are handed out.
    /// A panic of `work` goes on in the caller.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let outcome = thread::scope(|scope| scope.spawn(|| self.join().map(|()| work())).join());
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(Error::io(format!("cannot enter {}", self.name))(source)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// A command that will start inside the namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        sys::spawn_in(&mut command, Arc::clone(&self.handle));
        command
    }

    /// Writes sysctls of the namespace: `("net/ipv4/ip_forward", "1")`.
    pub fn sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (key, value) in settings {
                let path = Path::new("/proc/sys").join(key);
                fs::write(&path, value).map_err(Error::path("write", &path))?;
            }
            Ok(())
        })?
    }

    /// Moves the calling thread into the namespace, for good.
    pub(crate) fn join(&self) -> io::Result<()> {
        setns(self.handle.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        remove_named(&self.name);
    }
}

/// Device and inode of a namespace file: equal for every reference to one namespace.
pub(crate) fn id_of(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Removes a namespace's name; the kernel removes the namespace when its last process
/// and socket are gone. Absence is fine: a sweep may have come first.
pub(crate) fn remove_named(name: &str) {
    let path = path_of(name);
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(&path);
}

pub(crate) fn path_of(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

fn unshare_and_bind(path: &Path) -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let own = "/proc/thread-self/ns/net";
    mount(Some(own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(File::open(own)?.into())
}

/// Makes `/run/netns` a shared mount of its own, as `ip netns add` does (iproute2,
/// ip/ipnetns.c): otherwise a later `ip netns add` would cover our names with such a mount.
fn prepare_directory() -> Result<()> {
    let directory = Path::new(NETNS_DIR);
    fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(Error::path("create", directory))?;
    let lock = File::open(directory).map_err(Error::path("open", directory))?;
    lock.lock().map_err(Error::path("lock", directory))?;
    let share = || mount(None::<&str>, directory, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    if share().is_ok() {
        return Ok(());
    }
    mount(Some(directory), directory, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .and_then(|()| share())
        .map_err(Error::path("share the mount", directory))
}
