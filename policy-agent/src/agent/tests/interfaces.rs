//! Which interfaces get programs, and whose they are.

use super::*;

/// docs/semantics.md §8: "The same address reused by a new pod: verdicts of the old owner's connections are void."
#[test]
fn an_interface_that_took_over_a_number_while_no_agent_ran_has_no_connections_of_the_one_before() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let id = || machine.0.borrow().tables.endpoints[&7].endpoint.id;
        assert_eq!(Agent::synced(&machine, objects()).await.stop().await, Ending::Asked);
        let before = id();
        assert_eq!(Agent::synced(&machine, objects()).await.stop().await, Ending::Asked);
        assert_eq!(id(), before, "it is the same interface");
        machine.unplug(7);
        machine.interface(7, "10.1.0.1");
        let _last = Agent::synced(&machine, objects()).await;
        assert_ne!(id(), before);
    });
}

#[test]
fn a_pod_whose_interface_comes_later_is_found_by_the_signal() {
    run(|machine| async move {
        let agent = Agent::synced(&machine, objects()).await;
        assert_eq!(agent.endpoints().await[0].state, EndpointState::NoInterface);
        assert_eq!(codes(&agent.issues().await), [], "it may be about to come");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(codes(&agent.issues().await), [IssueCode::NoInterface]);
        machine.interface(7, "10.1.0.1").signal();
        agent.settle().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(agent.endpoints().await[0].state, EndpointState::Enforced);
        assert_eq!(agent.issues().await, []);
    });
}

#[test]
fn a_pod_whose_interface_comes_later_is_found_without_a_signal_too() {
    run(|machine| async move {
        let agent = Agent::synced(&machine, objects()).await;
        machine.interface(7, "10.1.0.1");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(agent.endpoints().await[0].state, EndpointState::Enforced);
    });
}

#[test]
fn an_interface_that_takes_no_programs_is_an_issue_of_its_pod_alone() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1").interface(8, "10.1.0.2");
        machine.0.borrow_mut().refuses.insert(8);
        let mut events = objects();
        events.push(pod("a/shop/api").ip("10.1.0.2").node("n").into());
        let agent = Agent::synced(&machine, events).await;
        let expected = Issue {
            code: IssueCode::AttachFailed,
            level: Level::Error,
            object: "a/Pod/shop/api".to_owned(),
            field: String::new(),
            message: "its packets are not judged: it takes no programs".to_owned(),
        };
        assert_eq!(agent.issues().await, [expected]);
        assert!(machine.done().contains(&Done::Attached(7)));
        machine.0.borrow_mut().refuses.clear();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(agent.issues().await, []);
    });
}

#[test]
fn an_interface_that_is_gone_leaves_the_tables() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::synced(&machine, objects()).await;
        assert!(machine.0.borrow().tables.endpoints.contains_key(&7));
        machine.unplug(7);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(machine.0.borrow().tables.endpoints.is_empty());
        assert_eq!(agent.endpoints().await[0].state, EndpointState::NoInterface);
    });
}

#[test]
fn an_interface_that_takes_over_a_number_at_once_gets_the_programs_too() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::synced(&machine, objects()).await;
        assert_eq!(attachments(&machine), 1);
        // Gone and back within one look.
        machine.unplug(7);
        machine.interface(7, "10.1.0.1");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(attachments(&machine), 2);
        assert_eq!(agent.endpoints().await[0].state, EndpointState::Enforced);
    });
}

#[test]
fn links_that_somebody_took_off_are_put_back_though_nothing_tells_of_it() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::synced(&machine, objects()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        machine.0.borrow_mut().links.clear();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(attachments(&machine), 2);
        assert_eq!(agent.endpoints().await[0].state, EndpointState::Enforced);
    });
}

#[test]
fn a_pod_that_answers_no_more_keeps_its_interface() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::synced(&machine, objects()).await;
        machine.0.borrow_mut().routes.clear();
        machine.signal();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(agent.endpoints().await[0].state, EndpointState::Enforced);
    });
}

#[test]
fn an_address_that_moves_to_another_interface_is_followed() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::synced(&machine, objects()).await;
        machine.interface(8, "10.1.0.1").signal();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(agent.endpoints().await[0].ifindex, Some(8));
        let tables = machine.0.borrow().tables.clone();
        assert_eq!(tables.endpoints.keys().collect::<Vec<_>>(), [&8]);
        assert_eq!(machine.done().last(), Some(&Done::Attached(8)));
    });
}

/// [`objects`], and another pod of this node.
fn objects_and_api() -> Vec<Event> {
    let mut events = objects();
    events.push(pod("a/shop/api").ip("10.1.0.2").node("n").into());
    events
}

#[test]
fn a_pod_that_a_bridge_says_to_be_where_another_one_is_stays_where_it_was() {
    run(|machine| async move {
        machine.port(7, "10.1.0.1").port(8, "10.1.0.2");
        let agent = Agent::synced(&machine, objects_and_api()).await;
        let before = machine.0.borrow().tables.clone();
        // `api` sends under the hardware address of `web`.
        machine.port(8, "10.1.0.1").signal();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(machine.0.borrow().tables, before);
        let issues = agent.issues().await;
        assert_eq!(codes(&issues), [IssueCode::ContestedInterface]);
        assert_eq!(issues[0].object, "a/Pod/shop/web");
        assert_eq!(
            issues[0].message,
            "it is found behind veth8, which is a/shop/api's, and keeps veth7: a/shop/api may be sending under its \
             hardware address"
        );
        machine.port(7, "10.1.0.1").signal();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(agent.issues().await, []);
    });
}

#[test]
fn a_restart_believes_its_tables_rather_than_a_bridge() {
    run(|machine| async move {
        machine.port(7, "10.1.0.1").port(8, "10.1.0.2");
        let first = Agent::synced(&machine, objects_and_api()).await;
        assert_eq!(first.stop().await, Ending::Asked);
        machine.port(8, "10.1.0.1");
        let second = Agent::synced(&machine, objects_and_api()).await;
        let places: Vec<_> = second.endpoints().await.into_iter().map(|it| (it.pod, it.ifindex)).collect();
        assert_eq!(places, [("a/shop/api".to_owned(), Some(8)), ("a/shop/web".to_owned(), Some(7))]);
    });
}

#[test]
fn nothing_passes_an_interface_behind_which_two_pods_are_found_at_once() {
    run(|machine| async move {
        machine.port(8, "10.1.0.1").port(8, "10.1.0.2");
        let agent = Agent::synced(&machine, objects_and_api()).await;
        let states: Vec<_> = agent.endpoints().await.into_iter().map(|it| it.state).collect();
        assert_eq!(states, [EndpointState::Held; 2]);
        assert_eq!(codes(&agent.issues().await), [IssueCode::ContestedInterface; 2]);
        machine.port(7, "10.1.0.1").signal();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let states: Vec<_> = agent.endpoints().await.into_iter().map(|it| it.state).collect();
        assert_eq!(states, [EndpointState::Enforced; 2]);
        assert_eq!(agent.issues().await, []);
    });
}
