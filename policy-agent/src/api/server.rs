//! The agent's side of the local API.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::peer::Admitted;
use super::types::{Refusal, Request};
use super::{Queries, Query};

/// The longest request body.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a client may take to say what it wants.
const HEADERS: Duration = Duration::from_secs(5);
/// How long after a failure to accept a connection the next is tried.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the socket {}; name another one with --socket", .path.display())]
pub struct ServerError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A listening socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    admitted: Admitted,
}

impl Server {
    /// Listens at `path`, in place of a socket that was there; its folder is made if need be.
    ///
    /// The socket gets its mode before it gets its name, so it is never open to others.
    pub fn bind(path: &Path) -> Result<Self, ServerError> {
        let failed = |operation| move |source| ServerError { operation, path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
        }
        let mut unnamed = path.as_os_str().to_owned();
        unnamed.push(".new");
        let unnamed = PathBuf::from(unnamed);
        match std::fs::remove_file(&unnamed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("replace")(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&unnamed).map_err(failed("listen at"))?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&unnamed, mode).map_err(failed("protect"))?;
        std::fs::rename(&unnamed, path).map_err(failed("name"))?;
        let admitted = Admitted::own().map_err(failed("tell who may use"))?;
        Ok(Self { listener, admitted })
    }

    /// Answers until the runtime ends.
    pub async fn serve(self, queries: Queries) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let queries = self.admitted.admits(&stream).then(|| queries.clone());
                    tokio::spawn(converse(stream, queries));
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection to the local API: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Answers the requests of one connection; one who may not ask is told so.
async fn converse(stream: UnixStream, queries: Option<Queries>) {
    let service = service_fn(|request| {
        let queries = queries.clone();
        async move { Ok::<_, Infallible>(respond(request, queries).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS);
    let served = http.serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!("a connection to the local API ended early: {error}");
    }
}

async fn respond(request: hyper::Request<Incoming>, queries: Option<Queries>) -> Response<Full<Bytes>> {
    let Some(queries) = queries else {
        return refuse(StatusCode::FORBIDDEN, "only root and the agent's own user may ask");
    };
    let request = match read(request).await {
        Ok(request) => request,
        Err(response) => return response,
    };
    let (answer, answered) = oneshot::channel();
    let gone = || refuse(StatusCode::SERVICE_UNAVAILABLE, "the agent is ending");
    if queries.send(Query { request, answer }).await.is_err() {
        return gone();
    }
    match answered.await {
        Ok(Ok(answer)) => match serde_json::to_vec(&answer) {
            Ok(body) => json(StatusCode::OK, body),
            Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("cannot encode the answer: {error}")),
        },
        Ok(Err(Refusal { error })) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &error),
        Err(_) => gone(),
    }
}

async fn read(request: hyper::Request<Incoming>) -> Result<Request, Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    match *request.method() {
        Method::GET => Request::at(&path).ok_or_else(|| unknown(&path)),
        Method::POST if Request::is_explain(&path) => {
            let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await;
            let bad = |error: String| refuse(StatusCode::BAD_REQUEST, &format!("cannot read the request: {error}"));
            let body = body.map_err(|error| bad(error.to_string()))?.to_bytes();
            serde_json::from_slice(&body).map(Request::Explain).map_err(|error| bad(error.to_string()))
        }
        _ => Err(unknown(&path)),
    }
}

fn unknown(path: &str) -> Response<Full<Bytes>> {
    refuse(StatusCode::NOT_FOUND, &format!("this agent ({}) has no {path}", env!("CARGO_PKG_VERSION")))
}

fn refuse(status: StatusCode, error: &str) -> Response<Full<Bytes>> {
    let refusal = Refusal { error: error.to_owned() };
    json(status, serde_json::to_vec(&refusal).unwrap_or_default())
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
