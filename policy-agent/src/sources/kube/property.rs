//! Which cluster this is, by its own word: the ClusterProperty `cluster.clusterset.k8s.io` of the About API (KEP-2149).

use kube::Client;
use kube::core::Request;
use kube::core::params::GetParams;
use policy_core::model::{CLUSTER_KEY, ClusterId};
use serde::Deserialize;

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
