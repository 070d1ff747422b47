//! An API server of a test: it has what it is told to have, and errs as it is told to.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How a request for a streamed list is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streaming {
    /// By the list, and a bookmark where it ends.
    #[default]
    Offered,
    /// By an error within the watch, as a server says it whose storage is too old.
    Refused,
    /// As an ordinary watch.
    Ignored,
}

/// What it has and how it behaves.
#[derive(Debug, Default)]
pub struct State {
    /// How streamed lists are answered.
    pub streaming: Streaming,
    /// With this code everything that is asked is refused, …
    pub refuses: Option<u16>,
    /// What ends while a streamed list is told, before that list ends.
    pub ends_while_listed: Vec<Value>,
    /// … or only what this path names.
    pub refuses_only: Option<&'static str>,
    /// Who shows no such token is not known here (401).
    pub token: Option<&'static str>,
    /// Whether it takes questions and never answers.
    pub is_mute: bool,
    /// Whether it tells bookmarks while nothing happens.
    pub bookmarks: bool,
    /// Whether it takes connections and says nothing.
    pub is_silent: bool,
    /// With this code everything that is written is refused, but leases.
    pub refuses_writes: Option<u16>,
    /// What was written: method, path and content.
    pub writes: Vec<(Method, String, Value)>,
    /// What was asked: path and query.
    pub requests: Vec<String>,
    version: u64,
    /// What happened before this version is forgotten.
    oldest: u64,
    objects: BTreeMap<(String, String), Value>,
    history: Vec<Happened>,
    /// Watches that began before this many were ended.
    ended: u64,
    /// Whether its lists say no version.
    pub is_unversioned: bool,
}

#[derive(Clone, Debug)]
struct Happened {
    version: u64,
    path: String,
    what: &'static str,
    object: Value,
}

/// The server; it ends with the runtime.
#[derive(Clone)]
pub struct Server {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
    port: u16,
}

