//! The command line of `policy-agent`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, value_parser};

use crate::sources::kube::{ClusterSetMap, Here};

/// Where the agent listens if nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/crosswall/agent.sock";
/// Where the maps and links are pinned if nothing else is said.
const DEFAULT_BPFFS: &str = "/sys/fs/bpf";
/// Where a controller keeps its state if nothing else is said.
const DEFAULT_CONTROLLER_DIR: &str = "/var/lib/crosswall-controller";
/// Where the agent keeps its state if nothing else is said.
const DEFAULT_STATE_DIR: &str = "/var/lib/crosswall";

const EXAMPLES: &str = "\
Examples:
  policy-agent run --node worker-1 --cluster-set /etc/crosswall/clusterset.yaml
  policy-agent run --node worker-1 --cluster-set configmap:crosswall-system/clusterset
  policy-agent run --node worker-1 --cluster-set clusterset.yaml --metrics 127.0.0.1:9464
  policy-agent controller --cluster-set clusterset.yaml --namespace crosswall-system --identity controller-1
  policy-agent uninstall

The end of the agent (SIGTERM, SIGINT) leaves the kernel enforcing the last policy; `uninstall` ends that too.
What it says can be widened with --log debug.";

/// Enforces the network policy of one node.
#[derive(Debug, Parser)]
#[command(name = "policy-agent", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Enforce the policies of a ClusterSet on this node, until SIGTERM.
    Run(Box<RunOptions>),
    /// Write on the policies of this cluster what is wrong with them, until SIGTERM: once per cluster, whoever leads.
    Controller(Box<ControllerOptions>),
    /// Remove the programs and tables of Crosswall from the kernel: nothing is enforced from then on.
    Uninstall(UninstallOptions),
    /// Print the version.
    Version,
}

/// What whoever follows a ClusterSet is told.
#[derive(Args, Clone, Debug)]
pub(super) struct CommonOptions {
    /// The ClusterSet: a file, or a ConfigMap of the local cluster.
    #[arg(long, value_name = "PATH | configmap:NAMESPACE/NAME[/KEY]", env = "CROSSWALL_CLUSTER_SET",
        value_parser = value_parser!(ClusterSetPlace))]
    pub(super) cluster_set: ClusterSetPlace,
    /// A kubeconfig of the local cluster, where this is no pod of it: with it the ConfigMap of the ClusterSet is read, and
    /// the ClusterProperty that says which cluster this is.
    #[arg(long, value_name = "PATH", env = "CROSSWALL_KUBECONFIG")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Which programs give credentials for members that a ClusterProfile describes: a file as KEP-5339 has it.
    #[arg(long, value_name = "FILE", env = "CROSSWALL_ACCESS_PROVIDERS")]
    pub(super) access_providers: Option<PathBuf>,
    /// Serve /metrics, /healthz and /readyz at this address and port.
    #[arg(long, value_name = "ADDR", env = "CROSSWALL_METRICS")]
    pub(super) metrics: Option<SocketAddr>,
    /// What to log: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", env = "CROSSWALL_LOG", default_value = "info")]
    pub(super) log: tracing::Level,
}

impl CommonOptions {
    /// The credentials for the local cluster.
    pub(super) fn local(&self) -> Here {
        self.kubeconfig.clone().map_or(Here::InCluster, Here::File)
    }
}

