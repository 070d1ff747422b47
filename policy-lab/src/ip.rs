//! Batches of `ip` commands: one process per namespace however much there is to set up.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::process::Stdio;

use crate::error::{Error, Result};
use crate::netns::NetNs;

/// Lines for `ip -batch`, collected and then run at once.
#[derive(Debug, Default)]
pub(crate) struct IpBatch {
    lines: String,
}

impl IpBatch {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds one command, without the leading `ip`.
    pub(crate) fn add(&mut self, command: fmt::Arguments<'_>) {
        let _ = writeln!(self.lines, "{command}");
    }

    /// Runs the batch inside `namespace`; stops at the first line that fails.
    pub(crate) fn run(&self, namespace: &NetNs) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let cannot = || format!("cannot run ip in {}", namespace.name());
        let mut child = namespace
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::io(cannot()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // ip stops reading at a failing line; its message says more than the broken pipe.
            let _ = stdin.write_all(self.lines.as_bytes());
        }
        let output = child.wait_with_output().map_err(Error::io(cannot()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::Command {
            command: "ip -batch".into(),
            namespace: namespace.name().into(),
            stderr: self.explain(said.trim()),
        })
    }

    /// Adds the text of the failing line to ip's "Command failed -:LINE".
    fn explain(&self, said: &str) -> String {
        let line = said
            .rsplit_once("-:")
            .and_then(|(_, number)| number.trim().parse::<usize>().ok())
            .and_then(|number| self.lines.lines().nth(number.checked_sub(1)?));
        let said = said.replace('\n', "; ");
        match line {
            Some(line) => format!("{said} (ip {line})"),
            None => said,
        }
    }
}

/// Adds a line to an [`IpBatch`] in the manner of `format!`.
macro_rules! ip {
    ($batch:expr, $($line:tt)*) => { $batch.add(format_args!($($line)*)) };
}
pub(crate) use ip;
