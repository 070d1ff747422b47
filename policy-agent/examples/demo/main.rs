//! The demo of `cargo xtask demo`: clusters in network namespaces, real agents, real traffic; with `--kube`, real API
//! servers.

mod kube_story;
mod screen;
mod story;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use policy_lab::control_plane::Assets;

/// The programs that the demo runs, built beside it.
pub struct Programs {
    /// `policy-agent`.
    pub agent: PathBuf,
    /// `policyctl`.
    pub policyctl: PathBuf,
}

impl Programs {
    /// Those two directories above this program: `target/release/examples/demo` → `target/release`.
    fn beside_this() -> anyhow::Result<Self> {
        let this = std::env::current_exe().context("find this program")?;
        let folder = this.ancestors().nth(2).context("this program is in target/…/examples")?;
        let programs = Self { agent: folder.join("policy-agent"), policyctl: folder.join("policyctl") };
        for program in [&programs.agent, &programs.policyctl] {
            anyhow::ensure!(program.is_file(), "{} is missing: run `cargo xtask demo`", program.display());
        }
        Ok(programs)
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let programs = Programs::beside_this()?;
    match policy_lab::can_run() {
        Ok(()) => {
            policy_lab::remove_labs_on_signals()?;
            match std::env::args().any(|argument| argument == "--kube") {
                true => kube_story::tell(&programs, Assets::from_env().map_err(anyhow::Error::msg)?)?,
                false => story::tell(&programs)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(missing) => simulated(&programs, &missing),
    }
}

/// What can be shown without root and namespaces: the same decisions, simulated.
fn simulated(programs: &Programs, missing: &str) -> anyhow::Result<ExitCode> {
    screen::warning(&format!("the demo with real traffic cannot run here: {missing}"));
    screen::chapter("The same decisions, simulated");
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/three-clusters/clusterset.yaml");
    screen::command("policyctl simulate deploy/examples/three-clusters/clusterset.yaml");
    let status = Command::new(&programs.policyctl).args(["simulate", example]).status().context("run policyctl")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
