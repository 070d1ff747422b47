//! Talking to an API server as its administrator, without a process for each request.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::core::params::{Patch, PatchParams, PostParams};
use kube::{Client, Config};
use policy_lab::control_plane::ControlPlane;
use serde_json::Value;

/// Does something with a client inside a control plane's namespace, and waits for it.
pub fn with_client<T: Send>(control_plane: &ControlPlane, work: impl AsyncFnOnce(Client) -> T + Send) -> T {
    let kubeconfig = std::fs::read_to_string(control_plane.admin_kubeconfig()).expect("the lab wrote it");
    let inside = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).expect("a kubeconfig");
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
            let client = Client::try_from(config.expect("it can be used")).expect("a client");
            work(client).await
        })
    };
    control_plane.netns().enter(inside).expect("the namespace is there")
}

/// Creates an object in a collection.
pub async fn create(client: &Client, collection: &str, object: &Value) {
    let request = Request::new(collection).create(&PostParams::default(), object.to_string().into_bytes());
    client.request_text(request.expect("a request")).await.expect("created");
}

/// Changes the fields of an object that are given, or those of a subresource, as `status`.
pub async fn patch(client: &Client, collection: &str, name: &str, subresource: Option<&str>, change: &Value) {
    let (request, params, change) = (Request::new(collection), PatchParams::default(), Patch::Merge(change));
    let request = match subresource {
        None => request.patch(name, &params, &change),
        Some(subresource) => request.patch_subresource(subresource, name, &params, &change),
    };
    client.request_text(request.expect("a request")).await.expect("changed");
}
