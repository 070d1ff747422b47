//! Credentials of a program over time: it is run again before they are over, or when the server does not take them any more.
//!
//! A new token goes into the requests of the client that there is: another client would list everything anew.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, StatusCode};
use k8s_openapi::ByteString;
use kube::client::{Body, ClientBuilder};
use kube::config::{Context, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tower::util::{MapRequestLayer, MapResponseLayer};

use super::approach::{Approach, Server};
use super::program::{Certificate, Credential};
use super::{Offers, modest};
use crate::sources::kube::backoff::Backoff;
use crate::sources::kube::trouble::{Trouble, chain};

/// After this part of their time credentials are renewed, …
const RENEWAL_SHARE: f64 = 0.8;
/// … but not sooner than this, …
const SOONEST: Duration = Duration::from_secs(1);
/// … nor, if the server refuses them, than this after the last time.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// How a member is reached now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Way {
    /// The way in force; `None`: there is none, and no program is run.
    pub approach: Option<Approach>,
    /// Why there is none, or why it may be an old one.
    pub trouble: Option<Trouble>,
}

/// A client with the credentials of this moment.
pub async fn client(approach: &Approach) -> Result<Client, Trouble> {
    let credential = approach.program.run().await?;
    Ok(Held::new(approach.clone(), credential).await?.1)
}

/// Offers clients by the way in force, until nobody tells of ways any more. What is wrong begins with `title`.
pub async fn hold(title: &str, mut ways: watch::Receiver<Way>, offers: &Offers) {
    let mut held = None;
    loop {
        let mut way = ways.borrow_and_update().clone();
        way.trouble = way.trouble.map(|trouble| trouble.prefixed(title));
        tokio::select! {
            // Nothing is offered by a way that is not in force any more.
            biased;
            changed = ways.changed() => if changed.is_err() { return },
            () = keep(title, way, &mut held, offers) => {}
        }
    }
}

/// Keeps a way usable, for ever; may be given up at any time. Whoever has a client keeps it while there is no other.
async fn keep(title: &str, way: Way, held: &mut Option<Held>, offers: &Offers) {
    let Way { approach, trouble } = way;
    let Some(approach) = approach else {
        match trouble {
            Some(_) => offers.say(trouble).await,
            // Clients come from elsewhere.
            None => *held = None,
        }
        return std::future::pending().await;
    };
    let mut backoff = Backoff::default();
    if held.as_ref().is_some_and(|held| held.approach == approach) {
        offers.say(trouble.clone()).await;
    }
    loop {
        let in_force = held.as_mut().filter(|held| held.approach == approach);
        let refused = match in_force {
            Some(held) => {
                held.until_due().await;
                renew(held, offers).await
            }
            None => begin(&approach, held, offers).await,
        };
        match refused {
            Ok(()) => {
                backoff.succeeded();
                offers.say(trouble.clone()).await;
            }
            Err(refusal) => {
                offers.say(Some(refusal.prefixed(title))).await;
                sleep(backoff.next()).await;
            }
        }
    }
}

async fn begin(approach: &Approach, held: &mut Option<Held>, offers: &Offers) -> Result<(), Trouble> {
    let credential = approach.program.run().await?;
    let (new, client) = Held::new(approach.clone(), credential).await?;
    *held = Some(new);
    offers.make(Ok(client)).await;
    Ok(())
}

async fn renew(held: &mut Held, offers: &Offers) -> Result<(), Trouble> {
    let credential = held.approach.program.run().await.map_err(|trouble| {
        trouble.suffixed("; the credentials that it gave before are used as long as the member's API server takes them")
    })?;
    if credential.certificate == held.certificate && credential.authorization.is_some() == held.has_token() {
        held.take(credential);
    } else {
        let (new, client) = Held::new(held.approach.clone(), credential).await?;
        *held = new;
        offers.make(Ok(client)).await;
    }
    Ok(())
}

