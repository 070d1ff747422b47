//! The local API over a real socket.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::sync::mpsc;

use super::types::{Answer, Cluster, ExplainRequest, Refusal, Request, SyncState};
use super::{Client, ClientError, Query, Server};

fn cluster() -> Cluster {
    Cluster {
        id: "cluster-a".to_owned(),
        local: true,
        state: SyncState::Synced,
        age_s: None,
        error: None,
        pod_cidrs: vec!["10.1.0.0/16".to_owned()],
        namespaces: 1,
        pods: 2,
        addresses_rejected: 0,
    }
}

/// Serves at `socket` an agent that knows one cluster and explains nothing.
fn serve(socket: &Path) {
    let (queries, mut inbox) = mpsc::channel::<Query>(1);
    tokio::spawn(Server::bind(socket).expect("the socket can be bound").serve(queries));
    tokio::spawn(async move {
        while let Some(Query { request, answer }) = inbox.recv().await {
            let answered = match request {
                Request::Clusters => Ok(Answer::Clusters(vec![cluster()])),
                Request::Explain(question) => Err(Refusal { error: format!("no pod {}", question.from) }),
                other => panic!("{other:?}"),
            };
            drop(answer.send(answered));
        }
    });
}

#[tokio::test]
async fn an_answer_comes_back_as_it_was_given() {
    let folder = tempfile::tempdir().expect("a directory");
    let socket = folder.path().join("new/agent.sock");
    serve(&socket);
    let clusters: Vec<Cluster> = Client::new(&socket).ask(&Request::Clusters).await.expect("an answer");
    assert_eq!(clusters, [cluster()]);
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_refusal_comes_back_in_its_own_words() {
    let folder = tempfile::tempdir().expect("a directory");
    let socket = folder.path().join("agent.sock");
    serve(&socket);
    let question = ExplainRequest {
        from: "a/b/c".to_owned(),
        to: "10.0.0.1".to_owned(),
        transport: "icmp".to_owned(),
        family: None,
    };
    let asked = Client::new(&socket).ask::<Vec<Cluster>>(&Request::Explain(question)).await;
    assert_eq!(asked.expect_err("refused").to_string(), "no pod a/b/c");
}

#[tokio::test]
async fn a_new_agent_takes_the_socket_of_one_that_is_gone() {
    let folder = tempfile::tempdir().expect("a directory");
    let socket = folder.path().join("agent.sock");
    drop(Server::bind(&socket).expect("the socket can be bound"));
    let nobody = Client::new(&socket).ask::<Vec<Cluster>>(&Request::Clusters).await;
    assert!(matches!(nobody, Err(ClientError::NoAgent { reason: "nobody listens there", .. })), "{nobody:?}");
    serve(&socket);
    let clusters: Vec<Cluster> = Client::new(&socket).ask(&Request::Clusters).await.expect("an answer");
    assert_eq!(clusters, [cluster()]);
}

#[tokio::test]
async fn without_an_agent_it_says_what_to_do() {
    let asked = Client::new(Path::new("/nowhere/agent.sock")).ask::<Vec<Cluster>>(&Request::Clusters).await;
    assert_eq!(
        asked.expect_err("nobody").to_string(),
        "no agent is running at /nowhere/agent.sock (there is no such socket); start it with `policy-agent run`, or \
         name its socket with --socket"
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_is_not_waited_for_long() {
    let folder = tempfile::tempdir().expect("a directory");
    let socket = folder.path().join("agent.sock");
    let (queries, _never_read) = mpsc::channel::<Query>(1);
    tokio::spawn(Server::bind(&socket).expect("the socket can be bound").serve(queries));
    let asked = Client::new(&socket).ask::<Vec<Cluster>>(&Request::Clusters).await.expect_err("it is stuck");
    let expected = format!("the agent at {} does not answer within 10 s; its log may say why", socket.display());
    assert_eq!(asked.to_string(), expected);
}
