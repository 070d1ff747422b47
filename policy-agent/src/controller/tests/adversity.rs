//! What users, servers and a leader that comes too late do: nothing is written twice, without need, or for ever.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::leader::{PACE, POLICIES, bad, good, mended, warning, world};
use super::{World, until};
use crate::controller::Term;
use crate::controller::notes::{Announcement, Notes};
use crate::controller::writer::{Annotated, Named, Writer};

/// The policy that is written on before others.
const FIRST: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/aaa";

fn path(name: &str) -> String {
    format!("/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/{name}")
}

fn annotated(mut policy: Value, text: &str) -> Value {
    policy["metadata"]["annotations"] = json!({"crosswall.dev/issues": text, "theirs": "stays"});
    policy
}

/// What was written on a policy.
fn patches(world: &World, name: &str) -> Vec<Value> {
    let state = world.server.state();
    let made = state.writes.iter().filter(|(method, at, _)| *method == Method::PATCH && *at == path(name));
    made.map(|(_, _, patch)| patch.clone()).collect()
}

#[tokio::test]
async fn what_somebody_else_wrote_there_is_put_right() {
    let world = world().await;
    world.server.apply(POLICIES, annotated(good("api"), "no JSON"));
    world.server.apply(POLICIES, annotated(bad("web"), &"[".repeat(200_000)));
    // Who writes that all is known already hears nothing new, of his own policy.
    let forged =
        r#"[{"code":"unreadable_rule","level":"error","field":"spec.ingress[0].from[0].robots","message":"x"}]"#;
    world.server.apply(POLICIES, annotated(bad("zoo"), forged));
    let (running, _) = world.controller("one");
    until("it is right", || {
        world.annotation("api").is_none()
            && world.annotation("web").is_some_and(|text| text.contains("robots"))
            && world.annotation("zoo").is_some_and(|text| text != forged)
    })
    .await;
    assert_eq!((world.events("api"), world.events("web")), (vec![], vec![warning()]));
    let theirs = world.server.object(&format!("{POLICIES}/web")).expect("there")["metadata"]["annotations"].take();
    assert_eq!(theirs["theirs"], "stays");
    running.end().await;
}

#[tokio::test]
async fn a_policy_that_takes_anothers_name_is_another_one() {
    let world = world().await;
    world.server.apply(POLICIES, bad("web"));
    let (running, _) = world.controller("one");
    until("an annotation", || world.annotation("web").is_some()).await;
    world.server.delete(POLICIES, &bad("web"));
    let mut second = bad("web");
    second["metadata"]["uid"] = json!("the second");
    world.server.apply(POLICIES, second);
    until("an annotation again", || world.annotation("web").is_some()).await;
    assert_eq!(world.events("web"), [warning(), warning()]);
    let named: Vec<Value> = patches(&world, "web").into_iter().map(|mut it| it["metadata"]["uid"].take()).collect();
    assert_eq!(named, ["uid-of-web", "the second"]);
    running.end().await;
}

#[tokio::test]
async fn one_policy_that_takes_no_writes_does_not_keep_others_from_theirs() {
    let world = world().await;
    {
        let mut state = world.server.state();
        (state.refuses, state.refuses_only) = (Some(403), Some(FIRST));
    }
    world.server.apply(POLICIES, bad("aaa"));
    world.server.apply(POLICIES, bad("web"));
    world.server.apply(POLICIES, bad("zoo"));
    let (running, _) = world.controller("one");
    until("the others have theirs", || world.annotation("web").is_some() && world.annotation("zoo").is_some()).await;
    assert_eq!(world.annotation("aaa"), None);
    world.server.state().refuses = None;
    until("it has its own", || world.annotation("aaa").is_some()).await;
    assert_eq!(world.events("aaa"), [warning()], "it was said once");
    running.end().await;
}

#[tokio::test]
async fn what_comes_and_goes_is_written_a_few_times_and_then_now_and_then() {
    let world = world().await;
    world.server.apply(POLICIES, good("web"));
    world.server.apply(POLICIES, bad("zoo"));
    let (running, _) = world.controller("one");
    until("it looks", || world.annotation("zoo").is_some()).await;
    let (begun, mut at) = (Instant::now(), 0);
    while begun.elapsed() < PACE.refill * 4 {
        at += 1;
        world.change(if at % 2 == 0 { good("web") } else { bad("web") });
        sleep(PACE.delay + Duration::from_millis(30)).await;
    }
    let allowed = 5 + usize::try_from(begun.elapsed().as_millis() / PACE.refill.as_millis()).expect("few");
    let events = world.events("web");
    assert!(at > 20 && events.len() > 4 && events.len() <= allowed, "{at} changes, {allowed} allowed: {events:?}");
    // In the end it is said what is.
    world.change(good("web"));
    until("all is well", || world.annotation("web").is_none() && world.events("web").last() == Some(&mended())).await;
    running.end().await;
}

