//! Following one collection of an API server: a list, then a watch that continues where the list ended.
//!
//! Where the server has streaming lists, the list comes by the watch itself; elsewhere in pages. A watch ends often, and
//! is continued from the last version that it told; only when the server has forgotten that version (410), everything is
//! listed anew. A server that says nothing for too long is not waited for: it tells at least bookmarks, about one a minute.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use kube::Client;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, WatchEvent};
use policy_core::model::{ClusterId, Event};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::collection::{Collection, Kind, Slim};
use super::snapshot::Journal;
use super::trouble::Trouble;
use crate::convert::{self, ObjectKey, Reading};

/// How many objects a page of a list holds.
const PAGE: u32 = 500;
/// How long the server may take for a page, or for the first word of a watch.
const PATIENCE: Duration = Duration::from_secs(30);
/// After how many seconds the server ends a watch.
const WATCH_SECONDS: u32 = 290;
/// A watch that ends sooner than this is no watch.
const SHORT: Duration = Duration::from_secs(1);
/// What marks the bookmark that ends a streamed list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What is told of a collection.
#[derive(Debug)]
pub enum News {
    /// A list begins; one that was not whole yet is none any more.
    Begun,
    /// Objects of a list that goes on.
    Part(Vec<Reading>),
    /// The list is whole with these objects.
    Listed(Vec<Reading>),
    /// An object exists with this content.
    Applied(Reading),
    /// An object is gone.
    Deleted(ObjectKey, Event),
    /// Nothing changed.
    Unchanged,
    /// It cannot be followed now, and is tried again.
    Failed(Trouble),
}

/// What following a collection needs.
pub struct Setting {
    /// The member, as we call it.
    pub cluster: ClusterId,
    /// Those who ask its API server.
    pub clients: watch::Receiver<Option<Client>>,
    /// After so long without a word the server is asked anew.
    pub silence: Duration,
    /// Where to tell.
    pub told: mpsc::Sender<(Collection, News)>,
    /// What is told is noted here too.
    pub journal: Journal,
    /// Set by whoever listens: what was told is forgotten, so everything must be listed.
    pub forgotten: Arc<AtomicBool>,
}

/// Follows a collection until nobody listens; whatever is told begins with a list.
pub async fn follow<K: Kind>(setting: Setting) {
    let Setting { cluster, clients, silence, told, journal, forgotten } = setting;
    let follower = Follower::<K> {
        cluster,
        clients,
        silence,
        told,
        journal,
        forgotten,
        version: None,
        streams: true,
        backoff: Backoff::default(),
        kind: std::marker::PhantomData,
    };
    // Ends only when nobody listens.
    let Err(Deaf) = follower.run().await;
}

/// Nobody listens any more.
struct Deaf;

/// Why a watch or a list ended.
enum Ended {
    /// As watches do.
    Regularly,
    /// Everything is to be listed, though the server could go on.
    ToBeListed,
    /// There are other credentials: what was begun with the old ones must not go on.
    Superseded,
    /// The server has forgotten the version from which the watch was to continue.
    Expired,
    /// The server does not know streaming lists.
    NoStreaming,
    /// It did not work.
    Failed(Trouble),
    /// Nobody listens any more.
    Deaf,
}

impl From<Deaf> for Ended {
    fn from(_: Deaf) -> Self {
        Self::Deaf
    }
}

impl From<kube::Error> for Ended {
    fn from(error: kube::Error) -> Self {
        let trouble = Trouble::of(&error);
        if trouble.is_expired() { Self::Expired } else { Self::Failed(trouble) }
    }
}

struct Follower<K> {
    cluster: ClusterId,
    clients: watch::Receiver<Option<Client>>,
    silence: Duration,
    told: mpsc::Sender<(Collection, News)>,
    journal: Journal,
    forgotten: Arc<AtomicBool>,
    /// From where a watch continues; `None`: everything must be listed.
    version: Option<String>,
    /// Whether the server may have streaming lists.
    streams: bool,
    backoff: Backoff,
    kind: std::marker::PhantomData<K>,
}

impl<K: Kind> Follower<K> {
    async fn run(mut self) -> Result<std::convert::Infallible, Deaf> {
        loop {
            let Some(client) = self.client().await else { return Err(Deaf) };
            let begun = Instant::now();
            let mut clients = self.clients.clone();
            let told = self.told.clone();
            let ended = tokio::select! {
                ended = self.round(&client) => ended,
                () = changed(&mut clients) => Ended::Superseded,
                () = told.closed() => Ended::Deaf,
            };
            match ended {
                Ended::Deaf => return Err(Deaf),
                Ended::Superseded => self.backoff.succeeded(),
                Ended::NoStreaming => self.streams = false,
                Ended::ToBeListed => self.version = None,
                Ended::Regularly if begun.elapsed() >= SHORT => {}
                Ended::Regularly => sleep(self.backoff.next()).await,
                Ended::Expired => {
                    tracing::info!("{}: the server has forgotten where the watch was; listing anew", K::COLLECTION);
                    self.version = None;
                    sleep(self.backoff.next()).await;
                }
                Ended::Failed(trouble) => {
                    self.tell(News::Failed(trouble)).await?;
                    self.pause().await;
                }
            }
        }
    }

