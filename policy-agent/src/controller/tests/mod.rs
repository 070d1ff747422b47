//! Controllers and an API server of a test: who leads, and what the leader writes.

mod adversity;
mod election;
mod leader;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{Candidate, Status, Term, Timing, elect};
use crate::sources::kube::Here;
use crate::sources::kube::tests::server::Server;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/crosswall-system/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/crosswall-system/leases/crosswall-controller";
/// How long something that must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server, and a folder with a kubeconfig for it.
struct World {
    server: Server,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let (server, folder) = (Server::start().await, tempfile::tempdir().expect("a directory"));
        std::fs::write(folder.path().join("kubeconfig"), server.kubeconfig()).expect("written");
        Self { server, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    fn here(&self) -> Here {
        Here::File(self.path("kubeconfig"))
    }

    /// A candidate that does this whenever it leads.
    fn candidate<L: Future<Output = anyhow::Result<()>> + Send>(
        &self,
        identity: &str,
        timing: Timing,
        status: Status,
        lead: impl Fn(Term) -> L + Send + Sync + 'static,
    ) -> Running {
        let candidate = Candidate::new(self.here(), "crosswall-system".to_owned(), identity.to_owned(), timing);
        let (end, ended) = oneshot::channel();
        let asked = async move { drop(ended.await) };
        let task = tokio::spawn(async move { elect(candidate, &status, lead, asked).await });
        Running { end, task }
    }
}

/// A candidate that runs.
struct Running {
    end: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// As SIGTERM does.
    async fn end(self) {
        drop(self.end);
        self.task.await.expect("no panic").expect("no error");
    }

    /// Why it ended by itself.
    async fn ended(self) -> anyhow::Error {
        self.task.await.expect("no panic").expect_err("it cannot go on")
    }

    /// As SIGKILL does.
    async fn kill(self) {
        self.task.abort();
        let ended = self.task.await.expect_err("it was running");
        assert!(ended.is_cancelled(), "{ended}");
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