#[derive(Args, Clone, Debug)]
pub(super) struct RunOptions {
    /// This node's name, as pods name it in spec.nodeName.
    #[arg(long, value_name = "NAME", env = "CROSSWALL_NODE")]
    pub(super) node: String,
    #[command(flatten)]
    pub(super) common: CommonOptions,
    /// The BPF file system; maps and links are pinned below DIR/crosswall.
    #[arg(long, value_name = "DIR", env = "CROSSWALL_BPFFS", default_value = DEFAULT_BPFFS)]
    pub(super) bpffs: PathBuf,
    /// Where to listen for policyctl.
    #[arg(long, value_name = "PATH", env = "CROSSWALL_SOCKET", default_value = DEFAULT_SOCKET)]
    pub(super) socket: PathBuf,
    /// Where to keep state; one agent at a time.
    #[arg(long, value_name = "DIR", env = "CROSSWALL_STATE_DIR", default_value = DEFAULT_STATE_DIR)]
    pub(super) state_dir: PathBuf,
    /// How many seconds to leave the kernel alone at the start while a remote member has not told all it has; the local
    /// cluster is waited for in any case.
    #[arg(long, value_name = "SECONDS", env = "CROSSWALL_SYNC_DEADLINE", default_value_t = 5,
        value_parser = value_parser!(u64).range(0..=86_400))]
    pub(super) sync_deadline: u64,
    /// How many seconds an API server may say nothing before it is asked anew; it tells at least a bookmark each minute.
    #[arg(long, value_name = "SECONDS", env = "CROSSWALL_WATCH_SILENCE", default_value_t = 100,
        value_parser = value_parser!(u64).range(1..=3600))]
    pub(super) watch_silence: u64,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ControllerOptions {
    #[command(flatten)]
    pub(super) common: CommonOptions,
    /// The namespace of the Lease by which one of several controllers is chosen.
    #[arg(long, value_name = "NAMESPACE", env = "CROSSWALL_NAMESPACE")]
    pub(super) namespace: String,
    /// The name of this controller, which no other has: that of its pod.
    #[arg(long, value_name = "NAME", env = "CROSSWALL_IDENTITY")]
    pub(super) identity: String,
    /// Where to keep a copy of a ClusterSet that is a ConfigMap; not that of an agent.
    #[arg(long, value_name = "DIR", env = "CROSSWALL_STATE_DIR", default_value = DEFAULT_CONTROLLER_DIR)]
    pub(super) state_dir: PathBuf,
}

/// Where the ClusterSet stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterSetPlace {
    /// In a file.
    File(PathBuf),
    /// In a ConfigMap.
    ConfigMap(ClusterSetMap),
}

impl FromStr for ClusterSetPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("configmap:") {
            Some(map) => map.parse().map(Self::ConfigMap),
            None => Ok(Self::File(text.into())),
        }
    }
}

impl fmt::Display for ClusterSetPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::ConfigMap(map) => map.fmt(f),
        }
    }
}

#[derive(Args, Clone, Debug)]
pub(super) struct UninstallOptions {
    /// The BPF file system.
    #[arg(long, value_name = "DIR", env = "CROSSWALL_BPFFS", default_value = DEFAULT_BPFFS)]
    pub(super) bpffs: PathBuf,
}

#[cfg(test)]
impl RunOptions {
    /// Those of an agent with this kubeconfig and state directory.
    pub(super) fn of_test(kubeconfig: &std::path::Path, state_dir: &std::path::Path, cluster_set: &str) -> Self {
        let (kubeconfig, state_dir) = (kubeconfig.display().to_string(), state_dir.display().to_string());
        let flags = ["--cluster-set", cluster_set, "--kubeconfig", &kubeconfig, "--state-dir", &state_dir];
        let arguments = ["policy-agent", "run", "--node", "n"].into_iter().chain(flags);
        match Cli::try_parse_from(arguments).expect("it can be read").verb {
            Verb::Run(options) => *options,
            other => panic!("{other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::Cli;

    #[test]
    fn a_deadline_is_a_day_at_most() {
        let parse = |seconds: &str| {
            Cli::try_parse_from(["policy-agent", "run", "--node=n", "--cluster-set=x", "--sync-deadline", seconds])
        };
        assert!(parse("0").is_ok() && parse("86400").is_ok());
        let refused = parse("18446744073709551615").expect_err("no clock goes so far");
        assert!(refused.to_string().contains("is not in 0..=86400"), "{refused}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
