//! Services: what is told of them, and that nothing is done because of them.

use std::collections::BTreeSet;

use policy_core::model::Listing;
use policy_core::testing::{pods, service, slice};

use super::*;
use crate::api::services::{Backend, Behind, Service};
use crate::api::types::ByDirection;

/// Services of the local cluster: one of `web`, and one of a pod of another node.
fn told() -> Vec<Event> {
    vec![
        pod("a/shop/api").labels("app=api").ip("10.1.0.2").node("m").into(),
        service("a/shop/web").ip("10.96.0.1").port("http", "TCP", 80).into(),
        slice("a/shop/web-x", "web").port("http", "TCP", 80).ready("10.1.0.1").into(),
        service("a/shop/api").ip("10.96.0.2").port("", "TCP", 80).into(),
        slice("a/shop/api-x", "api").port("", "TCP", 8080).ready("10.1.0.2").ready("192.168.0.1").into(),
    ]
}

async fn services(agent: &Agent) -> Vec<Service> {
    match agent.ask(Request::Services).await {
        Ok(Answer::Services(services)) => services,
        other => panic!("{other:?}"),
    }
}

#[test]
fn services_are_told_with_the_pods_that_answer() {
    run(|machine| async move {
        let agent = Agent::synced(&machine, objects().into_iter().chain(told()).collect()).await;
        let [api, web] = &services(&agent).await[..] else { panic!() };
        assert_eq!((api.name.as_str(), web.name.as_str()), ("a/shop/api", "a/shop/web"));
        let backend = |pod: Option<&str>, address: &str| Backend {
            pod: pod.map(str::to_owned),
            addresses: vec![address.parse().expect("an address")],
        };
        let expect = [backend(Some("a/shop/api"), "10.1.0.2"), backend(None, "192.168.0.1")];
        assert_eq!(api.backends, expect);
        assert_eq!(web.backends, [backend(Some("a/shop/web"), "10.1.0.1")]);
        agent.tell(vec![slice("a/shop/api-x", "api").deleted(), service("a/shop/web").deleted()]).await;
        agent.settle().await;
        let [api] = &services(&agent).await[..] else { panic!() };
        assert_eq!((api.name.as_str(), api.backends.as_slice()), ("a/shop/api", &[][..]));
    });
}

#[test]
fn what_is_said_of_services_alone_leads_to_no_commit() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::synced(&machine, objects()).await;
        let (done, commit) = (machine.done(), agent.status().await.commit);
        // If anything were tried, it would fail.
        machine.0.borrow_mut().fails_in = Some(0);
        let none = |listing| Event::Relisted("a".parse().expect("an id"), listing);
        let (listed, unlisted) = (Listing::Services(BTreeSet::new()), Listing::EndpointSlices(BTreeSet::new()));
        let services = told().split_off(1);
        let gone = vec![service("a/shop/web").deleted(), slice("a/shop/web-x", "web").deleted()];
        for events in [services, gone, vec![none(listed), none(unlisted)]] {
            assert!(!events.iter().any(Event::may_decide));
            agent.tell(events).await;
            agent.settle().await;
        }
        assert_eq!((machine.done(), agent.status().await.commit), (done, commit));
        assert_eq!(machine.0.borrow().fails_in, Some(0), "no step was tried");
        assert_eq!(agent.issues().await, []);
    });
}

#[test]
fn a_connection_to_a_service_is_explained_by_what_stands_behind_it() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let to_api = rule().peer(pods("app=api"));
        let admits: Event = policy("a/shop/out").select("app=web").egress([to_api]).into();
        let agent = Agent::synced(&machine, objects().into_iter().chain(told()).chain([admits]).collect()).await;
        let explanation = agent.explain("a/shop/web", "10.96.0.2", "tcp/80").await;
        assert_eq!(explanation.verdict, Some(Verdict::Deny), "{explanation:#?}");
        let Some(Behind { service, port: Some(port), targets, note }) = explanation.service else { panic!() };
        assert_eq!((service.as_str(), port.name, port.port), ("a/shop/api", None, 80));
        let said: Vec<_> = targets.iter().map(|it| (it.pod.as_deref(), it.port, it.verdicts.clone())).collect();
        let verdicts = |egress| ByDirection { egress: Some(egress), ingress: None };
        let expect = [(Some("a/shop/api"), 8080, verdicts(Verdict::Allow)), (None, 8080, verdicts(Verdict::Deny))];
        assert_eq!(said, expect);
        assert!(note.ends_with("does not admit 10.96.0.2, an ipBlock of 10.96.0.2/32 does"), "{note}");
        let explanation = agent.explain("b/db/pg", "10.96.0.1", "tcp/80").await;
        let behind = explanation.service.expect("it is one of a Service");
        let ingress = ByDirection { egress: None, ingress: Some(Verdict::Allow) };
        assert_eq!(behind.targets.iter().map(|it| it.verdicts.clone()).collect::<Vec<_>>(), [ingress]);
        let explanation = agent.explain("a/shop/web", "10.96.0.2", "udp/80").await;
        let behind = explanation.service.expect("it is one of a Service");
        assert_eq!((behind.port, behind.targets), (None, vec![]));
        assert_eq!(agent.explain("a/shop/web", "10.1.0.2", "tcp/80").await.service, None);
    });
}