#[tokio::test]
async fn what_was_changed_since_is_not_written_on_and_found_out_anew() {
    let world = world().await;
    world.server.apply(POLICIES, bad("web"));
    let (_until, term) = watch::channel(Instant::now() + Duration::from_secs(60));
    let client = world.here().client().await.expect("a client");
    let (_clients, clients) = watch::channel(Some(client));
    let late = Writer::new(clients, "late".to_owned(), Term::of_test(term));
    let named = Named { namespace: "shop".to_owned(), name: "web".to_owned(), uid: Some("uid-of-web".to_owned()) };
    let version = |world: &World| {
        let policy = world.server.object(&format!("{POLICIES}/web")).expect("there");
        policy["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
    };
    let before = version(&world);
    let (running, _) = world.controller("one");
    until("the leader has written", || world.annotation("web").is_some()).await;
    let written = world.annotation("web");
    // Who believes to lead still comes too late.
    let came = late.annotate(&named, &before, None).await.expect("an answer");
    assert!(matches!(came, Annotated::Superseded), "{came:?}");
    assert_eq!(world.annotation("web"), written);
    let other = Named { uid: Some("another".to_owned()), ..named.clone() };
    let came = late.annotate(&other, &version(&world), None).await.expect("an answer");
    assert!(matches!(came, Annotated::Superseded), "{came:?}");
    running.end().await;
    let came = late.annotate(&named, &version(&world), None).await.expect("an answer");
    assert!(matches!(came, Annotated::Written(since) if since == version(&world)));
    assert_eq!(world.annotation("web"), None);
}

#[tokio::test]
async fn nothing_is_written_after_the_term() {
    let world = world().await;
    world.server.apply(POLICIES, bad("web"));
    let client = world.here().client().await.expect("a client");
    let (_clients, clients) = watch::channel(Some(client));
    let (end, term) = watch::channel(Instant::now() + Duration::from_millis(300));
    let writer = Writer::new(clients, "one".to_owned(), Term::of_test(term));
    let named = Named { namespace: "shop".to_owned(), name: "web".to_owned(), uid: None };
    let news =
        Notes::default().news(&Notes::read(r#"[{"code":"split_peer","level":"error","field":"","message":""}]"#));
    let [mended] = <[Announcement; 1]>::try_from(news).expect("one");
    world.server.state().is_mute = true;
    let begun = Instant::now();
    writer.announce(&named, &mended).await.expect_err("nobody answers, and it is not waited beyond the term");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    world.server.state().is_mute = false;
    let late = timeout(Duration::from_millis(300), writer.announce(&named, &mended)).await;
    assert!(late.is_err(), "the term is over: {late:?}");
    assert_eq!(world.written(), 0);
    end.send_replace(Instant::now() + Duration::from_secs(60));
    writer.announce(&named, &mended).await.expect("written");
    assert_eq!(world.written(), 1);
}

#[tokio::test]
async fn without_an_api_server_of_its_own_nobody_leads_and_it_is_said_why() {
    let world = world().await;
    let set = std::fs::read_to_string(world.path("set.yaml")).expect("there");
    std::fs::write(world.path("set.yaml"), set.replace("local: a", "local: b")).expect("written");
    let (running, _) = world.controller("one");
    let error = running.ended().await.to_string();
    assert!(error.contains("its source is no API server"), "{error}");
    let holder = world.server.object(super::LEASE).expect("there")["spec"]["holderIdentity"].take();
    assert!(holder.is_null(), "{holder}");
}

#[tokio::test]
async fn one_who_makes_ever_new_policies_does_not_keep_others_from_theirs() {
    let world = world().await;
    let (running, _) = world.controller("one");
    let make = |round: u32| {
        for at in 0..100 {
            let mut policy = bad(&format!("aaa-{at}"));
            if round > 0 {
                world.server.delete(POLICIES, &policy);
            }
            policy["metadata"]["uid"] = json!(format!("{round}-{at}"));
            world.server.apply(POLICIES, policy);
        }
    };
    make(0);
    world.server.apply(POLICIES, bad("zoo"));
    let begun = Instant::now();
    let mut round = 0;
    while world.annotation("zoo").is_none() {
        round += 1;
        make(round);
        sleep(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < Duration::from_secs(15), "{} written in {:?}", world.written(), begun.elapsed());
    }
    running.end().await;
}

#[tokio::test]
async fn many_that_take_no_writes_do_not_keep_others_from_theirs() {
    let world = world().await;
    {
        let mut state = world.server.state();
        (state.refuses, state.refuses_only) = (Some(422), Some(FIRST));
    }
    for at in 0..30 {
        world.server.apply(POLICIES, bad(&format!("aaa-{at}")));
    }
    world.server.apply(POLICIES, bad("zoo"));
    let (running, _) = world.controller("one");
    let begun = Instant::now();
    while world.annotation("zoo").is_none() {
        sleep(Duration::from_millis(50)).await;
        assert!(begun.elapsed() < Duration::from_secs(20), "{} written in {:?}", world.written(), begun.elapsed());
    }
    running.end().await;
}
