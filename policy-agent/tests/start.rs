//! A program that cannot do what it is asked says so and ends, rather than waiting for what cannot come.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const AGENT: &str = env!("CARGO_BIN_EXE_policy-agent");
const POLICYCTL: &str = env!("CARGO_BIN_EXE_policyctl");

/// What a program says that must end by itself; it is no pod's.
fn ended(program: &str, folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(program);
    command.env_clear().current_dir(folder).args(arguments.split_whitespace());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait().expect("it can be waited for").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("it can be ended");
            let said = child.wait_with_output().expect("it has ended").stderr;
            panic!("{program} {arguments} goes on: {}", String::from_utf8_lossy(&said));
        }
        sleep(Duration::from_millis(20));
    }
    child.wait_with_output().expect("it has ended")
}

fn refusal(program: &str, arguments: &str) -> String {
    let folder = tempfile::tempdir().expect("a directory");
    std::fs::write(folder.path().join("wrong.yaml"), "kind: ClusterSet").expect("written");
    let output = ended(program, folder.path(), arguments);
    assert!(!output.status.success(), "{program} {arguments}");
    String::from_utf8(output.stderr).expect("it is text")
}

#[test]
fn a_cluster_set_that_cannot_be_read_is_named_at_once() {
    for (program, arguments) in [
        (AGENT, "run --node n --state-dir . --cluster-set"),
        (AGENT, "controller --namespace s --identity i --state-dir . --cluster-set"),
        (POLICYCTL, "cluster check --cluster-set"),
        (POLICYCTL, "simulate"),
    ] {
        let said = refusal(program, &format!("{arguments} absent.yaml"));
        assert!(said.contains("absent.yaml: cannot be read: No such file or directory"), "{arguments}: {said}");
        let said = refusal(program, &format!("{arguments} wrong.yaml"));
        assert!(said.contains("wrong.yaml: apiVersion: is missing"), "{arguments}: {said}");
    }
}

#[test]
fn who_is_no_pod_and_has_no_kubeconfig_is_told() {
    for verb in ["run --node n", "controller --namespace s --identity i"] {
        let said = refusal(AGENT, &format!("{verb} --state-dir . --cluster-set configmap:s/clusterset"));
        assert!(said.contains("this is no pod with a ServiceAccount"), "{verb}: {said}");
        assert!(said.contains("or name a kubeconfig"), "{verb}: {said}");
    }
}
