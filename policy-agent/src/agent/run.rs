//! Wiring: from the command line to a running loop.

use std::future::Future;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use policy_core::plan::TableState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::control::{Control, Ending, Inbox, Settings};
use super::find::{Found, find, find_at, require_credentials};
use super::options::{Cli, ClusterSetPlace, ControllerOptions, RunOptions, UninstallOptions, Verb};
use super::seams;
use super::state_dir::StateDir;
use crate::api::Server;
use crate::cluster_set::ClusterSet;
use crate::controller::{Calling, Candidate, Leader, Pace, Status, Timing, elect};
use crate::datapath::{self, Capacities, Datapath};
use crate::discovery::Discovery;
use crate::metrics::{MetricsServer, Scrape};
use crate::sources;
use crate::sources::kube::{Conduct, snapshot::Scribe};

/// What a member has not told after this part of the time for which it is waited for is looked for in its snapshot…
const RESTORE_SHARE: f64 = 0.4;
/// … and after so long at most.
const RESTORE_LIMIT: Duration = Duration::from_secs(10);
/// How many batches may wait before the source does.
const BATCHES: usize = 64;
/// How many questions may wait before those who ask do.
const QUESTIONS: usize = 16;

impl Cli {
    /// Runs the verb that was asked for.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Run(options) => {
                log_to_stderr(options.common.log);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.context("cannot start the runtime")?;
                let ended = runtime.block_on(run(*options));
                // A file that is being read may hang with its file system; the end does not wait for it.
                runtime.shutdown_background();
                ended?;
            }
            Verb::Controller(options) => {
                log_to_stderr(options.common.log);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.context("cannot start the runtime")?;
                let ended = runtime.block_on(control_cluster(*options));
                runtime.shutdown_background();
                ended?;
            }
            Verb::Uninstall(UninstallOptions { bpffs }) => println!("{}", datapath::uninstall(&bpffs)?),
            Verb::Version => println!("policy-agent {}", env!("CARGO_PKG_VERSION")),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn log_to_stderr(level: tracing::Level) {
    let stderr = std::io::stderr();
    let colored = stderr.is_terminal();
    let fmt = tracing_subscriber::fmt::layer().with_target(false).with_ansi(colored).with_writer(std::io::stderr);
    // Libraries say what their errors say too, connection by connection.
    let others = if level == tracing::Level::TRACE { tracing::Level::DEBUG } else { tracing::Level::ERROR };
    let targets = Targets::new().with_default(others).with_target(env!("CARGO_CRATE_NAME"), level);
    // This one says that requests fail without saying whose; what they mean for a member is told once.
    let targets =
        if level == tracing::Level::TRACE { targets } else { targets.with_target("kube_client", LevelFilter::OFF) };
    tracing_subscriber::registry().with(fmt).with(targets).init();
}

async fn run(options: RunOptions) -> anyhow::Result<()> {
    let _state_dir = StateDir::take(&options.state_dir)?;
    let scribe = Scribe::start(options.state_dir.join("members")).context("cannot start the writer of snapshots")?;
    // Signals are listened to before anything is touched.
    let asked = asked_to_end()?;
    tokio::pin!(asked);
    let source = tokio::select! {
        found = find(&options) => found?,
        () = &mut asked => return Ok(()),
    };
    let (datapath, tables) = Datapath::open(&options.bpffs, &Capacities::default())?;
    let network = Discovery::open()?;
    serve(options, source, Some(scribe), tables, datapath, network, asked).await
}

/// Does what is done once per cluster, whenever this one leads, until it is asked to end.
async fn control_cluster(options: ControllerOptions) -> anyhow::Result<()> {
    let ControllerOptions { common, namespace, identity, state_dir } = options;
    let asked = asked_to_end()?;
    // Only a copy of a ConfigMap is kept.
    let _state_dir = match &common.cluster_set {
        // What is wrong with the file is said now, not once this one leads.
        ClusterSetPlace::File(path) => ClusterSet::load(path).map(|_| None)?,
        ClusterSetPlace::ConfigMap(_) => Some(StateDir::take(&state_dir)?),
    };
    let local = common.local();
    require_credentials(&local).await?;
    let status = Status::default();
    if let Some(address) = common.metrics {
        let mut scrapes = serve_metrics(address).await?;
        let status = status.clone();
        tokio::spawn(async move {
            while let Some(scrape) = scrapes.recv().await {
                status.answer(scrape);
            }
        });
    }
    let lead = |term| {
        let (common, local, status) = (&common, local.clone(), status.clone());
        let (identity, state_dir) = (identity.clone(), &state_dir);
        async move {
            let found = find_at(&common.cluster_set, local, state_dir).await?;
            let access_providers = common.access_providers.clone();
            let calling = Calling { found, access_providers, identity, status, pace: Pace::default() };
            Leader::lead(calling, term).await
        }
    };
    tracing::info!("controller {} as {identity}", env!("CARGO_PKG_VERSION"));
    let candidate = Candidate::new(local.clone(), namespace, identity.clone(), Timing::default());
    elect(candidate, &status, lead, asked).await
}

