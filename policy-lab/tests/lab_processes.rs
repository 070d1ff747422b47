//! Processes around a lab: agents that are started, killed and stopped; signals and crashes of the lab's own process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use policy_lab::{
    AgentOptions, ClusterSpec, Error, Lab, NodeSpec, PodSpec, RunId, remove_labs_on_signals, sweep_dead_runs,
};
use support::{runs_here, traces};

fn small_lab() -> Lab {
    let node = NodeSpec::new("n1").pod(PodSpec::new("x/y").tcp(80));
    Lab::builder("processes").cluster(ClusterSpec::new("cluster-a").node(node)).build().unwrap()
}

/// Set to the arguments of a fake agent in a process that plays one.
const FAKE_AGENT: &str = "CROSSWALL_LAB_FAKE_AGENT";
/// Set in a process that only holds a lab.
const HOLDER: &str = "CROSSWALL_LAB_HOLDER";

/// Not a test of its own: what a fake agent does. It answers on its socket until it is ended.
#[test]
fn as_a_fake_agent() {
    let Ok(arguments) = env::var(FAKE_AGENT) else {
        return;
    };
    println!("started with: {arguments}");
    let mut words = arguments.split(' ');
    words.find(|word| *word == "--socket").unwrap();
    let listener = UnixListener::bind(words.next().unwrap()).unwrap();
    for stream in listener.incoming() {
        drop(stream);
    }
}

/// Not a test of its own: holds a lab with a process in it, until a signal comes.
#[test]
fn as_a_holder() {
    if env::var(HOLDER).is_err() {
        return;
    }
    remove_labs_on_signals().unwrap();
    let lab = small_lab();
    lab.bpffs("cluster-a/n1").unwrap();
    let mut sleeper = lab.host("cluster-a/x/y").unwrap().netns().command("sleep").arg("60").spawn().unwrap();
    println!("holding {}", lab.run_id());
    sleeper.wait().unwrap();
    // The signal ends the sleeper first and then this process, which must not end by itself in between: its test harness
    // would report a success, to a pipe that nobody reads any more.
    loop {
        thread::park();
    }
}

/// A program that plays an agent, whatever its arguments.
fn fake_agent(directory: &Path) -> PathBuf {
    let script = directory.join("fake-agent");
    let test = env::current_exe().unwrap().display().to_string();
    let text = format!("#!/bin/sh\n{FAKE_AGENT}=\"$*\" exec {test} --exact as_a_fake_agent --nocapture\n");
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

fn start_holder() -> (Child, RunId) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "as_a_holder", "--nocapture"])
        .env(HOLDER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let run = lines.find_map(|line| line.split("holding ").nth(1)?.parse().ok()).unwrap();
    (child, run)
}

#[test]
fn an_agent_is_told_its_place_and_can_be_killed_restarted_and_stopped() {
    if !runs_here("agents") {
        return;
    }
    let lab = small_lab();
    let options = AgentOptions::new(fake_agent(&lab.directory())).arg("--metrics").arg("127.0.0.1:9090");
    let mut agent = lab.start_agent("cluster-a/n1", options).unwrap();
    let directory = lab.directory().display().to_string();
    let expected = format!(
        "run --node n1 --cluster-set {directory}/manifests/clusterset.cluster-a.yaml --bpffs {directory}/bpf/cluster-a-n1 \
         --socket {directory}/agents/cluster-a-n1/agent.sock --state-dir {directory}/agents/cluster-a-n1/state \
         --metrics 127.0.0.1:9090"
    );
    assert!(agent.log().contains(&expected), "{}", agent.log());
    assert_eq!(lab.manifests().cluster_set("cluster-a"), PathBuf::from(&expected.split(' ').collect::<Vec<_>>()[4]));
    agent.kill().unwrap();
    assert!(!agent.is_running());
    agent.start().unwrap();
    assert!(agent.is_running());
    agent.restart().unwrap();
    assert!(agent.stop(Duration::from_secs(5)).unwrap().is_some());
    assert_eq!(agent.log().matches("started with").count(), 3);
}

#[test]
fn an_agent_that_ends_at_once_is_an_error_that_shows_its_log() {
    if !runs_here("failing agents") {
        return;
    }
    let lab = small_lab();
    let script = lab.directory().join("failing");
    fs::write(&script, "#!/bin/sh\necho no such table >&2\nexit 3\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let error = lab.start_agent("cluster-a/n1", AgentOptions::new(script)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }));
    let said = error.to_string();
    assert!(said.contains("exit status: 3") && said.contains("no such table"), "{said}");
}

#[test]
fn a_signal_removes_everything() {
    if !runs_here("signals") {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (mut holder, run) = start_holder();
        assert_ne!(traces(run), Vec::<String>::new());
        kill(Pid::from_raw(holder.id() as i32), signal).unwrap();
        assert!(!holder.wait().unwrap().success());
        assert_eq!(traces(run), Vec::<String>::new());
    }
}

#[test]
fn the_next_run_removes_what_a_crash_left() {
    if !runs_here("crashes") {
        return;
    }
    let (mut holder, run) = start_holder();
    holder.kill().unwrap();
    holder.wait().unwrap();
    sweep_dead_runs();
    assert_eq!(traces(run), Vec::<String>::new());
}
