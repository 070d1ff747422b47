//! Writing to the API server: the annotation of a policy, and Events about it.

use std::future::{Future, pending};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::NAME;
use super::election::Term;
use super::notes::{Announcement, KEY, shortened};
use crate::sources::kube::Trouble;

/// How long the server may take to take something in.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of a policy's name the name of an Event has (63 with what the server adds: `maxGeneratedNameLength` in
/// k8s.io/apiserver/pkg/storage/names/generate.go).
const NAME_BYTES: usize = 57;
/// How long the reporter's name may be (`ReportingInstanceLengthLimit` in k8s.io/kubernetes/pkg/apis/core/validation/events.go).
const INSTANCE_BYTES: usize = 128;

/// Names a policy as it is now, not one of the same name after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its namespace.
    pub namespace: String,
    /// Its own name.
    pub name: String,
    /// Which of this name.
    pub uid: Option<String>,
}

/// What came of writing an annotation.
#[derive(Debug)]
pub enum Annotated {
    /// The policy has it, and this version since.
    Written(String),
    /// The policy is gone, is another one, or was changed since: a watch tells how it is now.
    Superseded,
}

/// The hands of the leader. They write in its term and no longer; and as what they write on a policy names the version
/// that it rests on, of one who believes to lead still, nothing comes after what was written by the next.
pub struct Writer {
    clients: watch::Receiver<Option<Client>>,
    /// This controller, among others of its kind.
    identity: String,
    term: Term,
}

impl Writer {
    /// Writes with the newest of these credentials.
    pub fn new(clients: watch::Receiver<Option<Client>>, identity: String, term: Term) -> Self {
        Self { clients, identity, term }
    }

    fn client(&self) -> Result<Client, Trouble> {
        self.clients.borrow().clone().ok_or_else(|| Trouble::no_access("there are no credentials"))
    }

    /// Writes, if the term is not over.
    async fn within_term<T>(&self, written: impl Future<Output = kube::Result<T>>) -> Result<kube::Result<T>, Trouble> {
        let (now, until) = (Instant::now(), self.term.until());
        if now >= until {
            // Whoever leads no more is dropped.
            pending::<()>().await;
        }
        timeout_at(until.min(now + PATIENCE), written).await.map_err(|_| Trouble::silent(PATIENCE))
    }

    /// Writes the annotation on a policy of this version, or takes it away.
    pub async fn annotate(&self, policy: &Named, version: &str, text: Option<&str>) -> Result<Annotated, Trouble> {
        let policies = Api::<NetworkPolicy>::namespaced(self.client()?, &policy.namespace);
        // With uid and version the server refuses to change another policy of the same name, and one it knows otherwise.
        let metadata = json!({"uid": policy.uid, "resourceVersion": version, "annotations": {KEY: text}});
        let params = PatchParams { field_manager: Some(NAME.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match self.within_term(policies.patch_metadata(&policy.name, &params, &patch)).await? {
            Ok(PartialObjectMeta { metadata, .. }) => {
                Ok(Annotated::Written(metadata.resource_version.unwrap_or_default()))
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Annotated::Superseded),
            Err(error) => Err(Trouble::of(&error)),
        }
    }

    /// Says something about a policy; in a namespace that ends nobody listens.
    pub async fn announce(&self, policy: &Named, announcement: &Announcement) -> Result<(), Trouble> {
        let events = Api::<Event>::namespaced(self.client()?, &policy.namespace);
        let Announcement { code: _, kind, reason, note } = announcement;
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(beginning(&policy.name)),
                namespace: Some(policy.namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some("Check".to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(note.clone()),
            reason: Some(reason.clone()),
            regarding: Some(ObjectReference {
                api_version: Some("networking.k8s.io/v1".to_owned()),
                kind: Some("NetworkPolicy".to_owned()),
                namespace: Some(policy.namespace.clone()),
                name: Some(policy.name.clone()),
                uid: policy.uid.clone(),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(format!("crosswall.dev/{NAME}")),
            reporting_instance: Some(shortened(&self.identity, INSTANCE_BYTES)),
            type_: Some((*kind).to_owned()),
            ..Event::default()
        };
        match self.within_term(events.create(&PostParams::default(), &event)).await? {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || is_terminating(&status) => Ok(()),
            Err(error) => Err(Trouble::of(&error)),
        }
    }
}

/// What the name of an Event about a policy begins with; the server makes it a name that nobody has. Between its points a
/// name neither begins nor ends with a hyphen (RFC 1123), and what is too long the server would cut anywhere.
fn beginning(policy: &str) -> String {
    let end = policy.floor_char_boundary(NAME_BYTES);
    format!("{}-", policy[..end].trim_end_matches(['.', '-']))
}

/// A namespace that ends takes nothing new (`NamespaceTerminatingCause` in k8s.io/api/core/v1).
fn is_terminating(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_name_that_can_be_one_whatever_the_policy_is_called() {
        assert_eq!(beginning("web"), "web-");
        assert_eq!(beginning("web.v1"), "web.v1-");
        let long = format!("{}.{}", "a".repeat(56), "b".repeat(196));
        assert_eq!(beginning(&long), format!("{}-", "a".repeat(56)));
        assert_eq!(beginning(&"a-".repeat(126)).len(), NAME_BYTES + 1);
    }
}
