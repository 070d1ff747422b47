//! The control loop on a machine that is none: what it does, in which order, and what it leaves alone.

mod commits;
mod interfaces;
pub mod machine;
mod members;
mod services;

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