    /// The client in force, waited for if there is none; `None`: there will be none.
    async fn client(&mut self) -> Option<Client> {
        // Other credentials may be another server's, whose versions mean something else.
        let client = self.clients.wait_for(Option::is_some).await.ok()?;
        if client.has_changed() {
            self.version = None;
        }
        client.clone()
    }

    /// Waits before the next try, but not once there are other credentials.
    async fn pause(&mut self) {
        let pause = self.backoff.next();
        let mut clients = self.clients.clone();
        tokio::select! {
            () = sleep(pause) => {}
            () = changed(&mut clients) => {}
        }
    }

    async fn tell(&self, news: News) -> Result<(), Deaf> {
        self.told.send((K::COLLECTION, news)).await.map_err(|_| Deaf)
    }

    async fn round(&mut self, client: &Client) -> Ended {
        if self.forgotten.swap(false, Ordering::Relaxed) {
            self.version = None;
        }
        let round = async {
            if self.version.is_none() {
                self.tell(News::Begun).await?;
                self.journal.begin();
            }
            if self.version.is_none() && !self.streams {
                self.list(client).await?;
            }
            self.watch(client).await
        };
        round.await.unwrap_or_else(|ended| ended)
    }

    /// Lists in pages.
    async fn list(&mut self, client: &Client) -> Result<(), Ended> {
        let mut pages = Pages::<K>::of(client);
        while let Some(page) = pages.next().await? {
            let part = page.iter().filter_map(|object| self.list_object(object)).collect();
            self.tell(News::Part(part)).await?;
        }
        self.listed(Vec::new(), pages.version).await
    }

    fn read(&self, object: &Slim<K>) -> Option<Reading> {
        convert::read_typed(&self.cluster, K::COLLECTION.object_type(), &object.0)
    }

    fn read_deleted(&self, object: &Slim<K>) -> Option<(ObjectKey, Event)> {
        convert::read_deleted(&self.cluster, K::COLLECTION.object_type(), &object.0)
    }

    /// Reads an object of a list.
    fn list_object(&mut self, object: &Slim<K>) -> Option<Reading> {
        let reading = self.read(object)?;
        self.journal.listed(&object.0);
        Some(reading)
    }

    async fn listed(&mut self, objects: Vec<Reading>, version: String) -> Result<(), Ended> {
        if version.is_empty() {
            // Nothing could be followed from there, and all would be listed again and again.
            return Err(Ended::Failed(Trouble::refused("its list says no resourceVersion")));
        }
        self.tell(News::Listed(objects)).await?;
        self.journal.complete();
        self.seen(Some(&version));
        Ok(())
    }

    /// Watches; first the objects that exist, if they are not known.
    async fn watch(&mut self, client: &Client) -> Result<Ended, Ended> {
        let mut listing = self.version.is_none().then(Listing::default);
        let mut parameters = WatchParams::default().timeout(WATCH_SECONDS);
        if listing.is_some() {
            parameters = parameters.initial_events();
        }
        let version = self.version.clone().unwrap_or_default();
        let request = Request::new(K::COLLECTION.path()).watch(&parameters, &version);
        let begun = within(PATIENCE, client.request_events::<Slim<K>>(request.map_err(kube::Error::BuildRequest)?));
        let mut events = pin!(begun.await?.map_err(|error| refusal(error, listing.is_some()))?);
        loop {
            if listing.is_none() && (self.forgotten.load(Ordering::Relaxed) || self.journal.wants_list()) {
                return Ok(Ended::ToBeListed);
            }
            let event = match timeout(self.silence, events.try_next()).await {
                Ok(event) => event.map_err(|error| refusal(error, listing.is_some()))?,
                // An old server takes a request for a streamed list as one for an ordinary watch, which never says
                // where the list ends.
                Err(_) if listing.is_some() => return Ok(Ended::NoStreaming),
                Err(_) => return Ok(Ended::Failed(Trouble::silent(self.silence))),
            };
            match event {
                None => return Ok(Ended::Regularly),
                Some(event) => match listing.take() {
                    Some(unfinished) => listing = self.list_event(unfinished, event).await?,
                    None => self.event(event).await?,
                },
            }
        }
    }

