//! What must have been told before anything changes, and members that come and go.

use super::*;

#[test]
fn nothing_in_the_kernel_changes_before_every_member_has_told_all() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::start(&machine);
        agent.tell(objects()).await;
        agent.tell(["a", "b"].map(synced).into()).await;
        agent.settle().await;
        assert_eq!((agent.status().await.phase, machine.done()), (Phase::Starting, vec![]));
        agent.tell(vec![synced("c")]).await;
        agent.settle().await;
        assert_eq!(agent.status().await.phase, Phase::Enforcing);
        assert_eq!(machine.done(), [Done::Endpoint(7), Done::Flip, Done::Endpoint(7), Done::Attached(7)]);
    });
}

#[test]
fn after_the_deadline_a_silent_member_is_not_waited_for() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::start(&machine);
        agent.tell(objects().into_iter().chain(["a", "c"].map(synced)).collect()).await;
        tokio::time::sleep(DEADLINE - Duration::from_millis(10)).await;
        assert_eq!(machine.done(), []);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(machine.done().contains(&Done::Attached(7)));
        let status = agent.status().await;
        assert_eq!((status.phase, status.clusters_synced), (Phase::Enforcing, 2));
    });
}

#[test]
fn without_the_local_cluster_nothing_changes_however_late_it_is() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let first = Agent::synced(&machine, objects()).await;
        assert_eq!(first.stop().await, Ending::Asked);
        let before = machine.0.borrow().tables.clone();
        let agent = Agent::start(&machine);
        agent.tell(["b", "c"].map(synced).into()).await;
        tokio::time::sleep(DEADLINE * 100).await;
        assert_eq!(machine.0.borrow().tables, before);
        assert_eq!(agent.status().await.phase, Phase::Starting);
        let issues = agent.issues().await;
        assert_eq!(codes(&issues), [IssueCode::LocalClusterUnknown]);
        assert!(issues[0].message.starts_with("a, the local cluster, has not told all it has"), "{issues:?}");
        agent.tell(objects().into_iter().chain([synced("a")]).collect()).await;
        agent.settle().await;
        assert_eq!((agent.status().await.phase, agent.issues().await), (Phase::Enforcing, vec![]));
    });
}

#[test]
fn a_member_that_cannot_be_reached_any_more_is_lost_until_it_can() {
    run(|machine| async move {
        let agent = Agent::synced(&machine, objects()).await;
        let issue = |code| Issue {
            code,
            level: Level::Error,
            object: "b".to_owned(),
            field: String::new(),
            message: "the directory is gone".to_owned(),
        };
        let lost = issue(IssueCode::UnusableSource);
        let restored = issue(IssueCode::RestoredSource);
        let state = || async {
            match agent.ask(Request::Clusters).await {
                Ok(Answer::Clusters(clusters)) => clusters[1].state,
                other => panic!("{other:?}"),
            }
        };
        for (issues, expect) in [
            (vec![lost.clone()], SyncState::Lost),
            (vec![restored.clone(), lost.clone()], SyncState::Restored),
            (vec![lost, issue(IssueCode::StaleSource), restored], SyncState::Stale),
        ] {
            agent.tell_with(vec![], issues).await;
            agent.settle().await;
            assert_eq!(state().await, expect);
        }
        agent.tell_with(vec![], vec![]).await;
        agent.settle().await;
        assert_eq!(state().await, SyncState::Synced);
    });
}

#[test]
fn a_local_cluster_that_is_restored_is_enforced() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::start(&machine);
        let restored = Issue {
            code: IssueCode::RestoredSource,
            level: Level::Warning,
            object: "a".to_owned(),
            field: String::new(),
            message: "of a snapshot".to_owned(),
        };
        agent.tell_with(objects(), vec![restored.clone()]).await;
        agent.settle().await;
        assert_eq!(agent.status().await.phase, Phase::Starting, "all is waited for, restored or not");
        agent.tell_with(["a", "b", "c"].map(synced).into(), vec![restored]).await;
        agent.settle().await;
        assert_eq!(agent.status().await.phase, Phase::Enforcing);
        match agent.ask(Request::Clusters).await {
            Ok(Answer::Clusters(clusters)) => {
                assert_eq!(clusters[0].state, SyncState::Restored);
                assert_eq!(clusters[0].error.as_deref(), Some("of a snapshot"));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_member_that_leaves_takes_its_addresses_along() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::synced(&machine, objects()).await;
        let allowed = agent.explain("10.2.0.5", "a/shop/web", "tcp/80").await;
        let mut config = abc().config();
        let b: ClusterId = "b".parse().expect("a cluster id");
        config.members.retain(|member| member.id != b);
        agent.tell(vec![Event::Configured(ClusterConfig { ..config })]).await;
        agent.settle().await;
        let denied = agent.explain("10.2.0.5", "a/shop/web", "tcp/80").await;
        assert_eq!((allowed.verdict, denied.verdict), (Some(Verdict::Allow), Some(Verdict::Deny)));
        let refusal = agent
            .ask(Request::Explain(ExplainRequest {
                from: "b/db/pg".to_owned(),
                to: "a/shop/web".to_owned(),
                transport: "icmp".to_owned(),
                family: None,
            }))
            .await
            .expect_err("b has left");
        assert_eq!(refusal.error, "b is no member of the ClusterSet; `policyctl get clusters` lists them");
    });
}
