//! Never do two lead; somebody does whenever somebody can.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{LEASE, LEASES, Running, World, until};
use crate::controller::{Status, Timing};

/// Shorter than for real; a lease has whole seconds.
const SHORT: Timing =
    Timing { lease: Duration::from_secs(2), renew: Duration::from_millis(1200), retry: Duration::from_millis(100) };

/// Who leads at this moment.
#[derive(Clone, Default)]
struct Leaders(Arc<Mutex<BTreeSet<String>>>);

impl Leaders {
    fn now(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that somebody leads, for as long as what is returned lives.
    fn enter(&self, identity: &str) -> Leading {
        let mut now = self.now();
        assert!(now.is_empty(), "{identity} leads beside {now:?}");
        now.insert(identity.to_owned());
        Leading { leaders: self.clone(), identity: identity.to_owned() }
    }

    fn candidate(&self, world: &World, identity: &'static str, timing: Timing) -> Running {
        let leaders = self.clone();
        world.candidate(identity, timing, Status::default(), move |_| {
            let leading = leaders.enter(identity);
            async move {
                let _leading = leading;
                std::future::pending().await
            }
        })
    }

    async fn until_leads(&self, identity: &str) {
        until(&format!("{identity} leads"), || self.now().contains(identity)).await;
    }
}

struct Leading {
    leaders: Leaders,
    identity: String,
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.leaders.now().remove(&self.identity);
    }
}

#[tokio::test]
async fn of_many_that_begin_at_once_one_leads_and_goes_on_leading() {
    let (world, leaders) = (World::new().await, Leaders::default());
    let all = ["a", "b", "c", "d", "e"].map(|identity| leaders.candidate(&world, identity, SHORT));
    until("somebody leads", || !leaders.now().is_empty()).await;
    let first = leaders.now().clone();
    // `enter` fails if another one begins.
    sleep(SHORT.lease * 2).await;
    assert_eq!(*leaders.now(), first);
    let lease = world.server.object(LEASE).expect("it was made");
    assert_eq!(lease["spec"]["holderIdentity"], *first.first().expect("one"));
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
    for running in all {
        running.end().await;
    }
}

#[tokio::test]
async fn who_dies_is_replaced_once_the_lease_is_over_and_not_before() {
    let (world, leaders) = (World::new().await, Leaders::default());
    let first = leaders.candidate(&world, "a", SHORT);
    leaders.until_leads("a").await;
    let second = leaders.candidate(&world, "b", SHORT);
    sleep(SHORT.retry * 4).await;
    let killed = Instant::now();
    first.kill().await;
    leaders.until_leads("b").await;
    // A renewal was at most a pause ago.
    assert!(killed.elapsed() >= SHORT.lease - SHORT.retry * 3, "{:?}", killed.elapsed());
    assert_eq!(world.server.object(LEASE).expect("there")["spec"]["leaseTransitions"], 1);
    second.end().await;
}

#[tokio::test]
async fn who_ends_lets_the_next_lead_at_once() {
    let (world, leaders) = (World::new().await, Leaders::default());
    let slow = Timing { lease: Duration::from_secs(3600), ..SHORT };
    let first = leaders.candidate(&world, "a", slow);
    leaders.until_leads("a").await;
    let second = leaders.candidate(&world, "b", slow);
    sleep(slow.retry * 4).await;
    first.end().await;
    leaders.until_leads("b").await;
    second.end().await;
    assert!(world.server.object(LEASE).expect("there")["spec"]["holderIdentity"].is_null());
}

#[tokio::test]
async fn who_cannot_renew_stops_before_another_may_begin_and_comes_back() {
    let (world, leaders) = (World::new().await, Leaders::default());
    let both = ["a", "b"].map(|identity| leaders.candidate(&world, identity, SHORT));
    until("somebody leads", || !leaders.now().is_empty()).await;
    let refused = Instant::now();
    world.server.state().refuses = Some(503);
    until("nobody leads", || leaders.now().is_empty()).await;
    assert!(refused.elapsed() >= SHORT.renew - SHORT.retry * 3, "one failure is no end: {:?}", refused.elapsed());
    world.server.state().refuses = None;
    until("somebody leads again", || !leaders.now().is_empty()).await;
    for running in both {
        running.end().await;
    }
}

#[tokio::test]
async fn clocks_of_others_are_not_relied_on() {
    let (world, leaders) = (World::new().await, Leaders::default());
    // By this clock it was over long ago, and that it is renewed is seen all the same.
    let lease = |renewed: &str| {
        json!({"metadata": {"name": "crosswall-controller", "namespace": "crosswall-system"}, "spec": {
            "holderIdentity": "other", "leaseDurationSeconds": 2, "renewTime": renewed}})
    };
    world.server.apply(LEASES, lease("2001-01-01T00:00:00.000000Z"));
    let running = leaders.candidate(&world, "a", SHORT);
    for second in 1..=6 {
        sleep(Duration::from_millis(700)).await;
        assert!(leaders.now().is_empty());
        world.server.apply(LEASES, lease(&format!("2001-01-01T00:00:0{second}.000000Z")));
    }
    leaders.until_leads("a").await;
    running.end().await;
}

#[tokio::test]
async fn who_lost_a_race_does_not_lead() {
    let (world, leaders) = (World::new().await, Leaders::default());
    let running = leaders.candidate(&world, "a", SHORT);
    leaders.until_leads("a").await;
    // Somebody else has it, by whatever mistake: whoever wrote last does.
    let taken = json!({"metadata": {"name": "crosswall-controller", "namespace": "crosswall-system"},
        "spec": {"holderIdentity": "other", "leaseDurationSeconds": 3600}});
    world.server.apply(LEASES, taken);
    until("it leads no more", || leaders.now().is_empty()).await;
    running.end().await;
    assert_eq!(world.server.object(LEASE).expect("there")["spec"]["holderIdentity"], "other");
}