/// Credentials in force, and how they are exchanged.
struct Held {
    approach: Approach,
    certificate: Option<Certificate>,
    authorization: watch::Sender<Option<HeaderValue>>,
    /// When they are to be renewed.
    due: Option<Instant>,
    /// When they were given.
    given: Instant,
    /// Told by the client when the server refuses them.
    refused: Arc<Notify>,
}

impl Held {
    async fn new(approach: Approach, credential: Credential) -> Result<(Self, Client), Trouble> {
        let (authorization, used) = watch::channel(None);
        let certificate = credential.certificate.clone();
        let refused = Arc::new(Notify::new());
        let client = client_of(&approach.server, certificate.as_ref(), used, Arc::clone(&refused)).await?;
        let mut held = Self { approach, certificate, authorization, due: None, given: Instant::now(), refused };
        held.take(credential);
        Ok((held, client))
    }

    fn take(&mut self, credential: Credential) {
        let Credential { authorization, certificate: _, expires } = credential;
        self.authorization.send_replace(authorization);
        self.given = Instant::now();
        self.due = expires.map(|expires| {
            let left = expires.duration_since(SystemTime::now()).unwrap_or_default();
            self.given + left.mul_f64(RENEWAL_SHARE).max(SOONEST)
        });
    }

    fn has_token(&self) -> bool {
        self.authorization.borrow().is_some()
    }

    async fn until_due(&self) {
        let due = async {
            match self.due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = self.refused.notified() => sleep_until(self.given + REFUSED_PAUSE).await,
        }
    }
}

/// A client whose requests say what `authorization` says at that moment.
async fn client_of(
    server: &Server,
    certificate: Option<&Certificate>,
    authorization: watch::Receiver<Option<HeaderValue>>,
    refused: Arc<Notify>,
) -> Result<Client, Trouble> {
    let unusable = |error: &dyn Error| Trouble::no_access(format!("cannot be used: {}", chain(error)));
    let kubeconfig = kubeconfig(server, certificate).map_err(|error| unusable(&*error))?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options);
    let config = modest(config.await.map_err(|error| unusable(&error))?);
    let authorize = move |mut request: Request<Body>| {
        if let Some(value) = authorization.borrow().clone() {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request
    };
    let notice = move |response: Response<_>| {
        if response.status() == StatusCode::UNAUTHORIZED {
            refused.notify_one();
        }
        response
    };
    let builder = ClientBuilder::try_from(config).map_err(|error| unusable(&error))?;
    let builder = builder.with_layer(&MapRequestLayer::new(authorize)).with_layer(&MapResponseLayer::new(notice));
    Ok(builder.build())
}

/// A kubeconfig whose user asks no program, but has its certificate.
fn kubeconfig(server: &Server, certificate: Option<&Certificate>) -> Result<Kubeconfig, Box<dyn Error + Send + Sync>> {
    let mut kubeconfig = match server {
        Server::Kubeconfig(text) => Kubeconfig::from_yaml(text)?,
        Server::Profile(cluster) => serde_json::from_value(json!({
            "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
            "clusters": [{"name": "k", "cluster": {
                "server": cluster.server,
                "tls-server-name": cluster.tls_server_name,
                "certificate-authority-data": cluster.certificate_authority_data,
            }}],
        }))?,
    };
    let name = current(&kubeconfig).and_then(|context| context.user.clone());
    let base64 = |text: &String| json!(ByteString(text.clone().into_bytes()));
    for user in kubeconfig.auth_infos.iter_mut().filter(|user| Some(&user.name) == name.as_ref()) {
        let mut fields = json!(user.auth_info);
        fields["exec"] = Value::Null;
        if let Some(Certificate { certificate, key }) = certificate {
            fields["client-certificate-data"] = base64(certificate);
            fields["client-key-data"] = base64(key);
        }
        user.auth_info = serde_json::from_value(fields)?;
    }
    Ok(kubeconfig)
}

/// The context of a kubeconfig that is in force.
pub fn current(kubeconfig: &Kubeconfig) -> Option<&Context> {
    let name = kubeconfig.current_context.as_ref()?;
    kubeconfig.contexts.iter().find(|context| &context.name == name)?.context.as_ref()
}