    /// Takes in what a list that is streamed tells; gives the list back unless it is whole now.
    async fn list_event(
        &mut self,
        mut listing: Listing<K>,
        event: WatchEvent<Slim<K>>,
    ) -> Result<Option<Listing<K>>, Ended> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                if let Some(reading) = self.list_object(&object) {
                    listing.gone.remove(&reading.key);
                    listing.objects.push(reading);
                }
                if listing.objects.len() >= PAGE as usize {
                    self.tell(News::Part(std::mem::take(&mut listing.objects))).await?;
                }
            }
            WatchEvent::Deleted(object) => {
                if let Some((key, event)) = self.read_deleted(&object) {
                    listing.objects.retain(|object| object.key != key);
                    listing.gone.insert(key.clone(), object);
                    self.tell(News::Deleted(key, event)).await?;
                }
            }
            WatchEvent::Bookmark(bookmark) if bookmark.metadata.annotations.contains_key(INITIAL_EVENTS_END) => {
                self.listed(listing.objects, bookmark.metadata.resource_version).await?;
                listing.gone.values().for_each(|object| self.journal.deleted(&object.0));
                return Ok(None);
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(refusal(kube::Error::Api(status), true)),
        }
        Ok(Some(listing))
    }

    /// Takes in what a watch tells of objects that are known.
    async fn event(&mut self, event: WatchEvent<Slim<K>>) -> Result<(), Ended> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.changed(&object, self.read(&object).map(News::Applied)).await
            }
            WatchEvent::Deleted(object) => {
                let deleted = self.read_deleted(&object);
                self.changed(&object, deleted.map(|(key, event)| News::Deleted(key, event))).await
            }
            WatchEvent::Bookmark(bookmark) => {
                self.tell(News::Unchanged).await?;
                self.journal.heard();
                self.seen(Some(&bookmark.metadata.resource_version));
                Ok(())
            }
            WatchEvent::Error(status) => Err(refusal(kube::Error::Api(status), false)),
        }
    }

    /// Tells of an object. Only what was told is seen: this may be given up while it waits.
    async fn changed(&mut self, object: &Slim<K>, news: Option<News>) -> Result<(), Ended> {
        if let Some(news) = news {
            let is_deleted = matches!(news, News::Deleted(..));
            self.tell(news).await?;
            // Noted at once, so that no commit is ahead of the disk for longer than its writer takes.
            if is_deleted {
                self.journal.deleted(&object.0);
            } else {
                self.journal.applied(&object.0);
            }
        }
        self.seen(object.resource_version());
        Ok(())
    }

    /// A watch has told everything up to this version.
    fn seen(&mut self, version: Option<&str>) {
        if let Some(version) = version.filter(|version| !version.is_empty()) {
            self.version = Some(version.to_owned());
        }
        self.backoff.succeeded();
    }
}

/// What a streamed list has told up to now. What happens meanwhile may come before its end.
struct Listing<K> {
    /// The part that is not told yet.
    objects: Vec<Reading>,
    /// Those that were listed and ended since.
    gone: BTreeMap<ObjectKey, Slim<K>>,
}

// Derived, it would ask the same of the kind.
impl<K> Default for Listing<K> {
    fn default() -> Self {
        Self { objects: Vec::new(), gone: BTreeMap::new() }
    }
}

/// A collection in pages.
struct Pages<'a, K> {
    client: &'a Client,
    /// What to ask for next; `None`: that was all.
    next: Option<ListParams>,
    /// The version of the whole.
    version: String,
    kind: std::marker::PhantomData<K>,
}

impl<'a, K: Kind> Pages<'a, K> {
    fn of(client: &'a Client) -> Self {
        let next = Some(ListParams::default().limit(PAGE));
        Self { client, next, version: String::new(), kind: std::marker::PhantomData }
    }

    async fn next(&mut self) -> Result<Option<Vec<Slim<K>>>, Ended> {
        let Some(next) = &self.next else { return Ok(None) };
        let request = Request::new(K::COLLECTION.path()).list(next).map_err(kube::Error::BuildRequest)?;
        let page: Page<Slim<K>> = within(PATIENCE, self.client.request(request)).await??;
        let token = page.metadata.next.filter(|token| !token.is_empty());
        self.next = token.map(|token| ListParams::default().limit(PAGE).continue_token(&token));
        self.version = page.metadata.resource_version;
        Ok(Some(page.items.unwrap_or_default()))
    }
}

/// All objects of a collection, once.
pub async fn list_once<K: Kind>(client: &Client, cluster: &ClusterId) -> Result<Vec<Reading>, Trouble> {
    let mut objects = Vec::new();
    let mut pages = Pages::<K>::of(client);
    let read = |object: &Slim<K>| convert::read_typed(cluster, K::COLLECTION.object_type(), &object.0);
    loop {
        match pages.next().await {
            Ok(Some(page)) => objects.extend(page.iter().filter_map(read)),
            Ok(None) => return Ok(objects),
            Err(Ended::Failed(trouble)) => return Err(trouble),
            Err(_) => return Err(Trouble::refused("the list changed while it was read; try again")),
        }
    }
}

/// Waits until there is a client that this receiver has not seen; for ever if there will be none.
async fn changed(clients: &mut watch::Receiver<Option<Client>>) {
    if clients.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What an error means. To a request for a streamed list, some mean that there are none: the server knows no such
/// parameter, or its storage cannot tell how far it is (500, of etcd before 3.4.25).
fn refusal(error: kube::Error, is_listing: bool) -> Ended {
    match error {
        kube::Error::Api(status) if is_listing && matches!(status.code, 400 | 422 | 500 | 501) => {
            tracing::info!("no streaming list, so in pages: {}", status.message);
            Ended::NoStreaming
        }
        error => error.into(),
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, Ended> {
    timeout(limit, work).await.map_err(|_| Ended::Failed(Trouble::silent(limit)))
}

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    metadata: PageMetadata,
    items: Option<Vec<T>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}
