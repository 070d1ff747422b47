//! Which cluster this is, by its own word: the ClusterProperty `cluster.clusterset.k8s.io` of the About API (KEP-2149).

use std::time::Duration;

use kube::Client;
use kube::core::Request;
use kube::core::params::GetParams;
use policy_core::model::{CLUSTER_KEY, ClusterId, Issue, IssueCode, Level};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::access::Here;
use super::trouble::Trouble;

/// The versions of the About API, the newest first.
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];

#[derive(Deserialize)]
struct Property {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    value: String,
}

/// The id that a cluster says it has; `None`: it says none.
///
/// # Errors
///
/// If it cannot be asked, or says what is no id.
pub async fn cluster_id(client: &Client) -> Result<Option<ClusterId>, Trouble> {
    for version in VERSIONS {
        let path = format!("/apis/about.k8s.io/{version}/clusterproperties");
        let request = Request::new(path).get(CLUSTER_KEY, &GetParams::default());
        let request = request.map_err(|error| Trouble::of(&kube::Error::BuildRequest(error)))?;
        match client.request::<Property>(request).await {
            Ok(Property { spec: Spec { value } }) => {
                let id = value.parse().map_err(|why| Trouble::refused(format!("ClusterProperty {CLUSTER_KEY}: {why}")));
                return id.map(Some);
            }
            // Neither the object nor, perhaps, its kind is there.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(Trouble::of(&error).prefixed(&format!("ClusterProperty {CLUSTER_KEY}: "))),
        }
    }
    Ok(None)
}

/// Asks the local cluster again and again whether it is still this member, until nobody listens; tells what is wrong whenever
/// that changes. A cluster that cannot be asked, or says nothing, contradicts nobody.
pub async fn confirm(local: ClusterId, access: Here, interval: Duration, told: mpsc::Sender<Option<Issue>>) {
    let mut last = None;
    loop {
        sleep(interval).await;
        let asked = async { cluster_id(&access.client().await?).await };
        let Ok(said) = asked.await else { continue };
        let issue = said.filter(|said| *said != local).map(|said| contradiction(&local, &said));
        // The first answer in any case: another task may have told another one before.
        if last.as_ref() != Some(&issue) {
            last = Some(issue.clone());
            if told.send(issue).await.is_err() {
                return;
            }
        }
    }
}

fn contradiction(local: &ClusterId, said: &ClusterId) -> Issue {
    let message = format!(
        "says that this cluster is {said}, but the ClusterSet has it as {local}, and so it stays while this agent runs: the next \
         one does not start; correct whichever is wrong"
    );
    let object = format!("{local}/ClusterProperty/{CLUSTER_KEY}");
    Issue {
        code: IssueCode::ContradictedClusterId,
        level: Level::Error,
        object,
        field: "spec.value".to_owned(),
        message,
    }
}
