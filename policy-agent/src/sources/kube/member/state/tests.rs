//! Lists that are told in parts, whatever else happens meanwhile.

use std::collections::{BTreeMap, VecDeque};

use policy_core::model::Listing;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::convert::{read_deleted, read_typed};

const PODS: (&str, &str) = ("v1", "Pod");

/// What happens to a member's pods, of which the server has named ones in some version.
#[derive(Clone, Debug)]
enum Step {
    /// The server tells a list from its beginning; one that it was telling is void.
    Begin,
    /// It tells so many more of it.
    Part(usize),
    /// It tells the rest, and that it was all.
    End,
    /// It cannot be asked any more; what it was telling is void.
    Fail,
    /// A pod comes or becomes another; a list that goes on tells that, too.
    Change(u8),
    /// A pod goes.
    Delete(u8),
    /// The snapshot says what there was: these.
    Restore(Vec<u8>),
    /// What was not heard for too long counts no more.
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Begin),
        4 => (0_usize..6).prop_map(Step::Part),
        2 => Just(Step::End),
        1 => Just(Step::Fail),
        4 => (0_u8..12).prop_map(Step::Change),
        2 => (0_u8..12).prop_map(Step::Delete),
        1 => prop::collection::vec(0_u8..16, 0..8).prop_map(Step::Restore),
        1 => Just(Step::Expire),
    ]
}

/// The server, the member, and what the control loop would know.
struct Scene {
    state: State,
    /// The server's pods, and in which version.
    there: BTreeMap<u8, u32>,
    version: u32,
    /// What is left of a list that goes on.
    left: Option<VecDeque<(u8, u32)>>,
    /// Whether a watch tells what changes.
    watches: bool,
    known: BTreeMap<String, String>,
}

fn object(name: u8, version: u32) -> serde_json::Value {
    json!({"metadata": {"name": format!("p{name}"), "namespace": "shop", "uid": version.to_string()}})
}

impl Scene {
    fn new() -> Self {
        let state = State::new(cluster(), Collection::REMOTE, None);
        let (there, known) = (BTreeMap::new(), BTreeMap::new());
        Self { state, there, version: 0, left: None, watches: false, known }
    }

    fn reading(name: u8, version: u32) -> Reading {
        read_typed(&cluster(), PODS, &object(name, version)).expect("a pod")
    }

    fn tell(&mut self, news: News) -> usize {
        let mut batch = Batch::default();
        self.state.take(Collection::Pods, news, &mut batch);
        self.learn(&batch)
    }

