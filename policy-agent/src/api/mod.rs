//! The local API: HTTP and JSON on a unix socket, for root and the agent's own user.

mod client;
mod peer;
mod route;
mod server;
pub mod services;
#[cfg(test)]
mod tests;
pub mod types;

pub use client::{Client, ClientError};
pub use server::{Server, ServerError};

use tokio::sync::{mpsc, oneshot};

use types::{Answer, Refusal, Request};

/// A question on its way to the control loop.
#[derive(Debug)]
pub struct Query {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Answer, Refusal>>,
}

/// Where questions are handed in.
pub type Queries = mpsc::Sender<Query>;
