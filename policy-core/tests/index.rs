//! The index gives back what it was told, whatever it keeps of it.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::index::{ClusterIndex, PodEntry};
use policy_core::model::{Event, Pod, PodKey};
use policy_core::testing::{abc, cases, event_sequences, pod};
use proptest::prelude::*;

/// The pods as an ordinary map.
#[derive(Default)]
struct Known(BTreeMap<PodKey, Pod>);

impl Known {
    fn take(&mut self, event: &Event) {
        match event {
            Event::PodApplied(pod) => drop(self.0.insert(pod.key.clone(), pod.clone())),
            Event::PodDeleted { key, uid } if self.0.get(key).is_some_and(|pod| pod.uid == *uid) => {
                self.0.remove(key);
            }
            _ => {}
        }
    }

    fn check(&self, index: &ClusterIndex) {
        let found: BTreeMap<PodKey, Pod> = index.pods().map(|entry| (entry.key(), entry.to_pod())).collect();
        assert_eq!(found, self.0);
        for pod in self.0.values() {
            assert_eq!(index.pod(&pod.key).map(PodEntry::to_pod).as_ref(), Some(pod));
            for address in &pod.addresses {
                let claims = |pod: &&Pod| pod.is_workload() && pod.addresses.contains(address);
                let outside = |pod: &&Pod| index.outside().contains(&(*address, pod.key.clone()));
                let claimants = self.0.values().filter(claims).filter(|pod| !outside(pod)).map(|pod| pod.key.clone());
                let found: BTreeSet<PodKey> = index.claimants(*address).map(PodEntry::key).collect();
                assert_eq!(found, claimants.collect(), "{address}");
            }
        }
        let members: usize = index.groups().map(|(_, group)| group.pods.len()).sum();
        assert_eq!(members, self.0.values().filter(|pod| pod.is_workload()).count());
    }
}

fn apply(index: &mut ClusterIndex, event: &Event) {
    match event {
        Event::PodApplied(pod) => drop(index.apply_pod(pod)),
        Event::PodDeleted { key, uid } => drop(index.delete_pod(key, uid)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn pods_come_out_as_they_went_in(history in event_sequences(30)) {
        let mut index = ClusterIndex::new(abc().config());
        let mut known = Known::default();
        for event in history.batches.iter().flatten() {
            apply(&mut index, event);
            known.take(event);
        }
        known.check(&index);
    }
}

/// The names of `count` pods of a Deployment, a StatefulSet and some that share nothing.
fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).flat_map(|number| {
        [
            format!("a/shop/checkout-6f7c9d8b5-{number:05}"),
            format!("a/shop/pg-{number}"),
            format!("b/shop/{number}{}", "-long-and-without-a-common-beginning".repeat(number % 5)),
        ]
    })
}

#[test]
fn names_survive_when_others_make_room() {
    let mut index = ClusterIndex::new(abc().config());
    let mut known = Known::default();
    let all: Vec<Pod> = names(1200).map(|name| pod(&name).labels("app=any").build()).collect();
    let events = all.iter().cloned().map(Event::PodApplied);
    let gone = all.iter().enumerate().filter(|(number, _)| number % 7 != 3);
    let deleted = gone.map(|(_, pod)| Event::PodDeleted { key: pod.key.clone(), uid: pod.uid.clone() });
    for event in events.chain(deleted) {
        apply(&mut index, &event);
        known.take(&event);
    }
    known.check(&index);
}

#[test]
fn a_uid_of_any_form_is_the_pods_own() {
    let mut index = ClusterIndex::new(abc().config());
    for uid in [
        "3a6f1d2e-90bb-4c5e-8a57-0f1e2d3c4b5a",
        "3A6F1D2E-90BB-4C5E-8A57-0F1E2D3C4B5A",
        "3a6f1d2e90bb4c5e8a570f1e2d3c4b5a",
        "",
        "anything",
    ] {
        let pod = pod("a/shop/web").uid(uid).build();
        index.apply_pod(&pod);
        assert_eq!(index.pod(&pod.key).map(PodEntry::to_pod), Some(pod.clone()));
        assert_eq!(index.delete_pod(&pod.key, &"another".into()), None);
        assert!(index.delete_pod(&pod.key, &uid.into()).is_some(), "{uid}");
    }
}

#[test]
fn the_time_at_which_a_pod_was_made_is_kept_to_the_nanosecond() {
    let mut index = ClusterIndex::new(abc().config());
    let dated = |name: &str, s, ns| pod(name).created(s, ns).build();
    let of_no_time = pod("a/shop/undated").build();
    let pods =
        [dated("a/shop/one", 1, 0), dated("a/shop/other", -1, 999_999_999), dated("a/shop/third", 0, 1), of_no_time];
    // Each takes the number of the one before.
    for pod in &pods {
        index.apply_pod(pod);
        assert_eq!(index.pod(&pod.key).map(PodEntry::to_pod).as_ref(), Some(pod));
        index.delete_pod(&pod.key, &pod.uid);
    }
    for pod in &pods {
        index.apply_pod(pod);
    }
    for pod in &pods {
        assert_eq!(index.pod(&pod.key).map(PodEntry::to_pod).as_ref(), Some(pod));
    }
}
