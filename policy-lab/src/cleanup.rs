//! Leaves nothing behind: what a lab makes carries its process id, and is swept on drop, on signals and by the next run.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{Error, Result};
use crate::netns;

/// Where each lab has a directory for its files: sockets, manifests, logs, bpffs. They
/// share no directory of their own, which one lab would remove while another begins.
pub(crate) const LABS_DIR: &str = "/run";

/// One lab of one process: the common prefix of the names of everything it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    pid: u32,
    serial: u32,
}

impl RunId {
    /// A new one of this process.
    #[must_use]
    pub fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        Self { pid: std::process::id(), serial: SERIAL.fetch_add(1, Ordering::Relaxed) }
    }

    /// The directory of this lab's files.
    #[must_use]
    pub fn directory(self) -> PathBuf {
        Path::new(LABS_DIR).join(self.to_string())
    }

    /// The run that a namespace or directory name belongs to.
    fn of_name(name: &str) -> Option<Self> {
        let prefix = name.split_once('-').map_or(name, |(prefix, _)| prefix);
        prefix.parse().ok()
    }

    fn is_dead(self) -> bool {
        !Path::new("/proc").join(self.pid.to_string()).exists()
    }
}

impl Default for RunId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, serial } = self;
        write!(f, "cw{pid}x{serial}")
    }
}

impl FromStr for RunId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.strip_prefix("cw").and_then(|rest| {
            let (pid, serial) = rest.split_once('x')?;
            Some(Self { pid: pid.parse().ok()?, serial: serial.parse().ok()? })
        });
        parsed.ok_or_else(|| Error::Invalid { what: format!("{text} is not the name of a lab") })
    }
}

/// Removes everything that one lab has made: its processes, namespaces, bpffs and files.
/// What is already gone is fine.
pub(crate) fn sweep(run: RunId) {
    sweep_where(|found| found == run);
}

/// Removes what earlier processes left, that died without a chance to clean up.
pub fn sweep_dead_runs() {
    sweep_where(RunId::is_dead);
}

type Cleanup = Box<dyn FnOnce() + Send>;

/// The state of shutting down: `None` once it has begun.
static CLEANUPS: Mutex<Option<Vec<Cleanup>>> = Mutex::new(Some(Vec::new()));

/// Held while something nameable is made; refuses once a shutdown has begun, so that
/// nothing is made behind the sweep's back.
pub(crate) struct Permit(#[expect(dead_code, reason = "held for its drop")] MutexGuard<'static, Option<Vec<Cleanup>>>);

pub(crate) fn permit() -> Result<Permit> {
    let state = lock();
    if state.is_none() {
        return Err(Error::ShuttingDown);
    }
    Ok(Permit(state))
}

/// Runs `cleanup` before the labs are removed, if a signal ends the process.
pub fn on_signal(cleanup: impl FnOnce() + Send + 'static) {
    if let Some(cleanups) = lock().as_mut() {
        cleanups.push(Box::new(cleanup));
    }
}

/// Makes SIGINT, SIGTERM and SIGHUP remove this process's labs before they end it.
/// Safe to call more than once.
pub fn remove_labs_on_signals() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut outcome = Ok(());
    ONCE.call_once(|| outcome = install());
    outcome
}

fn install() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Error::io("cannot catch signals"))?;
    thread::Builder::new()
        .name("lab-signals".into())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let cleanups = lock().take().unwrap_or_default();
                for cleanup in cleanups {
                    cleanup();
                }
                let own = std::process::id();
                sweep_where(|run| run.pid == own);
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        })
        .map_err(Error::io("cannot start the signal thread"))?;
    Ok(())
}

fn lock() -> MutexGuard<'static, Option<Vec<Cleanup>>> {
    CLEANUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sweep_where(wanted: impl Fn(RunId) -> bool) {
    let belongs = |name: &String| RunId::of_name(name).is_some_and(&wanted);
    let namespaces: Vec<String> = names_in(netns::NETNS_DIR).filter(belongs).collect();
    end_processes(&namespaces);
    for name in &namespaces {
        netns::remove_named(name);
    }
    for name in names_in(LABS_DIR).filter(belongs) {
        let directory = Path::new(LABS_DIR).join(name);
        let _ = umount2(&bpffs_of(&directory), MntFlags::MNT_DETACH);
        let _ = fs::remove_dir_all(&directory);
    }
}

/// The mount point of a lab's own bpffs.
pub(crate) fn bpffs_of(lab_directory: &Path) -> PathBuf {
    lab_directory.join("bpf")
}

fn names_in(directory: &str) -> impl Iterator<Item = String> {
    fs::read_dir(directory).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// Kills every other process that lives in one of these namespaces, and waits until it is gone.
///
/// A process gets there only through the lab that made the namespace.
pub(crate) fn end_processes(namespaces: &[impl AsRef<str>]) {
    let ids: Vec<_> = namespaces.iter().filter_map(|name| netns::id_of(&netns::path_of(name.as_ref()))).collect();
    if ids.is_empty() {
        return;
    }
    for _ in 0..100 {
        let inside = processes_inside(&ids);
        if inside.is_empty() {
            return;
        }
        for pid in inside {
            let _ = kill(pid, Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn processes_inside(ids: &[(u64, u64)]) -> Vec<Pid> {
    let own = std::process::id();
    names_in("/proc")
        .filter_map(|name| name.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            // A zombie has no namespace any more, so it does not count.
            netns::id_of(&Path::new("/proc").join(pid.to_string()).join("ns/net")).is_some_and(|id| ids.contains(&id))
        })
        .filter_map(|pid| i32::try_from(pid).ok().map(Pid::from_raw))
        .collect()
}
