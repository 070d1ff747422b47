//! What the controller tells of itself, to whoever asks its port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use policy_core::model::Issue;

use crate::api::types::Phase;
use crate::metrics::{ControllerSnapshot, Scrape, Told};

/// Shared by everything that has something to tell.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ready: AtomicBool,
    leads: AtomicBool,
    written: AtomicU64,
    failed: AtomicU64,
    issues: Mutex<Vec<Issue>>,
}

impl Status {
    /// It has seen the Lease.
    pub(super) fn ready(&self) {
        self.0.ready.store(true, Ordering::Relaxed);
    }

    /// It leads from now on, or does no more.
    pub(super) fn leads(&self, leads: bool) {
        self.0.leads.store(leads, Ordering::Relaxed);
        if !leads {
            self.issues(Vec::new());
        }
    }

    /// Something was written.
    pub(super) fn written(&self) {
        self.0.written.fetch_add(1, Ordering::Relaxed);
    }

    /// Something could not be written.
    pub(super) fn failed(&self) {
        self.0.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// All that is wrong with policies.
    pub(super) fn issues(&self, issues: Vec<Issue>) {
        *self.0.issues.lock().unwrap_or_else(PoisonError::into_inner) = issues;
    }

    /// Answers. One who waits to lead is as ready as one who does; who was never able to ask whether to is not.
    pub fn answer(&self, scrape: Scrape) {
        let Inner { ready, leads, written, failed, issues } = &*self.0;
        match scrape {
            Scrape::Phase(answer) => drop(answer.send(match ready.load(Ordering::Relaxed) {
                true => Phase::Enforcing,
                false => Phase::Starting,
            })),
            Scrape::Everything(answer) => drop(answer.send(Told::Controller(ControllerSnapshot {
                leads: leads.load(Ordering::Relaxed),
                written: written.load(Ordering::Relaxed),
                failed: failed.load(Ordering::Relaxed),
                issues: issues.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            }))),
        }
    }
}
