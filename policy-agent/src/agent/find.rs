//! Finding the ClusterSet at the start: its file or ConfigMap, and which of its members this cluster is.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use policy_core::model::ClusterId;
use tokio::time::{sleep, timeout};

use super::options::{ClusterSetPlace, RunOptions};
use crate::cluster_set::ClusterSet;
use crate::sources::files::FilesSource;
use crate::sources::kube::{self, Here, Mirror, Trouble};

/// How long an API server may take to say what is known without it too.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is asked again for what is not.
const INTERVAL: Duration = Duration::from_secs(2);
/// The file that says what a ConfigMap says, in the state directory.
const MIRROR: &str = "clusterset.yaml";

/// The ClusterSet, found.
pub struct Found {
    /// Its file.
    pub files: FilesSource,
    /// The ConfigMap of which the file is a copy.
    pub mirror: Option<Mirror>,
}

/// Finds the ClusterSet of an agent. Waits for what only an API server knows, and says what it waits for.
pub(super) async fn find(options: &RunOptions) -> anyhow::Result<Found> {
    find_at(&options.common.cluster_set, options.common.local(), &options.state_dir).await
}

/// Finds the ClusterSet at a place; a ConfigMap is copied to this directory.
pub async fn find_at(place: &ClusterSetPlace, local: Here, state_dir: &Path) -> anyhow::Result<Found> {
    let mirror = match place {
        ClusterSetPlace::File(_) => None,
        ClusterSetPlace::ConfigMap(map) => {
            let copy = state_dir.join(MIRROR);
            if !copy.exists() {
                require_credentials(&local).await?;
            }
            Some(first(Mirror::start(map.clone(), local.clone(), copy)).await?)
        }
    };
    let path = match (place, &mirror) {
        (ClusterSetPlace::File(path), _) => path,
        (ClusterSetPlace::ConfigMap(_), Some(mirror)) => mirror.file(),
        (ClusterSetPlace::ConfigMap(map), None) => bail!("{map} is not followed"),
    };
    let says = word_of_cluster(path, &local).await?;
    Ok(Found { files: FilesSource::open(path, says)?, mirror })
}

/// Refuses to wait for what cannot come: a pod has its ServiceAccount from its start, while a kubeconfig may be written later.
pub(super) async fn require_credentials(local: &Here) -> anyhow::Result<()> {
    if let (Here::InCluster, Err(trouble)) = (local, local.client().await) {
        bail!("there are no credentials for the local cluster: {trouble}");
    }
    Ok(())
}

/// Waits for the content of a ConfigMap; if there is one of an earlier life, not for long.
async fn first(mut mirror: Mirror) -> anyhow::Result<Mirror> {
    let is_known = mirror.file().exists();
    loop {
        let next = if is_known { timeout(PATIENCE, mirror.next()).await } else { Ok(mirror.next().await) };
        let Ok(issues) = next else { return Ok(mirror) };
        let issues = issues.context("the ConfigMap of the ClusterSet cannot be followed")?;
        issues.iter().for_each(|issue| tracing::error!("{issue}"));
        if is_known || (issues.is_empty() && mirror.file().exists()) {
            return Ok(mirror);
        }
    }
}

/// Which member the cluster itself says it is, if it says so. Where the ClusterSet names it, it is asked only for a moment,
/// so that a contradiction is found; where it does not, until it answers.
async fn word_of_cluster(path: &Path, local: &Here) -> anyhow::Result<Option<ClusterId>> {
    // What is wrong with the file is said when it is opened.
    let Ok(loaded) = ClusterSet::load(path) else { return Ok(None) };
    if loaded.cluster_set.local.is_some() {
        let Some(access) = loaded.cluster_set.local_access() else { return Ok(None) };
        return Ok(match timeout(PATIENCE, ask(access)).await {
            Ok(Ok(id)) => id,
            Ok(Err(trouble)) => {
                tracing::debug!("which cluster this is, only the ClusterSet says: {trouble}");
                None
            }
            Err(_) => None,
        });
    }
    loop {
        let asked = timeout(PATIENCE, ask(local)).await;
        match asked.unwrap_or_else(|_| Err(Trouble::silent(PATIENCE))) {
            Ok(id) => return Ok(id),
            // There will be no answer; the file is said to lack it.
            Err(trouble) if trouble.is_no_access() => return Ok(None),
            Err(trouble) => tracing::error!("waiting for the cluster to say which member it is: {trouble}"),
        }
        sleep(INTERVAL).await;
    }
}

