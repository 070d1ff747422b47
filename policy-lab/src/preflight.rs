//! Whether a lab can run on this machine, and if not, what is missing.

use std::fs;
use std::process::{Command, Stdio};

use nix::sys::utsname::uname;
use nix::unistd::Uid;

use crate::cleanup::RunId;
use crate::ip::{IpBatch, ip};
use crate::netns::NetNs;

/// The first kernel with tcx (Linux commit e420bed02507).
const TCX_SINCE: (u32, u32) = (6, 6);

/// Whether a lab with agents can run here. The error is one line that says what is missing.
pub fn can_run() -> Result<(), String> {
    let missing: Vec<String> =
        [root(), kernel(), command("ip", "-V", "the ip command (Debian package iproute2)"), bpffs()]
            .into_iter()
            .filter_map(Result::err)
            .collect();
    if !missing.is_empty() {
        return Err(format!("missing: {}", missing.join(", ")));
    }
    namespaces()
}

fn root() -> Result<(), String> {
    if Uid::effective().is_root() { Ok(()) } else { Err("root".into()) }
}

fn kernel() -> Result<(), String> {
    let (major, minor) = TCX_SINCE;
    let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(a), Some(b)) if (a, b) >= TCX_SINCE => Ok(()),
        _ => Err(format!("a kernel with tcx, {major}.{minor} or later (this is {release})")),
    }
}

fn command(program: &str, argument: &str, what: &str) -> Result<(), String> {
    let status = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err(what.into()),
    }
}

fn bpffs() -> Result<(), String> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.ends_with("\tbpf")) { Ok(()) } else { Err("the bpf file system".into()) }
}

/// Makes a namespace with the two kinds of interfaces, and removes it.
fn namespaces() -> Result<(), String> {
    let explain = |error: crate::Error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        format!("cannot make network namespaces: {error}{}", cause.unwrap_or_default())
    };
    let netns = NetNs::create(RunId::new(), "check").map_err(explain)?;
    let mut batch = IpBatch::new();
    ip!(batch, "link add veth1 type veth peer name veth2");
    ip!(batch, "link add br1 type bridge");
    batch.run(&netns).map_err(explain)
}