    /// As the control loop learns it; gives how many events there were.
    fn learn(&mut self, batch: &Batch) -> usize {
        for event in &batch.events {
            match event {
                Event::PodApplied(pod) => drop(self.known.insert(pod.key.name.to_string(), pod.uid.to_string())),
                Event::PodDeleted { key, .. } => drop(self.known.remove(&*key.name)),
                Event::Relisted(_, Listing::Pods(keys)) => {
                    self.known.retain(|name, _| keys.iter().any(|key| *key.name == **name));
                }
                other => panic!("{other:?}"),
            }
        }
        batch.events.len()
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Begin => {
                self.left = Some(self.there.iter().map(|(name, version)| (*name, *version)).collect());
                self.watches = false;
                self.tell(News::Begun);
                if self.state.stale.contains(&Collection::Pods) {
                    assert!(self.known.is_empty(), "{:?}", self.known);
                }
            }
            Step::Part(count) => {
                let Some(left) = &mut self.left else { return };
                let part: Vec<Reading> =
                    left.drain(..count.min(left.len())).map(|(name, version)| Self::reading(name, version)).collect();
                let replaces = self.state.listed.contains(&Collection::Pods);
                let events = self.tell(News::Part(part));
                assert!(!replaces || events == 0, "what is known is replaced in one step");
            }
            Step::End => {
                let Some(left) = self.left.take() else { return };
                let rest = left.into_iter().map(|(name, version)| Self::reading(name, version)).collect();
                self.tell(News::Listed(rest));
                self.watches = true;
                self.check();
            }
            Step::Fail => {
                (self.left, self.watches) = (None, false);
                self.tell(News::Failed(Trouble::refused("no")));
            }
            Step::Change(name) => {
                self.version += 1;
                self.there.insert(name, self.version);
                if let Some(left) = &mut self.left {
                    // A list tells first what was there when it began.
                    left.push_back((name, self.version));
                } else if self.watches {
                    self.tell(News::Applied(Self::reading(name, self.version)));
                }
            }
            Step::Delete(name) => {
                let Some(version) = self.there.remove(&name) else { return };
                if let Some(left) = &mut self.left {
                    left.retain(|(other, _)| *other != name);
                }
                if self.watches || self.left.is_some() {
                    let deleted = read_deleted(&cluster(), PODS, &object(name, version)).expect("a pod");
                    self.tell(News::Deleted(deleted.0, deleted.1));
                }
            }
            Step::Restore(names) => {
                let readings = names.iter().map(|name| Self::reading(*name, 0)).collect();
                let restored = Restored { collection: Collection::Pods, readings, heard: SystemTime::now() };
                let batch = self.state.restore(Ok(vec![restored]));
                self.learn(&batch);
            }
            Step::Expire => {
                if self.state.heard.contains_key(&Collection::Pods) {
                    let mut batch = Batch::default();
                    self.state.forget(Collection::Pods, &mut batch);
                    self.learn(&batch);
                    // Whoever watched lists anew; a list that goes on is told to its end.
                    self.watches = false;
                }
            }
        }
        if self.watches {
            self.check();
        }
    }

    fn check(&self) {
        let there: BTreeMap<String, String> =
            self.there.iter().map(|(name, version)| (format!("p{name}"), version.to_string())).collect();
        assert_eq!(self.known, there);
    }
}

fn cluster() -> ClusterId {
    "b".parse().expect("an id")
}

proptest! {
    #[test]
    fn after_a_list_all_that_the_server_has_is_known_and_nothing_else(steps in prop::collection::vec(step(), 1..60)) {
        let mut scene = Scene::new();
        for step in steps {
            scene.play(step);
        }
        scene.play(Step::Begin);
        scene.play(Step::End);
    }
}

/// Tells a member something, and takes in what it makes of it.
fn told(state: &mut State, known: &mut BTreeSet<String>, news: News) {
    let mut batch = Batch::default();
    state.take(Collection::Pods, news, &mut batch);
    learnt(known, &batch);
}

fn learnt(known: &mut BTreeSet<String>, batch: &Batch) {
    for event in &batch.events {
        match event {
            Event::PodApplied(pod) => drop(known.insert(pod.key.name.to_string())),
            Event::PodDeleted { key, .. } => drop(known.remove(&*key.name)),
            Event::Relisted(_, Listing::Pods(keys)) => known.retain(|name| keys.iter().any(|key| *key.name == **name)),
            _ => {}
        }
    }
}

fn aged(readings: Vec<Reading>, seconds: u64) -> Result<Vec<Restored>, Unrestored> {
    Ok(vec![Restored {
        collection: Collection::Pods,
        readings,
        heard: SystemTime::now() - Duration::from_secs(seconds),
    }])
}

