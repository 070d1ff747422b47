//! What is wrong between the agent and an API server, as a person needs to hear it.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::collection::Collection;

/// Why an API server does not tell what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    kind: TroubleKind,
    /// What was said, sources included.
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TroubleKind {
    /// No answer, or none that can be understood.
    Unreachable,
    /// Nothing was heard for too long.
    Silent,
    /// Whoever asks is not known (401).
    Unauthorized,
    /// Whoever asks may not (403).
    Forbidden,
    /// What was asked for is long ago (410).
    Expired,
    /// There is no such thing (404).
    NotFound,
    /// What was asked for cannot be as it would be then (422).
    Invalid,
    /// Anything else that the server says.
    Refused,
    /// There are no credentials to ask with.
    NoAccess,
}

impl Trouble {
    /// What an error of the client means.
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                let kind = match status.code {
                    401 => TroubleKind::Unauthorized,
                    403 => TroubleKind::Forbidden,
                    404 => TroubleKind::NotFound,
                    410 => TroubleKind::Expired,
                    422 => TroubleKind::Invalid,
                    _ if status.reason == "Expired" => TroubleKind::Expired,
                    _ => TroubleKind::Refused,
                };
                let code = if status.code == 0 { String::new() } else { format!(" ({})", status.code) };
                Self { kind, message: format!("{}{code}", status.message) }
            }
            error => Self { kind: TroubleKind::Unreachable, message: chain(error) },
        }
    }

    /// Nothing was heard for so long.
    pub fn silent(limit: Duration) -> Self {
        Self { kind: TroubleKind::Silent, message: format!("nothing was heard for {} s", limit.as_secs()) }
    }

    /// What was said is of no use.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { kind: TroubleKind::Refused, message: message.into() }
    }

    /// There is nothing to ask with.
    pub fn no_access(message: impl Into<String>) -> Self {
        Self { kind: TroubleKind::NoAccess, message: message.into() }
    }

    /// The same, of something that is named before it.
    #[must_use]
    pub fn prefixed(mut self, prefix: &str) -> Self {
        self.message.insert_str(0, prefix);
        self
    }

    /// The same, with what follows from it.
    #[must_use]
    pub fn suffixed(mut self, suffix: &str) -> Self {
        self.message.push_str(suffix);
        self
    }

    /// Whether the server does not have what was asked for.
    pub fn is_not_found(&self) -> bool {
        self.kind == TroubleKind::NotFound
    }

    /// Whether whoever asks may not.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.kind, TroubleKind::Forbidden | TroubleKind::Unauthorized)
    }

    /// Whether the server judged what it was asked to write, rather than being unable to.
    pub fn is_judgement(&self) -> bool {
        matches!(self.kind, TroubleKind::Invalid | TroubleKind::Forbidden)
    }

    /// Whether there are no credentials to ask with.
    pub fn is_no_access(&self) -> bool {
        self.kind == TroubleKind::NoAccess
    }

    /// Whether everything must be listed anew.
    pub fn is_expired(&self) -> bool {
        self.kind == TroubleKind::Expired
    }

    /// What to do about it, as far as `collection` is concerned.
    pub fn advice(&self, collection: Option<Collection>) -> String {
        match self.kind {
            TroubleKind::Forbidden => match collection {
                Some(collection) => format!("; the reader's ClusterRole needs {{{}}}", collection.permission()),
                None => "; the reader's Role does not allow it".to_owned(),
            },
            TroubleKind::Unauthorized => "; its token or certificate is not valid there any more: renew it".to_owned(),
            TroubleKind::Unreachable | TroubleKind::Silent => {
                "; see that the API server runs and that this node reaches it".to_owned()
            }
            TroubleKind::Expired
            | TroubleKind::NotFound
            | TroubleKind::Invalid
            | TroubleKind::Refused
            | TroubleKind::NoAccess => String::new(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error with its sources, none of them twice: many repeat what they come from.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api(code: u16, reason: &str, message: &str) -> Trouble {
        let status = Status { code, reason: reason.to_owned(), message: message.to_owned(), ..Status::default() };
        Trouble::of(&kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn what_the_server_refuses_says_what_to_do() {
        let forbidden = api(403, "Forbidden", "pods is forbidden");
        assert_eq!(forbidden.to_string(), "pods is forbidden (403)");
        let advice = forbidden.advice(Some(Collection::Pods));
        let expect =
            r#"; the reader's ClusterRole needs {apiGroups: [""], resources: ["pods"], verbs: ["list", "watch"]}"#;
        assert_eq!(advice, expect);
        assert!(api(401, "Unauthorized", "Unauthorized").advice(None).contains("renew"));
    }

    #[test]
    fn a_version_that_is_forgotten_is_told_apart_whichever_way_it_is_said() {
        assert!(api(410, "Gone", "too old").is_expired() && api(0, "Expired", "too old").is_expired());
        assert!(!api(404, "NotFound", "no").is_expired());
    }
}
