//! When a member's snapshot is read: where its API server has not told all there is for a while, or cannot be asked.

use policy_core::model::ClusterId;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::collection::Collection;
use super::member::Conduct;
use super::snapshot::{self, Restored, Scribe, Unrestored};

/// Looks for what a member has not told in its snapshot, once.
pub struct Restoring {
    cluster: ClusterId,
    scribe: Option<Scribe>,
    due: Instant,
    reading: Option<JoinHandle<Result<Vec<Restored>, Unrestored>>>,
}

impl Restoring {
    /// What a member has not told after a while is looked for.
    pub fn new(cluster: ClusterId, conduct: Conduct) -> Self {
        Self { cluster, scribe: conduct.scribe, due: Instant::now() + conduct.restore_after, reading: None }
    }

    /// Begins to read what there is of these collections, if that was not done before, where nobody waits for the disk.
    pub fn begin(&mut self, collections: Vec<Collection>) {
        if let Some(scribe) = self.scribe.take()
            && !collections.is_empty()
        {
            let cluster = self.cluster.clone();
            let read = move || snapshot::restore(scribe.folder(), &cluster, &collections);
            self.reading = Some(tokio::task::spawn_blocking(read));
        }
    }

    /// What was read, or `None`: it is time to read. Waits for ever once that is over.
    pub async fn next(&mut self) -> Option<Result<Vec<Restored>, Unrestored>> {
        match &mut self.reading {
            Some(reading) => {
                let read = reading.await;
                self.reading = None;
                // Ends early only with the runtime itself.
                Some(read.ok()?)
            }
            None if self.scribe.is_some() => {
                sleep_until(self.due).await;
                None
            }
            None => std::future::pending().await,
        }
    }
}