/// Listens for who reads metrics; each that comes is handed on.
async fn serve_metrics(address: SocketAddr) -> anyhow::Result<mpsc::Receiver<Scrape>> {
    let server = MetricsServer::bind(address).await?;
    tracing::info!("metrics at http://{}/metrics", server.address().unwrap_or(address));
    let (sender, scrapes) = mpsc::channel(QUESTIONS);
    tokio::spawn(server.serve(sender));
    Ok(scrapes)
}

/// Runs the loop over a machine until it is asked to end.
async fn serve<D: seams::Datapath, N: seams::Discovery>(
    options: RunOptions,
    source: Found,
    scribe: Option<Scribe>,
    tables: TableState,
    datapath: D,
    network: N,
    asked: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let Found { files, mirror } = source;
    let common = options.common;
    let local = files.local().clone();
    let config = files.cluster_set().config(&local);
    let settings = Settings {
        node: options.node.as_str().into(),
        cluster_set: common.cluster_set.to_string(),
        sync_deadline: Duration::from_secs(options.sync_deadline),
    };
    let (batch_sender, batches) = mpsc::channel(BATCHES);
    let (query_sender, queries) = mpsc::channel(QUESTIONS);
    let scrapes = match common.metrics {
        Some(address) => serve_metrics(address).await?,
        // The loop only listens; without metrics nobody ever asks.
        None => mpsc::channel(QUESTIONS).1,
    };
    let control = Control::new(settings, &config, tables, datapath, network);
    // Last of all that can fail: its file is removed at the end.
    tokio::spawn(Server::bind(&options.socket)?.serve(query_sender));
    let conduct = Conduct {
        silence: Duration::from_secs(options.watch_silence),
        restore_after: Duration::from_secs(options.sync_deadline).mul_f64(RESTORE_SHARE).min(RESTORE_LIMIT),
        scribe,
        access_providers: common.access_providers,
    };
    tokio::spawn(sources::follow::follow(files, mirror, conduct, batch_sender));
    tracing::info!("policy-agent {} of node {} in cluster {local}", env!("CARGO_PKG_VERSION"), options.node);
    let ending = control.run(Inbox { batches, queries, scrapes }, asked).await;
    // What is left of it would only be answered by nobody.
    drop(std::fs::remove_file(&options.socket));
    match ending {
        Ending::Asked => Ok(()),
        Ending::SourceEnded => {
            bail!("the sources are not followed any more; the kernel enforces the last policy")
        }
    }
}

/// Ready when SIGTERM or SIGINT comes.
fn asked_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use clap::Parser as _;

    use super::super::tests::machine::Machine;
    use super::*;

    /// The options of an agent in a folder, which has a ClusterSet of one member.
    fn options(folder: &std::path::Path, more: &[&str]) -> RunOptions {
        let set = "{apiVersion: crosswall.dev/v1alpha1, kind: ClusterSet, spec: {local: a, members: [{id: a, source: \
                   {directory: {path: a}}}]}}";
        std::fs::write(folder.join("set.yaml"), set).expect("written");
        std::fs::create_dir(folder.join("a")).expect("made");
        let path = |name: &str| folder.join(name).display().to_string();
        let (set, socket) = (path("set.yaml"), path("agent.sock"));
        let arguments = ["policy-agent", "run", "--node", "n", "--cluster-set", &set, "--socket", &socket];
        match Cli::try_parse_from(arguments.iter().chain(more)).expect("it can be read").verb {
            Verb::Run(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_start_that_fails_leaves_no_socket() {
        let folder = tempfile::tempdir().expect("a directory");
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("it listens").to_string();
        let options = options(folder.path(), &["--metrics", &address]);
        let source = find(&options).await.expect("it can be read");
        let (machine, tables) = (Machine::default(), TableState::default());
        let served = serve(options, source, None, tables, machine.clone(), machine, std::future::pending()).await;
        let error = served.expect_err("the port is taken").to_string();
        assert!(error.contains("--metrics"), "{error}");
        assert!(!folder.path().join("agent.sock").exists());
    }
}