impl Server {
    /// An empty one, on loopback.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it listens").port();
        let server = Self { state: Arc::default(), changed: watch::Sender::new(()), port };
        let serving = server.clone();
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.expect("a connection");
                let server = serving.clone();
                let answer = service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(request).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), answer),
                );
            }
        });
        server
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self) -> String {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: k, user: u}}}}], \
             clusters: [{{name: k, cluster: {{server: '{}'}}}}], users: [{{name: u, user: {{}}}}]}}",
            self.url()
        )
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Looks at it, or changes how it behaves.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tells_bookmarks(&self) -> bool {
        let state = self.state();
        state.bookmarks && !state.is_silent
    }

    /// An object of a collection is created or changed.
    pub fn apply(&self, path: &str, object: Value) {
        self.state().store(path, object);
        self.changed.send_replace(());
    }

    /// The object at this path.
    pub fn object(&self, path: &str) -> Option<Value> {
        self.state().one(path).cloned()
    }

    /// An object is deleted.
    pub fn delete(&self, path: &str, object: &Value) {
        let mut state = self.state();
        state.version += 1;
        let mut object = state.objects.remove(&(path.to_owned(), name(object))).expect("it is there");
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let happened = Happened { version: state.version, path: path.to_owned(), what: "DELETED", object };
        state.history.push(happened);
        drop(state);
        self.changed.send_replace(());
    }

    /// Forgets what happened up to now.
    pub fn compact(&self) {
        let mut state = self.state();
        state.oldest = state.version + 1;
        state.version += 1;
        state.history.clear();
    }

    /// Ends all watches.
    pub fn end_watches(&self) {
        self.state().ended += 1;
        self.changed.send_replace(());
    }

    /// What was asked of a collection since the last time.
    pub fn requests(&self, path: &str) -> Vec<String> {
        let asked = std::mem::take(&mut self.state().requests);
        asked.into_iter().filter(|request| request.starts_with(path)).collect()
    }

    /// What of that was for all there is, not for what changed.
    pub fn lists(&self) -> Vec<String> {
        let mut asked = self.requests("/");
        asked.retain(|request| request.contains("sendInitialEvents=true") || !request.contains("watch=true"));
        asked
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default());
        let query: HashMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let (refuses, is_mute) = {
            let mut state = self.state();
            state.requests.push(request.uri().to_string());
            let is_meant = state.refuses_only.is_none_or(|only| path.starts_with(only));
            let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let is_known =
                state.token.is_none_or(|token| shown.and_then(|shown| shown.strip_prefix("Bearer ")) == Some(token));
            let refuses = if is_known { state.refuses.filter(|_| is_meant) } else { Some(401) };
            (refuses, state.is_mute)
        };
        if is_mute {
            return std::future::pending().await;
        }
        if let Some(code) = refuses {
            return whole(code, &status(code, "it is not to be"));
        }
        if request.method() != Method::GET {
            let method = request.method().clone();
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            let body = serde_json::from_slice(&body).expect("JSON");
            let (code, answer) = self.state().write(&method, &path, body);
            self.changed.send_replace(());
            return whole(code, &answer);
        }
        if query.get("watch").is_some_and(|watch| watch == "true") {
            return self.watch(path, &query);
        }
        let one = self.state().one(&path).cloned();
        match one {
            Some(object) => whole(200, &object),
            // Of kinds that a server does not have, there is neither an object nor a list.
            None if ["/clusterproperties/", "/leases/"].iter().any(|kind| path.contains(kind)) => {
                whole(404, &status(404, "not found"))
            }
            None => whole(200, &self.list(&path, &query)),
        }
    }

    fn list(&self, path: &str, query: &HashMap<String, String>) -> Value {
        let state = self.state();
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
        let (skip, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
        let all: Vec<&Value> = state.of(path).collect();
        let items: Vec<&Value> = all.iter().skip(skip).take(limit).copied().collect();
        let next = if skip + items.len() < all.len() { (skip + items.len()).to_string() } else { String::new() };
        let version = if state.is_unversioned { String::new() } else { state.version.to_string() };
        json!({"metadata": {"resourceVersion": version, "continue": next}, "items": items})
    }

    fn watch(&self, path: String, query: &HashMap<String, String>) -> Response<Answer> {
        let state = self.state();
        let mut first = Vec::new();
        let mut seen = query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
        let event = |what: &str, object: &Value| json!({"type": what, "object": object});
        if query.contains_key("sendInitialEvents") {
            match state.streaming {
                Streaming::Refused => first.push(event("ERROR", &status(500, "no progress is told"))),
                Streaming::Offered | Streaming::Ignored => first.extend(state.of(&path).map(|it| event("ADDED", it))),
            }
            first.extend(state.ends_while_listed.iter().map(|it| event("DELETED", it)));
            if state.streaming == Streaming::Offered {
                let metadata = json!({"resourceVersion": state.version.to_string(),
                    "annotations": {"k8s.io/initial-events-end": "true"}});
                first.push(event("BOOKMARK", &json!({"kind": "X", "apiVersion": "v1", "metadata": metadata})));
            }
            seen = state.version;
        } else if seen < state.oldest {
            first.push(event("ERROR", &status(410, "too old resource version")));
        }
        let begun = state.ended;
        drop(state);
        let words: String = first.iter().map(|event| format!("{event}\n")).collect();
        let watching = Watching { server: self.clone(), changed: self.changed.subscribe(), path, seen, begun };
        let body = stream::unfold((Some(words), watching), |(words, mut watching)| async move {
            let words = match words {
                Some(words) => words,
                None => watching.next().await?,
            };
            Some((Ok(Frame::data(Bytes::from(words))), (None, watching)))
        });
        answer(200, body)
    }
}