async fn ask(access: &Here) -> Result<Option<ClusterId>, Trouble> {
    kube::cluster_id(&access.client().await?).await
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::sources::kube::tests::server::Server;

    const MAPS: &str = "/api/v1/namespaces/s/configmaps";
    const PROPERTIES: &str = "/apis/about.k8s.io/v1alpha1/clusterproperties";

    fn set(spec: &str) -> String {
        format!("{{apiVersion: crosswall.dev/v1alpha1, kind: ClusterSet, spec: {{{spec}}}}}")
    }

    /// A set of members that are directories.
    fn members(local: &str, ids: &[&str]) -> String {
        let members: Vec<_> =
            ids.iter().map(|id| format!("{{id: {id}, source: {{directory: {{path: /}}}}}}")).collect();
        set(&format!("{local} members: [{}]", members.join(", ")))
    }

    fn map(content: &str) -> Value {
        json!({"metadata": {"name": "n", "namespace": "s"}, "data": {"clusterset.yaml": content}})
    }

    fn property(value: &str) -> Value {
        json!({"metadata": {"name": "cluster.clusterset.k8s.io"}, "spec": {"value": value}})
    }

    struct Start {
        folder: TempDir,
        server: Server,
    }

    impl Start {
        async fn new() -> Self {
            let start = Self { folder: tempfile::tempdir().expect("a directory"), server: Server::start().await };
            start.write("kubeconfig", &start.server.kubeconfig());
            start
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            path
        }

        async fn find(&self, place: &str) -> anyhow::Result<Found> {
            let options = RunOptions::of_test(&self.folder.path().join("kubeconfig"), self.folder.path(), place);
            timeout(Duration::from_secs(30), find(&options)).await.expect("it is found, or it is said why not")
        }

        async fn find_file(&self, content: &str) -> anyhow::Result<Found> {
            let path = self.write("set.yaml", content);
            self.find(&path.display().to_string()).await
        }
    }

    #[tokio::test]
    async fn a_config_map_is_found_and_its_changes_are_told() {
        let start = Start::new().await;
        start.server.apply(MAPS, map(&members("local: a,", &["a"])));
        let Found { files, mirror } = start.find("configmap:s/n").await.expect("found");
        assert_eq!(files.cluster_set().members.len(), 1);
        let mut mirror = mirror.expect("it is a copy");
        start.server.apply(MAPS, map(&members("local: a,", &["a", "b"])));
        assert_eq!(mirror.next().await, Some(vec![]));
        assert_eq!(ClusterSet::load(mirror.file()).expect("whole").cluster_set.members.len(), 2);
        start.server.apply(MAPS, json!({"metadata": {"name": "n", "namespace": "s"}}));
        let issues = mirror.next().await.expect("it is followed");
        assert!(issues[0].message.contains("no such key"), "{issues:?}");
        assert_eq!(ClusterSet::load(mirror.file()).expect("it stays").cluster_set.members.len(), 2);
    }

    #[tokio::test]
    async fn without_its_api_server_the_last_cluster_set_is_found() {
        let start = Start::new().await;
        start.write(MIRROR, &members("local: a,", &["a", "b", "c"]));
        start.server.state().refuses = Some(503);
        let Found { files, .. } = start.find("configmap:s/n").await.expect("found");
        assert_eq!(files.cluster_set().members.len(), 3);
    }

    #[tokio::test]
    async fn the_cluster_says_which_member_it_is() {
        let start = Start::new().await;
        start.server.apply(PROPERTIES, property("b"));
        let found = start.find_file(&members("", &["a", "b"])).await.expect("found");
        assert_eq!(found.files.local().as_str(), "b");
    }

    #[tokio::test]
    async fn a_cluster_that_did_not_answer_is_asked_again() {
        let start = Start::new().await;
        start.server.apply(PROPERTIES, property("b"));
        start.server.state().is_mute = true;
        let server = start.server.clone();
        tokio::spawn(async move {
            while server.requests("/apis/about.k8s.io").is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
            server.state().is_mute = false;
        });
        let found = start.find_file(&members("", &["a", "b"])).await.expect("found");
        assert_eq!(found.files.local().as_str(), "b");
    }

    #[tokio::test]
    async fn contradictions_and_gaps_are_errors() {
        let start = Start::new().await;
        let why = |found: anyhow::Result<Found>| found.err().expect("an error").to_string();
        assert!(why(start.find_file(&members("", &["a"])).await).contains("spec.local: is missing; it names"));
        start.server.apply(PROPERTIES, property("b"));
        assert!(why(start.find_file(&members("", &["a"])).await).contains("which is no member"));
        let kubeconfig = start.folder.path().join("kubeconfig");
        let source = format!("{{kubeconfig: {{path: {}}}}}", kubeconfig.display());
        let spec = format!("local: a, members: [{{id: a, source: {source}}}, {{id: b, source: {source}}}]");
        assert!(why(start.find_file(&set(&spec)).await).contains("says b; find out"));
        start.server.apply(PROPERTIES, property("a"));
        assert!(start.find_file(&set(&spec)).await.is_ok());
    }
}
