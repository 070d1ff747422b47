//! Which members of the ClusterSet have told all they have.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use policy_core::model::{ClusterConfig, ClusterId, Event, IssueCode, Level};

use crate::api::types::SyncState;
use crate::sources::Batch;

/// All members.
#[derive(Debug)]
pub struct Members {
    states: BTreeMap<ClusterId, SyncState>,
    heard: BTreeMap<ClusterId, SystemTime>,
}

impl Members {
    /// The members of a ClusterSet that have told nothing yet.
    pub fn new(config: &ClusterConfig) -> Self {
        let waiting = |member: &policy_core::model::Member| (member.id.clone(), SyncState::Waiting);
        Self { states: config.members.iter().map(waiting).collect(), heard: BTreeMap::new() }
    }

    /// Takes in what a source says.
    pub fn update(&mut self, batch: &Batch) {
        let Batch { events, issues, heard } = batch;
        for event in events {
            match event {
                Event::Configured(config) => {
                    let mut before = std::mem::replace(self, Self::new(config));
                    for (id, state) in &mut self.states {
                        *state = before.states.remove(id).unwrap_or(SyncState::Waiting);
                    }
                    self.heard = before.heard;
                    self.heard.retain(|id, _| self.states.contains_key(id));
                }
                // One that is no member any more may have been heard still.
                Event::Synced(id) => {
                    if let Some(state) = self.states.get_mut(id) {
                        *state = SyncState::Synced;
                    }
                }
                _ => {}
            }
        }
        self.heard
            .extend(heard.iter().filter(|(id, _)| self.states.contains_key(*id)).map(|(id, at)| (id.clone(), *at)));
        let Some(issues) = issues else { return };
        let mut troubled: BTreeMap<&str, SyncState> = BTreeMap::new();
        for issue in issues {
            let state = match issue.code {
                // A warning is of what no verdict rests on.
                IssueCode::UnusableSource if issue.level == Level::Error => SyncState::Lost,
                IssueCode::RestoredSource => SyncState::Restored,
                IssueCode::StaleSource => SyncState::Stale,
                _ => continue,
            };
            let known = troubled.entry(&issue.object).or_insert(state);
            *known = (*known).max(state);
        }
        for (id, state) in &mut self.states {
            if *state != SyncState::Waiting {
                *state = troubled.get(id.as_str()).copied().unwrap_or(SyncState::Synced);
            }
        }
    }

    /// What is known of a member.
    pub fn state(&self, id: &ClusterId) -> SyncState {
        self.states.get(id).copied().unwrap_or(SyncState::Waiting)
    }

    /// How long ago all that is known of a member was last known to be so; `None`: nobody says.
    pub fn age(&self, id: &ClusterId) -> Option<Duration> {
        self.heard.get(id).map(|heard| heard.elapsed().unwrap_or_default())
    }

    /// Those that have not told all they have yet.
    pub fn waiting(&self) -> impl Iterator<Item = &ClusterId> {
        self.states.iter().filter(|(_, state)| **state == SyncState::Waiting).map(|(id, _)| id)
    }

    /// How many have told all they have.
    pub fn synced(&self) -> usize {
        self.states.len() - self.waiting().count()
    }
}

#[cfg(test)]
mod tests {
    use policy_core::testing::abc;

    use super::*;

    #[test]
    fn who_is_no_member_any_more_does_not_come_back_by_a_late_word() {
        let mut members = Members::new(&abc().config());
        let synced = |cluster: &str| Event::Synced(cluster.parse().expect("an id"));
        members.update(&Batch { events: vec![synced("b"), synced("gone")], ..Batch::default() });
        assert_eq!((members.synced(), members.waiting().count()), (1, 2));
        assert_eq!(members.state(&"gone".parse().expect("an id")), SyncState::Waiting);
    }
}
