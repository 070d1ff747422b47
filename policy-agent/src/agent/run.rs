//! Wiring: from the command line to a running loop.

use std::future::Future;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use policy_core::plan::TableState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::control::{Control, Ending, Inbox, Settings};
use super::options::{Cli, RunOptions, UninstallOptions, Verb};
use super::seams;
use super::state_dir::StateDir;
use crate::api::Server;
use crate::datapath::{self, Capacities, Datapath};
use crate::discovery::Discovery;
use crate::metrics::MetricsServer;
use crate::sources::files::{self, FilesSource};

/// How many batches may wait before the source does.
const BATCHES: usize = 64;
/// How many questions may wait before those who ask do.
const QUESTIONS: usize = 16;

impl Cli {
    /// Runs the verb that was asked for.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Run(options) => {
                log_to_stderr(options.log);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.context("cannot start the runtime")?;
                let ended = runtime.block_on(run(options));
                // A file that is being read may hang with its file system; the end does not wait for it.
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
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(colored)
        .with_writer(std::io::stderr)
        .init();
}

async fn run(options: RunOptions) -> anyhow::Result<()> {
    let source = FilesSource::open(&options.cluster_set)?;
    let _state_dir = StateDir::take(&options.state_dir)?;
    // Signals are listened to before anything is touched.
    let asked = asked_to_end()?;
    let (datapath, tables) = Datapath::open(&options.bpffs, &Capacities::default())?;
    let network = Discovery::open()?;
    serve(options, source, tables, datapath, network, asked).await
}

/// Runs the loop over a machine until it is asked to end.
async fn serve<D: seams::Datapath, N: seams::Discovery>(
    options: RunOptions,
    source: FilesSource,
    tables: TableState,
    datapath: D,
    network: N,
    asked: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let local = source.local().clone();
    let config = source.cluster_set().config(&local);
    let settings = Settings {
        node: options.node.as_str().into(),
        cluster_set: options.cluster_set,
        sync_deadline: Duration::from_secs(options.sync_deadline),
    };
    let (batch_sender, batches) = mpsc::channel(BATCHES);
    let (query_sender, queries) = mpsc::channel(QUESTIONS);
    let (scrape_sender, scrapes) = mpsc::channel(QUESTIONS);
    let control = Control::new(settings, &config, tables, datapath, network);
    tokio::spawn(Server::bind(&options.socket)?.serve(query_sender));
    match options.metrics {
        Some(address) => {
            let server = MetricsServer::bind(address).await?;
            tracing::info!("metrics at http://{}/metrics", server.address().unwrap_or(address));
            tokio::spawn(server.serve(scrape_sender));
        }
        // The loop only listens; without metrics nobody ever asks.
        None => drop(scrape_sender),
    }
    tokio::spawn(files::watch(source, batch_sender));
    tracing::info!("policy-agent {} of node {} in cluster {local}", env!("CARGO_PKG_VERSION"), options.node);
    let ending = control.run(Inbox { batches, queries, scrapes }, asked).await;
    // What is left of it would only be answered by nobody.
    drop(std::fs::remove_file(&options.socket));
    match ending {
        Ending::Asked => Ok(()),
        Ending::SourceEnded => anyhow::bail!("the files are not watched any more; the kernel enforces the last policy"),
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
