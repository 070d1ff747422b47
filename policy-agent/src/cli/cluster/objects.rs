//! The objects that a link needs on both sides, and how they are applied and deleted.

use anyhow::{Context as _, bail};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use policy_core::model::ClusterId;
use serde_json::{Value, json};

use crate::document::{self, Format};

/// What a cluster gives those that read it: the very file that `kubectl apply -k` applies.
const REMOTE_READER: &str = include_str!("../../../../deploy/remote-reader/reader.yaml");
/// Where the reader's account and its tokens are.
pub const READER_NAMESPACE: &str = "crosswall-remote";
/// The name of the account, and of the first reader's token.
pub const READER: &str = "crosswall-reader";
/// Who fields that are applied belong to.
const MANAGER: &str = "policyctl";

/// What the member gives; the token is this reader's.
pub fn of_member(reader: &str) -> anyhow::Result<Vec<Value>> {
    let mut objects =
        document::parse(REMOTE_READER.as_bytes(), Format::Yaml).context("cannot read the reader's objects")?;
    for object in &mut objects {
        if object["kind"] == "Secret" {
            object["metadata"]["name"] = json!(reader);
        }
        object["metadata"]["labels"]["app.kubernetes.io/part-of"] = json!("crosswall");
    }
    Ok(objects)
}

/// The Secret by which the agents of this cluster read the member.
pub fn secret(id: &ClusterId, namespace: &str, kubeconfig: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": id.as_str(),
            "namespace": namespace,
            "labels": {"app.kubernetes.io/part-of": "crosswall"},
        },
        "type": "Opaque",
        "stringData": {"kubeconfig": kubeconfig},
    })
}

/// A kubeconfig of whoever has the token.
pub fn kubeconfig(id: &ClusterId, server: &str, authority: &str, token: &str) -> anyhow::Result<String> {
    let id = id.as_str();
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": id, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": "reader", "user": {"token": token}}],
        "contexts": [{"name": "reader", "context": {"cluster": id, "user": "reader"}}],
        "current-context": "reader",
    });
    serde_saphyr::to_string(&kubeconfig).context("cannot write the kubeconfig")
}

/// As YAML documents.
pub fn yaml(objects: &[Value]) -> anyhow::Result<String> {
    let texts = objects.iter().map(|object| serde_saphyr::to_string(object).context("cannot write YAML"));
    Ok(texts.collect::<anyhow::Result<Vec<_>>>()?.join("---\n"))
}

/// What an object is called.
pub fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    match text(&metadata["namespace"]) {
        namespace if namespace.is_empty() => format!("{} {}", text(&object["kind"]), text(&metadata["name"])),
        namespace => format!("{} {namespace}/{}", text(&object["kind"]), text(&metadata["name"])),
    }
}

/// Makes an object as it is here; fields that others own stay theirs.
pub async fn apply(client: &Client, object: &Value) -> anyhow::Result<()> {
    let api = api(client, object)?;
    let metadata_name = object["metadata"]["name"].as_str().context("an object has a name")?;
    let parameters = PatchParams::apply(MANAGER).force();
    let applied = api.patch(metadata_name, &parameters, &Patch::Apply(object)).await;
    applied.map(drop).with_context(|| format!("cannot apply {}", name(object)))
}

/// Deletes an object; says whether it was there.
pub async fn delete(client: &Client, object: &Value) -> anyhow::Result<bool> {
    let api = api(client, object)?;
    let metadata_name = object["metadata"]["name"].as_str().context("an object has a name")?;
    match api.delete(metadata_name, &DeleteParams::default()).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot delete {}", name(object))),
    }
}

fn api(client: &Client, object: &Value) -> anyhow::Result<Api<DynamicObject>> {
    let (kind, plural) = match object["kind"].as_str().unwrap_or_default() {
        kind @ "Namespace" => (kind, "namespaces"),
        kind @ "ServiceAccount" => (kind, "serviceaccounts"),
        kind @ "Secret" => (kind, "secrets"),
        kind @ "ClusterRole" => (kind, "clusterroles"),
        kind @ "ClusterRoleBinding" => (kind, "clusterrolebindings"),
        other => bail!("objects of kind {other:?} are not applied"),
    };
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_has_a_token_of_its_own() {
        let objects = of_member("crosswall-reader-a").expect("they can be read");
        let names: Vec<String> = objects.iter().map(name).collect();
        assert!(names.contains(&"Secret crosswall-remote/crosswall-reader-a".to_owned()), "{names:?}");
        assert!(names.contains(&"ServiceAccount crosswall-remote/crosswall-reader".to_owned()), "{names:?}");
        let again = document::parse(yaml(&objects).expect("written").as_bytes(), Format::Yaml);
        assert_eq!(again, Ok(objects), "what is printed is what is applied");
    }
}
