//! What is written, when, and what happens where it cannot be.

use super::*;

#[test]
fn an_idle_agent_does_not_wait_and_a_busy_one_gathers_but_takes_each_step_by_itself() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::synced(&machine, objects()).await;
        let flips = || machine.done().iter().filter(|done| **done == Done::Flip).count();
        let before = flips();
        let labelled = |value: usize| {
            vec![pod("a/shop/web").labels(&format!("app=web, n={value}")).ip("10.1.0.1").node("n").into()]
        };
        // Deleting and adding the policy are visible commits.
        agent.tell(vec![policy("a/shop/web").select("app=web").ingress([rule()]).into()]).await;
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(flips(), before + 1, "at once");
        for value in 0..5 {
            agent.tell(labelled(value)).await;
            agent.tell(vec![if value % 2 == 0 { admits_b() } else { policy("a/shop/web").into() }]).await;
        }
        tokio::task::yield_now().await;
        assert_eq!(flips(), before + 1, "after a commit just now it waits");
        agent.settle().await;
        assert_eq!(flips(), before + 6, "each of the policies by itself");
    });
}

#[test]
fn a_write_that_fails_is_tried_again_wherever_it_fails() {
    let mut steps = None;
    for failing in 0.. {
        if steps.is_some_and(|steps| failing >= steps) {
            break;
        }
        let counted = std::cell::Cell::new(0);
        let counted = &counted;
        run(|machine| async move {
            machine.interface(7, "10.1.0.1");
            machine.0.borrow_mut().fails_in = Some(failing);
            let agent = Agent::synced(&machine, objects()).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            counted.set(machine.0.borrow().steps);
            assert_eq!(codes(&agent.issues().await), []);
            let verdict = |transport| agent.explain("b/db/pg", "a/shop/web", transport);
            assert_eq!(verdict("tcp/80").await.verdict, Some(Verdict::Allow), "{failing}");
            assert_eq!(verdict("tcp/81").await.verdict, Some(Verdict::Deny), "{failing}");
            assert_eq!(agent.endpoints().await[0].state, EndpointState::Enforced);
        });
        steps.get_or_insert(counted.get().min(40));
    }
    assert!(steps.is_some_and(|steps| steps > 5));
}

#[test]
fn a_commit_that_is_cut_off_names_the_one_that_is_in_force() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::synced(&machine, objects()).await;
        // Once before the flip, and once after it.
        for (fails_in, flips) in [(0, 0), (3, 1)] {
            let in_force = machine.0.borrow().tables.commit + flips;
            machine.0.borrow_mut().fails_in = Some(fails_in);
            let isolates = policy("a/shop/web").select("app=web").ingress([rule().ports("TCP/81"), rule()]);
            agent.tell(vec![if fails_in == 0 { isolates.into() } else { policy("a/shop/web").deleted() }]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            let issues = agent.issues().await;
            let expected = format!("packets are judged by commit {in_force}");
            assert!(issues.iter().any(|issue| issue.message.ends_with(&expected)), "{issues:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(agent.issues().await, []);
        }
    });
}

#[test]
fn a_policy_that_does_not_fit_leaves_the_last_one_in_force_and_holds_new_pods() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1").interface(8, "10.1.0.2");
        let most = [(Table::Endpoints, 1)].into();
        machine.0.borrow_mut().limits = Limits { most };
        let agent = Agent::synced(&machine, objects()).await;
        let before = machine.0.borrow().tables.clone();
        agent.tell(vec![pod("a/shop/api").ip("10.1.0.2").node("n").into()]).await;
        agent.settle().await;
        assert_eq!(machine.0.borrow().tables, before);
        let states: Vec<_> = agent.endpoints().await.into_iter().map(|it| (it.pod, it.state)).collect();
        let held = ("a/shop/api".to_owned(), EndpointState::Held);
        assert_eq!(states, [held, ("a/shop/web".to_owned(), EndpointState::Enforced)]);
        let issues = agent.issues().await;
        assert_eq!(codes(&issues), [IssueCode::TableFull]);
        assert_eq!((issues[0].object.as_str(), issues[0].field.as_str()), ("Node/n", "endpoints"));
        agent.tell(vec![pod("a/shop/api").ip("10.1.0.2").node("n").deleted()]).await;
        agent.settle().await;
        assert_eq!(agent.issues().await, []);
    });
}

#[test]
fn a_new_pod_is_in_the_tables_though_its_policy_does_not_fit() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1").interface(8, "10.1.0.2");
        machine.0.borrow_mut().limits = Limits { most: [(Table::LocalV4, 1)].into() };
        let agent = Agent::synced(&machine, objects()).await;
        agent.tell(vec![pod("a/shop/api").ip("10.1.0.2").node("n").into()]).await;
        agent.settle().await;
        // What finds its neighbours passes, which it would not if the tables did not know it.
        assert!(machine.0.borrow().tables.endpoints.contains_key(&8));
        let states: Vec<_> = agent.endpoints().await.into_iter().map(|it| it.state).collect();
        assert_eq!(states, [EndpointState::Held, EndpointState::Enforced]);
        assert_eq!(machine.done().last(), Some(&Done::Attached(8)));
        assert_eq!(codes(&agent.issues().await), [IssueCode::TableFull]);
        agent.tell(vec![pod("a/shop/api").ip("10.1.0.2").node("n").deleted()]).await;
        agent.settle().await;
        assert_eq!(machine.0.borrow().tables.endpoints.keys().collect::<Vec<_>>(), [&7]);
        assert_eq!(agent.issues().await, []);
    });
}

#[test]
fn a_sweep_of_many_flows_leaves_turns_to_others() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        machine.0.borrow_mut().slices = 100;
        let agent = Agent::synced(&machine, objects()).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let left = machine.0.borrow().slices;
        assert!((1..100).contains(&left), "it has just begun: {left}");
        assert_eq!(agent.endpoints().await[0].state, EndpointState::Enforced);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(machine.0.borrow().slices, 0);
    });
}
