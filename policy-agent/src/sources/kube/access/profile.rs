//! A ClusterProfile of the local cluster that says how a member is reached.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::approach::Approach;
use super::here::{next_content, read};
use super::providers::{Provider, Providers};
use super::renewal::{self, Way};
use super::{Here, Offers};
use crate::sources::kube::object::{ObjectName, Seen, follow_object};
use crate::sources::kube::trouble::Trouble;

const GROUP: &str = "multicluster.x-k8s.io";
const VERSION: &str = "v1alpha1";
const PLURAL: &str = "clusterprofiles";

/// What of a ClusterProfile is read: what its cluster manager found out.
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterProfile {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    status: Value,
}

impl Resource for ClusterProfile {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "ClusterProfile".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What a ClusterProfile is called.
pub fn title(name: &ObjectName) -> impl fmt::Display {
    format!("ClusterProfile {name}")
}

/// A client as it says now.
pub async fn client(name: &ObjectName, local: &Here, file: Option<&Path>) -> Result<Client, Trouble> {
    let find = async {
        let file = file.ok_or_else(no_file)?;
        let api = Api::<ClusterProfile>::namespaced(local.client().await?, &name.namespace);
        let parameters = ListParams::default().fields(&format!("metadata.name={}", name.name));
        let found = api.list(&parameters).await.map_err(|error| unread(&Trouble::of(&error)))?;
        let is_meant = |profile: &ClusterProfile| profile.metadata.name.as_ref() == Some(&name.name);
        let profile = found.items.into_iter().find(is_meant).ok_or_else(absent)?;
        let providers = providers(file, read(file.to_owned()).await)?;
        let approach = Approach::choose(&profile.status, &providers).map_err(Trouble::no_access)?;
        renewal::client(&approach).await
    };
    find.await.map_err(|trouble| named(name, trouble))
}

/// Provides clients as a profile and the file of access providers say, until nobody listens.
pub async fn follow(name: &ObjectName, local: Here, file: Option<PathBuf>, offers: &Offers) {
    let Some(file) = file else {
        offers.say(Some(named(name, no_file()))).await;
        return offers.clients.closed().await;
    };
    let (seen, mut profiles) = mpsc::channel(1);
    let (told, ways) = watch::channel(Way::default());
    let prefix = format!("{}: ", title(name));
    let look = async {
        let mut sight = Sight::default();
        let mut content = None;
        loop {
            tokio::select! {
                Some(seen) = profiles.recv() => sight.see(seen),
                () = next_content(&file, &mut content) => sight.read(&file, content.clone()),
            }
            let way = sight.way();
            told.send_if_modified(|before| std::mem::replace(before, way.clone()) != way);
        }
    };
    tokio::select! {
        () = follow_object::<ClusterProfile>(name.clone(), local, seen) => {}
        () = look => {}
        () = renewal::hold(&prefix, ways, offers) => {}
        () = offers.clients.closed() => {}
    }
}

/// What was last seen of a profile and of the file.
#[derive(Default)]
struct Sight {
    /// What the profile's status says; `None`: nothing is known.
    profile: Option<Result<Value, Trouble>>,
    /// Why it may say something else by now.
    unseen: Option<Trouble>,
    /// What the file says, as it could last be read.
    providers: Option<Vec<Provider>>,
    /// Why the file cannot be read now.
    unread: Option<Trouble>,
}

impl Sight {
    fn see(&mut self, seen: Seen<ClusterProfile>) {
        self.unseen = None;
        match seen {
            Seen::There(profile) => self.profile = Some(Ok(profile.status)),
            Seen::Absent => self.profile = Some(Err(absent())),
            // Without the kind there is no object of it.
            Seen::Unknown(trouble) if trouble.is_not_found() => self.profile = Some(Err(unread(&trouble))),
            Seen::Unknown(trouble) => self.unseen = Some(unread(&trouble)),
        }
    }

    fn read(&mut self, file: &Path, content: Option<Result<String, String>>) {
        match content.map(|content| providers(file, content)) {
            Some(Ok(providers)) => (self.providers, self.unread) = (Some(providers), None),
            Some(Err(trouble)) => self.unread = Some(trouble),
            None => {}
        }
    }

    /// The way in force: none once it is known that there is none, but the last while something cannot be read.
    fn way(&self) -> Way {
        let doubt = self.unread.clone().or_else(|| self.unseen.clone());
        let approach = match (&self.profile, &self.providers) {
            (Some(Err(refusal)), _) => Err(refusal.clone()),
            (Some(Ok(status)), Some(providers)) => Approach::choose(status, providers).map_err(Trouble::no_access),
            _ => return Way { approach: None, trouble: doubt },
        };
        match approach {
            Ok(approach) => Way { approach: Some(approach), trouble: doubt },
            Err(refusal) => Way { approach: None, trouble: Some(doubt.unwrap_or(refusal)) },
        }
    }
}

fn providers(file: &Path, content: Result<String, String>) -> Result<Vec<Provider>, Trouble> {
    let text = content.map_err(|why| {
        format!("is reached by a program that the file of --access-providers names, but {} {why}", file.display())
    });
    text.and_then(|text| Providers::parse(&text, file)).map_err(Trouble::no_access)
}

fn named(name: &ObjectName, trouble: Trouble) -> Trouble {
    trouble.prefixed(&format!("{}: ", title(name)))
}

fn no_file() -> Trouble {
    Trouble::no_access(
        "says where an API server is, not with what credentials it is asked; name the file that says which program gives them \
         by --access-providers",
    )
}

fn absent() -> Trouble {
    Trouble::no_access(
        "is not there; the cluster manager that the member belongs to makes it, or the ClusterSet names another one",
    )
}

fn unread(trouble: &Trouble) -> Trouble {
    let advice = if trouble.is_not_found() {
        format!(
            "; the local cluster does not have the kind ({GROUP}/{VERSION}): the cluster manager, or deploy/crds, installs it"
        )
    } else if trouble.is_forbidden() {
        format!(
            "; the ClusterRole of whoever asks needs {{apiGroups: [\"{GROUP}\"], resources: [\"{PLURAL}\"], verbs: [\"list\", \"watch\"]}}"
        )
    } else {
        trouble.advice(None)
    };
    trouble.clone().prefixed("cannot be read: ").suffixed(&advice)
}
