//! Distribution packages with the programs that the tests, the demo and the benchmarks call.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{process, report};

/// A program, and the packages that have it, by distribution and release: the first that installs is taken.
struct Tool {
    program: &'static str,
    packages: &'static [&'static str],
    need: Need,
}

/// Who cannot do without a program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// The tests and the demo.
    Tests,
    /// A benchmark, for what it compares with; without it that is left out.
    Comparison,
}

const TOOLS: [Tool; 6] = [
    Tool { program: "ip", packages: &["iproute2"], need: Need::Tests },
    Tool { program: "ping", packages: &["iputils-ping"], need: Need::Tests },
    Tool { program: "ethtool", packages: &["ethtool"], need: Need::Tests },
    Tool { program: "bpftool", packages: &["bpftool", "linux-tools-common"], need: Need::Tests },
    Tool { program: "nft", packages: &["nftables"], need: Need::Comparison },
    Tool { program: "iptables", packages: &["iptables"], need: Need::Comparison },
];

/// The programs that are absent from this machine and that tests need.
pub fn missing() -> Vec<&'static str> {
    absent().filter(|tool| tool.need == Need::Tests).map(|tool| tool.program).collect()
}

/// Installs what is absent, where that is possible; says what stays absent and how to get it.
pub fn ensure() -> Result<()> {
    let wanted: Vec<&Tool> = absent().collect();
    if wanted.is_empty() {
        report::found("tools", &TOOLS.map(|tool| tool.program).join(", "));
        return Ok(());
    }
    let names = wanted.iter().map(|tool| tool.program).collect::<Vec<_>>().join(", ");
    let packages = wanted.iter().map(|tool| tool.packages[0]).collect::<Vec<_>>().join(" ");
    if !crate::machine::is_root() || process::which("apt-get").is_none() {
        report::detail(&format!(
            "absent: {names}; as root: `apt-get install {packages}` or what this system has for it"
        ));
        return Ok(());
    }
    report::step(&format!("installing {names}"));
    let mut failed = wanted.iter().filter(|tool| !install(tool)).count();
    if failed > 0 {
        // A fresh machine has no lists yet, an old one stale lists.
        let _the_install_tells = quiet(Command::new("apt-get").arg("update"));
        failed = absent().filter(|tool| !install(tool)).count();
    }
    let still = absent().map(|tool| tool.program).collect::<Vec<_>>().join(", ");
    match failed {
        0 => report::done(&format!("installed {names}")),
        _ => report::detail(&format!("apt-get could not install {still}: what calls them is skipped")),
    }
    Ok(())
}

fn absent() -> impl Iterator<Item = &'static Tool> {
    TOOLS.iter().filter(|tool| process::which(tool.program).is_none())
}

fn install(tool: &Tool) -> bool {
    tool.packages.iter().any(|package| {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "--yes", "--quiet", "--no-install-recommends", package]);
        quiet(apt.env("DEBIAN_FRONTEND", "noninteractive")) && process::which(tool.program).is_some()
    })
}

fn quiet(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
