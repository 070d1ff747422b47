//! Where each question is asked.

use super::types::Request;

/// How a request is made: its method, its path, and whether a body goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET`, without a body.
    Get(&'static str),
    /// `POST`, with a JSON body.
    Post(&'static str),
}

/// The questions without a body, by path.
const PLAIN: [(&str, Request); 6] = [
    ("/v1/status", Request::Status),
    ("/v1/endpoints", Request::Endpoints),
    ("/v1/identities", Request::Identities),
    ("/v1/policies", Request::Policies),
    ("/v1/clusters", Request::Clusters),
    ("/v1/issues", Request::Issues),
];
/// Where [`Request::Explain`] is asked.
const EXPLAIN: &str = "/v1/explain";

impl Request {
    /// How it is made.
    pub fn route(&self) -> Route {
        let plain = |(_, request): &&(&str, Self)| request == self;
        PLAIN.iter().find(plain).map_or(Route::Post(EXPLAIN), |(path, _)| Route::Get(path))
    }

    /// The question that a plain path asks.
    pub fn at(path: &str) -> Option<Self> {
        PLAIN.iter().find(|(known, _)| *known == path).map(|(_, request)| request.clone())
    }

    /// Whether `path` is that of [`Request::Explain`].
    pub fn is_explain(path: &str) -> bool {
        path == EXPLAIN
    }
}
