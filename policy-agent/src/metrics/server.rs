//! `/metrics`, `/healthz` and `/readyz` over HTTP.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use super::{Scrape, Scrapes, encode};
use crate::api::types::Phase;

/// How long the control loop may take to answer before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many connections there may be; others wait until one ends.
const CONNECTIONS: usize = 32;
/// How long a client may take to say what it wants.
const HEADERS: Duration = Duration::from_secs(5);
/// How long a connection may last, with the reading of the answer.
const CONVERSATION: Duration = Duration::from_secs(30);
/// How long after a failure to accept a connection the next is tried.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics at {address}; name an address of this machine and a free port with --metrics")]
pub struct MetricsError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A listening port.
#[derive(Debug)]
pub struct MetricsServer {
    listener: TcpListener,
}

impl MetricsServer {
    /// Listens at `address`.
    pub async fn bind(address: SocketAddr) -> Result<Self, MetricsError> {
        let listener = TcpListener::bind(address).await.map_err(|source| MetricsError { address, source })?;
        Ok(Self { listener })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the runtime ends.
    pub async fn serve(self, scrapes: Scrapes) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        // The room is never closed.
        while let Ok(place) = room.clone().acquire_owned().await {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("cannot accept a connection to the metrics: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let scrapes = scrapes.clone();
            tokio::spawn(async move {
                let _place = place;
                match tokio::time::timeout(CONVERSATION, converse(stream, scrapes)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!("a connection to the metrics ended early: {error}"),
                    Err(_) => tracing::debug!("a connection to the metrics took too long"),
                }
            });
        }
    }
}

/// Answers one request: whoever can reach the port may ask, so nobody may stay.
async fn converse(stream: TcpStream, scrapes: Scrapes) -> Result<(), hyper::Error> {
    let service = service_fn(|request| {
        let scrapes = scrapes.clone();
        async move { Ok::<_, Infallible>(respond(&request, &scrapes).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS).keep_alive(false);
    http.serve_connection(TokioIo::new(stream), service).await
}

async fn respond(request: &Request<Incoming>, scrapes: &Scrapes) -> Response<Full<Bytes>> {
    if *request.method() != Method::GET {
        return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is answered\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => match ask(scrapes, Scrape::Everything).await.as_ref().map(encode) {
            None => stuck(),
            Some(Ok(text)) => response(StatusCode::OK, OPEN_METRICS, text),
            Some(Err(error)) => {
                response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("cannot encode metrics: {error}\n"))
            }
        },
        path @ ("/healthz" | "/readyz") => match (path, ask(scrapes, Scrape::Phase).await) {
            (_, None) => stuck(),
            ("/readyz", Some(Phase::Starting)) => {
                let waiting = "waiting for what API servers or files tell; until then nothing changes\n";
                response(StatusCode::SERVICE_UNAVAILABLE, TEXT, waiting.to_owned())
            }
            _ => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
        },
        _ => response(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /readyz\n".to_owned()),
    }
}

fn stuck() -> Response<Full<Bytes>> {
    response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the control loop does not answer\n".to_owned())
}

/// What the control loop answers; `None`: nothing, in time.
async fn ask<T>(scrapes: &Scrapes, scrape: impl FnOnce(oneshot::Sender<T>) -> Scrape) -> Option<T> {
    let asked = async {
        let (answer, answered) = oneshot::channel();
        scrapes.send(scrape(answer)).await.ok()?;
        answered.await.ok()
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}

fn response(status: StatusCode, kind: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// The first line of what an agent in this phase answers; `None`: its loop is stuck.
    async fn status_line(phase: Option<Phase>, path: &str) -> String {
        let server = MetricsServer::bind(([127, 0, 0, 1], 0).into()).await.expect("a port");
        let address = server.address().expect("it listens");
        let (scrapes, mut inbox) = tokio::sync::mpsc::channel(1);
        tokio::spawn(server.serve(scrapes));
        if let Some(phase) = phase {
            tokio::spawn(async move {
                while let Some(scrape) = inbox.recv().await {
                    if let Scrape::Phase(answer) = scrape {
                        assert_eq!(answer.send(phase), Ok(()));
                    }
                }
            });
        }
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it answers");
        text.lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn an_agent_that_waits_for_clusters_is_well_but_not_ready() {
        let starting = Some(Phase::Starting);
        assert_eq!(status_line(starting, "/healthz").await, "HTTP/1.1 200 OK");
        assert_eq!(status_line(starting, "/readyz").await, "HTTP/1.1 503 Service Unavailable");
        assert_eq!(status_line(Some(Phase::Enforcing), "/readyz").await, "HTTP/1.1 200 OK");
        assert_eq!(status_line(starting, "/").await, "HTTP/1.1 404 Not Found");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_only_hold_connections_keep_nobody_out() {
        let server = MetricsServer::bind(([127, 0, 0, 1], 0).into()).await.expect("a port");
        let address = server.address().expect("it listens");
        let (scrapes, _inbox) = tokio::sync::mpsc::channel(1);
        tokio::spawn(server.serve(scrapes));
        let mut idle = Vec::new();
        for _ in 0..2 * CONNECTIONS {
            idle.push(TcpStream::connect(address).await.expect("a connection"));
        }
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("it reads");
        let mut text = String::new();
        // It does not ask to close the connection, which ends all the same.
        stream.read_to_string(&mut text).await.expect("it answers");
        assert_eq!(text.lines().next(), Some("HTTP/1.1 404 Not Found"));
        let mut told = Vec::new();
        idle[0].read_to_end(&mut told).await.expect("it was ended");
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_whose_loop_is_stuck_is_not_well() {
        assert_eq!(status_line(None, "/healthz").await, "HTTP/1.1 503 Service Unavailable");
    }
}
