//! The asking side of the local API.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::route::Route;
use super::types::{Refusal, Request};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the agent behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no agent is running at {} ({reason}); start it with `policy-agent run`, or name its socket with --socket", .socket.display()
    )]
    NoAgent {
        /// The socket.
        socket: PathBuf,
        /// What is amiss with it.
        reason: &'static str,
    },
    /// Only root and the agent's user may.
    #[error("the agent at {} answers only root and its own user; try sudo", .0.display())]
    Forbidden(PathBuf),
    /// The socket cannot be used.
    #[error("cannot reach the agent at {}", .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the agent broke off")]
    Broken(#[from] hyper::Error),
    /// It takes too long.
    #[error("the agent at {} does not answer within {} s; its log may say why", .0.display(), PATIENCE.as_secs())]
    Late(PathBuf),
    /// The request cannot be made, or the answer not be read: another version, most likely.
    #[error("the agent answers in another way than this policyctl ({version}) expects: {0}", version = env!("CARGO_PKG_VERSION"))]
    Unexpected(String),
    /// The agent says why it has no answer.
    #[error("{0}")]
    Refused(String),
}

impl Client {
    /// A client of the agent that listens at `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks, and reads the answer as what the request promises.
    ///
    /// # Errors
    ///
    /// Also if the answer does not come within ten seconds.
    pub async fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ClientError> {
        match tokio::time::timeout(PATIENCE, self.converse(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(ClientError::Late(self.socket.clone())),
        }
    }

    async fn converse<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| self.unreachable(source))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let conversation = async {
            let response = sender.send_request(encode(request)?).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, ClientError>((status, body))
        };
        // The connection only ends by itself when the other side closes it.
        let (status, body) = tokio::select! {
            biased;
            answered = conversation => answered?,
            broken = connection => {
                broken?;
                return Err(ClientError::Unexpected("it closed the connection without an answer".to_owned()));
            }
        };
        self.decode(status, &body)
    }

    fn decode<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, ClientError> {
        let unexpected = |error: serde_json::Error| ClientError::Unexpected(error.to_string());
        if status == StatusCode::FORBIDDEN {
            return Err(ClientError::Forbidden(self.socket.clone()));
        }
        if status != StatusCode::OK {
            let Refusal { error } = serde_json::from_slice(body).map_err(unexpected)?;
            return Err(ClientError::Refused(error));
        }
        serde_json::from_slice(body).map_err(unexpected)
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound => ClientError::NoAgent { socket, reason: "there is no such socket" },
            io::ErrorKind::ConnectionRefused => ClientError::NoAgent { socket, reason: "nobody listens there" },
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(socket),
            _ => ClientError::Connect { socket, source },
        }
    }
}

fn encode(request: &Request) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
    let unexpected = |error: &dyn std::fmt::Display| ClientError::Unexpected(error.to_string());
    let (method, path, body) = match (request.route(), request) {
        (Route::Post(path), Request::Explain(question)) => {
            (Method::POST, path, serde_json::to_vec(question).map_err(|error| unexpected(&error))?)
        }
        (Route::Get(path) | Route::Post(path), _) => (Method::GET, path, Vec::new()),
    };
    hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| unexpected(&error))
}
