//! Where each question is asked.

use super::types::Request;

/// How a request is made: its method, its path, and whether a body goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `GET`, without a body.
    Get(&'a str),
    /// `POST`, with a JSON body.
    Post(&'a str),
}

/// The questions without a body.
const PLAIN: [Request; 7] = [
    Request::Status,
    Request::Endpoints,
    Request::Identities,
    Request::Policies,
    Request::Clusters,
    Request::Services,
    Request::Issues,
];
/// Where [`Request::Explain`] is asked.
const EXPLAIN: &str = "/v1/explain";

impl Request {
    /// How it is made.
    pub fn route(&self) -> Route<'static> {
        match self {
            Self::Status => Route::Get("/v1/status"),
            Self::Endpoints => Route::Get("/v1/endpoints"),
            Self::Identities => Route::Get("/v1/identities"),
            Self::Policies => Route::Get("/v1/policies"),
            Self::Clusters => Route::Get("/v1/clusters"),
            Self::Services => Route::Get("/v1/services"),
            Self::Issues => Route::Get("/v1/issues"),
            Self::Explain(_) => Route::Post(EXPLAIN),
        }
    }

    /// The question that a plain path asks.
    pub fn at(path: &str) -> Option<Self> {
        PLAIN.into_iter().find(|request| request.route() == Route::Get(path))
    }

    /// Whether `path` is that of [`Request::Explain`].
    pub fn is_explain(path: &str) -> bool {
        path == EXPLAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plain_question_is_found_by_its_path() {
        for request in PLAIN {
            let Route::Get(path) = request.route() else { panic!("{request:?} has a body") };
            assert_eq!(Request::at(path), Some(request));
        }
        assert_eq!((Request::at(EXPLAIN), Request::at("/v1/")), (None, None));
    }
}
