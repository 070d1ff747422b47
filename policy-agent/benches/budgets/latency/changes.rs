//! The pods of the crowd at their API server: created, relabelled, and watched.

use std::net::Ipv4Addr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PartialObjectMeta, Patch, PatchParams, WatchEvent, WatchParams};
use kube::core::params::ListParams;
use policy_lab::control_plane::ControlPlane;
use serde_json::json;
use tokio::task::LocalSet;
use tokio::time::sleep_until;

use super::crowd::Tale;
use crate::client::{create as create_object, patch, with_client};
use crate::site::MANY;

/// The namespace of all of them.
const NAMESPACE: &str = "crowd";
/// How many requests are under way at a time.
const REQUESTS: usize = 24;
const LABEL: &str = "admitted";
/// What is not watched after the last change for so long is missed.
const LATE: Duration = Duration::from_secs(5);

/// The address of a pod of the crowd: one of its cluster that no other pod has.
pub fn address(pod: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(MANY) + pod)
}

fn name(pod: u32) -> String {
    format!("pod-{pod}")
}

fn number(name: &str) -> Option<u32> {
    name.strip_prefix("pod-")?.parse().ok()
}

/// Creates so many, each of which is what its first change ends.
pub fn create(there: &ControlPlane, pods: u32) -> Result<()> {
    there.kubectl(&["create", "namespace", NAMESPACE])?;
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    with_client(there, async |client| {
        let pods = stream::iter(0..pods).map(|pod| {
            let (client, collection) = (&client, &collection);
            let (_, admitted) = change(pod, pod + 1);
            async move {
                let object = json!({"apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": name(pod), "labels": {LABEL: said(!admitted)}},
                    "spec": {"containers": [{"name": "main", "image": "example.org/x:1"}]}});
                create_object(client, collection, &object).await;
                let ip = address(pod);
                let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
                patch(client, collection, &name(pod), Some("status"), &status).await;
            }
        });
        pods.buffer_unordered(REQUESTS).collect::<Vec<()>>().await;
    });
    Ok(())
}

fn said(admitted: bool) -> &'static str {
    if admitted { "yes" } else { "no" }
}

/// Whether the change with this number admits, and whom. Of neighbours one is admitted while the other no longer is.
fn change(number: u32, pods: u32) -> (u32, bool) {
    let (pod, turn) = (number % pods, number / pods);
    (pod, (pod + turn).is_multiple_of(2))
}

/// Changes, one after the other at a steady rate.
#[derive(Clone, Copy)]
pub struct Series {
    /// How many pods are changed in turn.
    pub pods: u32,
    /// The number of the first change.
    pub first: u32,
    /// How many there are in a second.
    pub per_s: u32,
    /// For how long they go on.
    pub within: Duration,
}

impl Series {
    /// The number of the change after the last.
    pub fn next(&self) -> u32 {
        self.first + self.len()
    }

    fn len(&self) -> u32 {
        (f64::from(self.per_s) * self.within.as_secs_f64()) as u32
    }
}

/// Makes changes and tells of each.
pub fn make(there: &ControlPlane, series: Series, told: Sender<Tale>) -> Result<()> {
    with_client(there, async |client| {
        let local = LocalSet::new();
        local.run_until(make_all(Api::namespaced(client, NAMESPACE), series, told)).await
    })
}

async fn make_all(api: Api<Pod>, series: Series, told: Sender<Tale>) -> Result<()> {
    let version = api.list_metadata(&ListParams::default().limit(1)).await.context("list the pods")?;
    let version = version.metadata.resource_version.context("a list without a version")?;
    let watching = tokio::task::spawn_local(watch(api.clone(), version, told.clone()));
    let begun = tokio::time::Instant::now();
    let (api, told) = (Rc::new(api), Rc::new(told));
    let mut under_way = tokio::task::JoinSet::new();
    for step in 0..series.len() {
        sleep_until(begun + Duration::from_secs(1) * step / series.per_s).await;
        let (pod, admitted) = change(series.first + step, series.pods);
        let (api, told) = (Rc::clone(&api), Rc::clone(&told));
        under_way.spawn_local(async move {
            let patch = json!({"metadata": {"labels": {LABEL: said(admitted)}}});
            told.send(Tale::Begun { pod, admitted, at: Instant::now() }).context("tell")?;
            api.patch_metadata(&name(pod), &PatchParams::default(), &Patch::Merge(patch)).await.context("relabel")?;
            told.send(Tale::Answered { pod, at: Instant::now() }).context("tell")
        });
    }
    while let Some(ended) = under_way.join_next().await {
        ended.context("a change")??;
    }
    // The last one is watched a moment later at most; whoever counts notices what is not.
    tokio::time::sleep(Duration::from_millis(100)).await;
    watching.abort();
    match watching.await {
        Ok(ended) => Err(ended.err().unwrap_or_else(|| anyhow!("the watch ended"))),
        Err(_) => Ok(()),
    }
}

async fn watch(api: Api<Pod>, version: String, told: Sender<Tale>) -> Result<()> {
    let params = WatchParams::default().timeout(u32::try_from(LATE.as_secs() * 10).unwrap_or(u32::MAX));
    let mut events = pin!(api.watch_metadata(&params, &version).await.context("watch the pods")?);
    while let Some(event) = events.next().await {
        let at = Instant::now();
        if let WatchEvent::Modified(PartialObjectMeta { metadata, .. }) = event.context("watch the pods")?
            && let Some(pod) = metadata.name.as_deref().and_then(number)
            && let Some(admitted) = metadata.labels.as_ref().and_then(|labels| labels.get(LABEL))
        {
            told.send(Tale::Watched { pod, admitted: admitted == said(true), at }).context("tell")?;
        }
    }
    Ok(())
}