#[test]
fn what_a_list_told_that_broke_off_counts_no_longer_than_a_snapshot_that_is_too_old() {
    let mut state = State::new(cluster(), Collection::REMOTE, Some(Duration::from_secs(300)));
    let mut known = BTreeSet::new();
    told(&mut state, &mut known, News::Begun);
    told(&mut state, &mut known, News::Part(vec![Scene::reading(1, 1)]));
    told(&mut state, &mut known, News::Failed(Trouble::refused("no")));
    let batch = state.restore(aged(vec![Scene::reading(2, 0)], 10_000));
    learnt(&mut known, &batch);
    told(&mut state, &mut known, News::Begun);
    told(&mut state, &mut known, News::Failed(Trouble::refused("no")));
    assert!(state.stale.contains(&Collection::Pods));
    for collection in [Collection::Pods, Collection::Namespaces] {
        if let Some(heard) = state.heard.get_mut(&collection) {
            *heard = SystemTime::now() - Duration::from_secs(100_000);
        }
    }
    learnt(&mut known, &state.expire());
    assert!(known.is_empty(), "{known:?}");
}

#[test]
fn what_a_list_told_that_broke_off_grows_stale() {
    let mut state = State::new(cluster(), Collection::REMOTE, Some(Duration::from_secs(300)));
    let mut known = BTreeSet::new();
    told(&mut state, &mut known, News::Begun);
    told(&mut state, &mut known, News::Part(vec![Scene::reading(1, 1)]));
    told(&mut state, &mut known, News::Failed(Trouble::refused("no")));
    told(&mut state, &mut known, News::Begun);
    told(&mut state, &mut known, News::Failed(Trouble::refused("no")));
    for heard in state.heard.values_mut() {
        *heard = SystemTime::now() - Duration::from_secs(100_000);
    }
    learnt(&mut known, &state.expire());
    assert!(known.is_empty(), "{known:?}");
}

#[test]
fn what_ends_while_a_list_goes_on_is_gone_where_nothing_else_counts() {
    let mut state = State::new(cluster(), Collection::REMOTE, Some(Duration::from_secs(300)));
    let mut known = BTreeSet::new();
    told(&mut state, &mut known, News::Begun);
    told(&mut state, &mut known, News::Part(vec![Scene::reading(1, 1)]));
    learnt(&mut known, &state.restore(aged(vec![], 10_000)));
    let (key, event) = read_deleted(&cluster(), PODS, &object(1, 1)).expect("a pod");
    told(&mut state, &mut known, News::Deleted(key, event));
    assert!(known.is_empty(), "{known:?}");
}

#[test]
fn a_word_of_a_list_that_goes_on_is_no_sign_that_all_is_known() {
    let mut state = State::new(cluster(), Collection::REMOTE, Some(Duration::from_secs(300)));
    let mut known = BTreeSet::new();
    told(&mut state, &mut known, News::Begun);
    let (key, event) = read_deleted(&cluster(), PODS, &object(1, 1)).expect("a pod");
    told(&mut state, &mut known, News::Deleted(key, event));
    assert!(state.heard.is_empty());
}

#[test]
fn what_a_part_told_that_cannot_be_read_leaves_the_last_valid_version_in_force() {
    let policies = ("networking.k8s.io/v1", "NetworkPolicy");
    let policy = |spec: serde_json::Value| {
        let object = json!({"metadata": {"name": "p", "namespace": "shop", "uid": "u"}, "spec": spec});
        read_typed(&cluster(), policies, &object).expect("a policy")
    };
    let mut state = State::new(cluster(), Collection::LOCAL, None);
    let mut batch = Batch::default();
    let bad = policy(json!({"podSelector": {"matchLabels": 7}}));
    assert!(bad.object.is_none());
    state.take(Collection::NetworkPolicies, News::Begun, &mut batch);
    state.take(Collection::NetworkPolicies, News::Part(vec![bad]), &mut batch);
    state.take(Collection::NetworkPolicies, News::Failed(Trouble::refused("no")), &mut batch);
    let restored = Restored {
        collection: Collection::NetworkPolicies,
        readings: vec![policy(json!({"podSelector": {}}))],
        heard: SystemTime::now(),
    };
    let batch = state.restore(Ok(vec![restored]));
    assert!(batch.events.iter().any(|event| matches!(event, Event::PolicyApplied(_))), "{:?}", batch.events);
}
