//! Runs an agent on a node of the lab: started by its path, watched by its socket, killed at will.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cleanup;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::netns::NetNs;

/// How an agent is started.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    binary: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    bpffs: Option<PathBuf>,
    ready_within: Duration,
}

/// An agent of one node. Dropping it kills the process; its programs go on enforcing, until
/// the lab's bpffs goes.
#[derive(Debug)]
pub struct Agent {
    node: String,
    netns: Arc<NetNs>,
    options: AgentOptions,
    arguments: Vec<OsString>,
    socket: PathBuf,
    bpffs: PathBuf,
    state_dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl AgentOptions {
    /// Runs this binary.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            bpffs: None,
            ready_within: Duration::from_secs(30),
        }
    }

    /// Adds an argument after the lab's own.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// Uses another directory than the node's on the lab's bpffs.
    #[must_use]
    pub fn bpffs(mut self, directory: impl Into<PathBuf>) -> Self {
        self.bpffs = Some(directory.into());
        self
    }

    /// How long the socket may take to appear (10 s).
    #[must_use]
    pub fn ready_within(mut self, limit: Duration) -> Self {
        self.ready_within = limit;
        self
    }
}

impl Lab {
    /// Starts `policy-agent run` inside a node (`CLUSTER/NODE`) and waits until its socket
    /// answers. Its output goes to [`Agent::log_path`].
    pub fn start_agent(&self, node: &str, options: AgentOptions) -> Result<Agent> {
        let mut agent = self.prepare_agent(node, options)?;
        agent.start()?;
        Ok(agent)
    }

    /// Starts an agent on every node, all at the same time; waits for all.
    pub fn start_agents(&self, options: &AgentOptions) -> Result<Vec<Agent>> {
        let mut agents =
            self.nodes().map(|node| self.prepare_agent(node.name(), options.clone())).collect::<Result<Vec<_>>>()?;
        agents.iter_mut().try_for_each(Agent::spawn)?;
        agents.iter_mut().try_for_each(Agent::wait_for_socket)?;
        Ok(agents)
    }

    /// An agent that is not started yet.
    pub fn prepare_agent(&self, node: &str, options: AgentOptions) -> Result<Agent> {
        let netns = Arc::clone(self.host(node)?.netns());
        let bpffs = match &options.bpffs {
            Some(directory) => directory.clone(),
            None => self.bpffs(node)?,
        };
        let (cluster, name) = node.split_once('/').ok_or_else(|| Error::Unknown { kind: "node", name: node.into() })?;
        let directory = self.directory().join("agents").join(node.replace('/', "-"));
        let state_dir = directory.join("state");
        fs::create_dir_all(&state_dir).map_err(Error::path("create", &state_dir))?;
        let socket = directory.join("agent.sock");
        let cluster_set = self.manifests().cluster_set(cluster);
        let mut arguments: Vec<OsString> = vec!["run".into(), "--node".into(), name.into()];
        for (flag, path) in
            [("--cluster-set", &cluster_set), ("--bpffs", &bpffs), ("--socket", &socket), ("--state-dir", &state_dir)]
        {
            arguments.extend([flag.into(), path.into()]);
        }
        arguments.extend(options.arguments.iter().cloned());
        Ok(Agent {
            node: node.into(),
            netns,
            options,
            arguments,
            socket,
            bpffs,
            state_dir,
            log: directory.join("agent.log"),
            child: None,
        })
    }
}

impl Agent {
    /// The node it runs on.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The node's network namespace, for commands beside the agent.
    #[must_use]
    pub fn netns(&self) -> &Arc<NetNs> {
        &self.netns
    }

    /// Its unix socket, for `policyctl`.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its bpffs directory.
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Its state directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The file that has its output, of all its starts.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Its output so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it and waits until its socket answers.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_for_socket()
    }

    /// Starts it without waiting.
    pub fn spawn(&mut self) -> Result<()> {
        let _open = cleanup::permit()?;
        // A socket that an earlier start left behind must not look like an answer.
        let _ = fs::remove_file(&self.socket);
        let log = self.open_log()?;
        let errors = log.try_clone().map_err(Error::path("open", &self.log))?;
        let child = self
            .netns
            .command(&self.options.binary)
            .args(&self.arguments)
            .envs(self.options.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C at the terminal is for the lab, which then ends its agents.
            .process_group(0)
            .spawn()
            .map_err(Error::path("run", &self.options.binary))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until `is_ready` holds, checking that the process lives.
    pub fn wait_ready(&mut self, what: &str, within: Duration, mut is_ready: impl FnMut(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + within;
        while !is_ready(self) {
            let ended = self.try_wait()?;
            if ended.is_some() || Instant::now() >= deadline {
                let ended = ended.map(|status| format!(", it ended with {status}"));
                return Err(Error::Timeout {
                    what: format!("{what} of the agent on {}", self.node),
                    within_ms: within.as_millis(),
                    detail: format!("{}; its log ends:\n{}", ended.unwrap_or_default(), self.log_tail()),
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether the process lives.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && matches!(self.try_wait(), Ok(None))
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().map_err(Error::io(format!("cannot kill the agent on {}", self.node)))?;
            self.reap(&mut child)?;
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM); kills it when it takes too long, and says so with an error.
    pub fn stop(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        let Some(child) = &self.child else {
            return Ok(None);
        };
        let pid = Pid::from_raw(child.id() as i32);
        kill(pid, Signal::SIGTERM).map_err(Error::io(format!("cannot stop the agent on {}", self.node)))?;
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                self.kill()?;
                return Err(Error::Timeout {
                    what: format!("the end of the agent on {} after SIGTERM", self.node),
                    within_ms: within.as_millis(),
                    detail: format!("; its log ends:\n{}", self.log_tail()),
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it and starts it anew.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.start()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        const LINES: usize = 40;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn wait_for_socket(&mut self) -> Result<()> {
        let within = self.options.ready_within;
        self.wait_ready("the socket", within, |agent| UnixStream::connect(&agent.socket).is_ok())
    }

    /// Whether it has ended; then it is no longer a child.
    fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = child.try_wait().map_err(Error::io(format!("cannot wait for the agent on {}", self.node)))?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    fn reap(&self, child: &mut Child) -> Result<()> {
        child.wait().map(drop).map_err(Error::io(format!("cannot wait for the agent on {}", self.node)))
    }

    fn open_log(&self) -> Result<File> {
        OpenOptions::new().create(true).append(true).open(&self.log).map_err(Error::path("open", &self.log))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of the agent on {}, its end:\n{}", self.node, self.log_tail());
        }
        let _ = self.kill();
    }
}
