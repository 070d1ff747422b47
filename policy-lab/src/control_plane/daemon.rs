//! A process of a control plane: started in its namespace with a log, frozen, killed, and gone with its guard.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cleanup;
use crate::error::{Error, Result};
use crate::netns::NetNs;

/// A daemon, running or not.
#[derive(Debug)]
pub(super) struct Daemon {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
    netns: Arc<NetNs>,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// One that is not started yet; its output of all its starts goes to a file `NAME.log` in `directory`.
    pub(super) fn new(
        name: &'static str,
        program: &Path,
        arguments: Vec<OsString>,
        netns: &Arc<NetNs>,
        directory: &Path,
    ) -> Self {
        let log = directory.join(format!("{name}.log"));
        Self { name, program: program.into(), arguments, netns: Arc::clone(netns), log, child: None }
    }

    /// Starts it, unless it runs.
    pub(super) fn spawn(&mut self) -> Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        let _open = cleanup::permit()?;
        let log =
            OpenOptions::new().create(true).append(true).open(&self.log).map_err(Error::path("open", &self.log))?;
        let errors = log.try_clone().map_err(Error::path("open", &self.log))?;
        let child = self
            .netns
            .command(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C at the terminal is for the lab, which then ends them.
            .process_group(0)
            .spawn()
            .map_err(Error::path("run", &self.program))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until `is_ready` holds, checking that the process lives.
    pub(super) fn wait_until(
        &mut self,
        what: &str,
        within: Duration,
        mut is_ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        while !is_ready() {
            let lives = self.is_running()?;
            if !lives || Instant::now() >= deadline {
                let ended = if lives { "" } else { ", it has ended" };
                return Err(Error::Timeout {
                    what: format!("{what} of {} in {}", self.name, self.netns.name()),
                    within_ms: within.as_millis(),
                    detail: format!("{ended}; its log ends:\n{}", self.log_tail()),
                });
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its process id while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = self.pid() else {
            return Err(Error::Invalid { what: format!("{} in {} does not run", self.name, self.netns.name()) });
        };
        kill(Pid::from_raw(pid as i32), signal).map_err(Error::io(format!("cannot send {signal} to {}", self.name)))
    }

    /// Kills it (SIGKILL) and waits until it is gone. A frozen one, too.
    pub(super) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            let failed = format!("cannot kill {} in {}", self.name, self.netns.name());
            child.kill().and_then(|()| child.wait()).map_err(Error::io(failed))?;
        }
        Ok(())
    }

    /// The file that has its output.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        const LINES: usize = 20;
        let log = fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn is_running(&mut self) -> Result<bool> {
        let Some(child) = &mut self.child else {
            return Ok(false);
        };
        let ended = child.try_wait().map_err(Error::io(format!("cannot wait for {}", self.name)))?;
        if ended.is_some() {
            self.child = None;
        }
        Ok(ended.is_none())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