impl State {
    /// The object at this path.
    fn one(&self, path: &str) -> Option<&Value> {
        let (collection, name) = path.rsplit_once('/')?;
        self.of(collection).find(|object| object["metadata"]["name"] == name)
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let key = (path.to_owned(), name(&object));
        let what = if self.objects.insert(key, object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        self.history.push(Happened { version: self.version, path: path.to_owned(), what, object: object.clone() });
        object
    }

    /// Creates, replaces or patches (RFC 7396) an object, if it is that which the writer knows.
    fn write(&mut self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        self.writes.push((method.clone(), path.to_owned(), body.clone()));
        if let Some(code) = self.refuses_writes.filter(|_| !path.contains("/leases")) {
            return (code, status(code, "it is not to be written"));
        }
        let conflict = (409, status(409, "another one"));
        if *method == Method::POST {
            let mut object = body;
            if object["metadata"]["name"].is_null() {
                let prefix = object["metadata"]["generateName"].as_str().expect("a name").to_owned();
                object["metadata"]["name"] = json!(format!("{prefix}{}", self.version));
            }
            let key = (path.to_owned(), name(&object));
            return if self.objects.contains_key(&key) { conflict } else { (201, self.store(path, object)) };
        }
        // Those of all namespaces are watched as one.
        let (path, namespace) = match path.split_once("/namespaces/") {
            Some((root, rest)) if rest.contains("/networkpolicies/") => {
                let (namespace, rest) = rest.split_once('/').expect("a namespace");
                (format!("{root}/{rest}"), Some(namespace))
            }
            _ => (path.to_owned(), None),
        };
        let before = self.one(&path).filter(|object| namespace.is_none_or(|it| object["metadata"]["namespace"] == it));
        let Some(before) = before.cloned() else { return (404, status(404, "not found")) };
        for field in ["uid", "resourceVersion"] {
            let known = &body["metadata"][field];
            if !known.is_null() && *known != before["metadata"][field] {
                return conflict;
            }
        }
        let (collection, _) = path.rsplit_once('/').expect("a collection");
        let after = if *method == Method::PUT { body } else { merged(before, &body) };
        (200, self.store(collection, after))
    }

    fn of(&self, path: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((of, _), _)| of == path).map(|(_, object)| object)
    }
}

/// A watch that goes on.
struct Watching {
    server: Server,
    changed: watch::Receiver<()>,
    path: String,
    seen: u64,
    begun: u64,
}

impl Watching {
    /// What happened next; `None`: the watch is ended.
    async fn next(&mut self) -> Option<String> {
        loop {
            let words = {
                let state = self.server.state();
                if state.ended != self.begun {
                    return None;
                }
                let news = state.history.iter().filter(|it| it.path == self.path && it.version > self.seen);
                let words: String =
                    news.map(|it| format!("{}\n", json!({"type": it.what, "object": it.object}))).collect();
                if state.is_silent {
                    String::new()
                } else {
                    self.seen = state.version;
                    words
                }
            };
            if !words.is_empty() {
                return Some(words);
            }
            // Looks again now and then: silence ends without a notice.
            let changed = tokio::time::timeout(Duration::from_millis(20), self.changed.changed()).await;
            if changed.is_err() && self.server.tells_bookmarks() {
                let metadata = json!({"resourceVersion": self.seen.to_string()});
                let object = json!({"kind": "X", "apiVersion": "v1", "metadata": metadata});
                return Some(format!("{}\n", json!({"type": "BOOKMARK", "object": object})));
            }
        }
    }
}

type Answer = StreamBody<std::pin::Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

fn answer(code: u16, body: impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static) -> Response<Answer> {
    let mut response = Response::new(StreamBody::new(Box::pin(body) as _));
    *response.status_mut() = StatusCode::from_u16(code).expect("a code");
    response
}

fn whole(code: u16, body: &Value) -> Response<Answer> {
    let body = Bytes::from(body.to_string());
    answer(code, stream::iter([Ok(Frame::data(body))]))
}

fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": if code == 404 { "NotFound" } else { "Reason" }, "code": code})
}

fn merged(mut value: Value, patch: &Value) -> Value {
    let Some(members) = patch.as_object() else { return patch.clone() };
    if !value.is_object() {
        value = json!({});
    }
    for (name, patch) in members {
        if patch.is_null() {
            value.as_object_mut().expect("an object").remove(name);
        } else {
            value[name] = merged(value[name].take(), patch);
        }
    }
    value
}

fn name(object: &Value) -> String {
    format!("{}/{}", object["metadata"]["namespace"], object["metadata"]["name"])
}
