//! The control loop on a machine that is none: what it does, in which order, and what it leaves alone.

pub mod machine;

use std::time::Duration;

use policy_core::model::{ClusterConfig, ClusterId, Event, Issue, IssueCode, Level};
use policy_core::plan::{Limits, Table, TableState};
use policy_core::testing::{abc, namespace, namespaces, pod, policy, rule};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet};

use super::{Control, Ending, Inbox, Settings};
use crate::api::Query;
use crate::api::types::{
    Answer, Endpoint, EndpointState, ExplainRequest, Explanation, Phase, Refusal, Request, Status, SyncState, Verdict,
};
use crate::sources::Batch;
use machine::{Done, Machine};

const DEADLINE: Duration = Duration::from_secs(5);

/// A running loop, and the ends of its channels.
struct Agent {
    batches: mpsc::Sender<Batch>,
    queries: mpsc::Sender<Query>,
    end: oneshot::Sender<()>,
    task: JoinHandle<Ending>,
}

impl Agent {
    /// An agent of node `n` of cluster `a`, on a machine whose tables hold what they hold.
    fn start(machine: &Machine) -> Self {
        let config = abc().config();
        let settings = Settings { node: "n".into(), cluster_set: "clusterset.yaml".into(), sync_deadline: DEADLINE };
        let tables = machine.0.borrow().tables.clone();
        let control = Control::new(settings, &config, tables, machine.clone(), machine.clone());
        let (batches, batch_receiver) = mpsc::channel(64);
        let (queries, query_receiver) = mpsc::channel(16);
        let (_scrapes, scrapes) = mpsc::channel(1);
        let (end, ended) = oneshot::channel::<()>();
        let inbox = Inbox { batches: batch_receiver, queries: query_receiver, scrapes };
        let asked = async move { drop(ended.await) };
        let task = tokio::task::spawn_local(async move { control.run(inbox, asked).await });
        Self { batches, queries, end, task }
    }

    /// An agent that all clusters have told all they have.
    async fn synced(machine: &Machine, events: Vec<Event>) -> Self {
        let agent = Self::start(machine);
        agent.tell(events.into_iter().chain(["a", "b", "c"].map(synced)).collect()).await;
        agent.settle().await;
        agent
    }

    /// Of issues nothing new.
    async fn tell(&self, events: Vec<Event>) {
        self.batches.send(Batch { events, ..Batch::default() }).await.expect("the loop runs");
    }

    async fn tell_with(&self, events: Vec<Event>, issues: Vec<Issue>) {
        self.batches.send(Batch { events, issues: Some(issues), ..Batch::default() }).await.expect("the loop runs");
    }

    /// Time passes only when there is nothing to do, so everything is done after this.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(30)).await;
    }

    async fn ask(&self, request: Request) -> Result<Answer, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.queries.send(Query { request, answer }).await.expect("the loop runs");
        answered.await.expect("the loop answers")
    }

    async fn status(&self) -> Status {
        match self.ask(Request::Status).await {
            Ok(Answer::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    async fn issues(&self) -> Vec<Issue> {
        match self.ask(Request::Issues).await {
            Ok(Answer::Issues(issues)) => issues,
            other => panic!("{other:?}"),
        }
    }

    async fn endpoints(&self) -> Vec<Endpoint> {
        match self.ask(Request::Endpoints).await {
            Ok(Answer::Endpoints(endpoints)) => endpoints,
            other => panic!("{other:?}"),
        }
    }

    async fn explain(&self, from: &str, to: &str, transport: &str) -> Explanation {
        let (from, to, transport) = (from.to_owned(), to.to_owned(), transport.to_owned());
        match self.ask(Request::Explain(ExplainRequest { from, to, transport, family: None })).await {
            Ok(Answer::Explanation(explanation)) => *explanation,
            other => panic!("{other:?}"),
        }
    }

    async fn stop(self) -> Ending {
        self.end.send(()).expect("the loop runs");
        self.task.await.expect("it does not panic")
    }
}

fn synced(cluster: &str) -> Event {
    Event::Synced(cluster.parse().expect("a cluster id"))
}

/// Pod `web` of this node, pod `pg` of cluster `b`, and a policy of `web` that admits the namespaces of `b`.
fn objects() -> Vec<Event> {
    vec![
        namespace("a/shop").into(),
        namespace("b/db").into(),
        web("10.1.0.1"),
        pod("b/db/pg").ip("10.2.0.5").into(),
        admits_b(),
    ]
}

fn web(address: &str) -> Event {
    pod("a/shop/web").labels("app=web").ip(address).node("n").into()
}

fn admits_b() -> Event {
    let from_b = rule().peer(namespaces("cluster.clusterset.k8s.io=b")).ports("TCP/80");
    policy("a/shop/web").select("app=web").ingress([from_b]).into()
}

/// Runs a test where time stands still while anything is to be done.
fn run<F: Future<Output = ()>>(test: impl FnOnce(Machine) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let machine = Machine::default();
    LocalSet::new().block_on(&runtime.expect("a runtime"), test(machine));
}

fn attachments(machine: &Machine) -> usize {
    machine.done().iter().filter(|done| matches!(done, Done::Attached(_))).count()
}

fn codes(issues: &[Issue]) -> Vec<IssueCode> {
    issues.iter().map(|issue| issue.code).collect()
}

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
fn a_node_whose_name_no_pod_has_is_doubted_if_pods_name_others() {
    run(|machine| async move {
        let elsewhere = |name: &str| pod("a/shop/api").ip("10.1.0.2").node(name).into();
        let agent = Agent::synced(&machine, vec![namespace("a/shop").into(), elsewhere("N")]).await;
        let issues = agent.issues().await;
        assert_eq!(codes(&issues), [IssueCode::UnknownNode]);
        assert_eq!(issues[0].level, Level::Warning);
        agent.tell(vec![elsewhere("n")]).await;
        agent.settle().await;
        assert_eq!(agent.issues().await, []);
        agent.tell(vec![pod("a/shop/api").deleted()]).await;
        agent.settle().await;
        assert_eq!(agent.issues().await, [], "there may be no pod at all");
    });
}

#[test]
fn a_restart_finds_the_endpoints_that_the_tables_know() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let first = Agent::synced(&machine, objects()).await;
        let before = first.endpoints().await;
        assert_eq!(first.stop().await, Ending::Asked);
        // The pod is quiet: its neighbour entry has expired.
        machine.0.borrow_mut().routes.clear();
        let second = Agent::synced(&machine, objects()).await;
        assert_eq!(second.endpoints().await, before);
        assert_eq!(machine.done().last(), Some(&Done::Attached(7)), "with the programs of this version");
    });
}

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

#[test]
fn the_end_leaves_the_kernel_as_it_is() {
    run(|machine| async move {
        machine.interface(7, "10.1.0.1");
        let agent = Agent::synced(&machine, objects()).await;
        let tables = machine.0.borrow().tables.clone();
        assert_eq!(agent.stop().await, Ending::Asked);
        assert_eq!(machine.0.borrow().tables, tables);
        assert_ne!(tables, TableState::default());
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
