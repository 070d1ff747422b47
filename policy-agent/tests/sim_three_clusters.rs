//! The example ClusterSet decides as its probes expect, table and oracle alike; errors and differences set exit codes.

use std::path::{Path, PathBuf};

use policy_agent::cluster_set::ClusterSet;
use policy_agent::simulate::{Input, Output, Probes, Summary, run};
use policy_agent::sources::files;
use policy_core::model::{Event, Node, NodeKey};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/three-clusters")
}

fn input() -> Input {
    let cluster_set =
        ClusterSet::load(&example().join("clusterset.yaml")).expect("the example can be read").cluster_set;
    let batch = files::load(&cluster_set).expect("its directories too");
    let local = cluster_set.local.clone().expect("it names the local cluster");
    Input { config: cluster_set.config(&local), issues: batch.issues().to_vec(), events: batch.events }
}

/// Runs probes given as lines; returns what is printed, what is complained of, and the summary.
fn simulate(lines: &str) -> (String, String, Summary) {
    simulate_in(&input(), lines)
}

/// The same in another world than the example's.
fn simulate_in(input: &Input, lines: &str) -> (String, String, Summary) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), lines).expect("write the probes");
    check(input, &Probes::File(file.path().to_owned()))
}

/// Runs probes and asks the oracle about each.
fn check(input: &Input, probes: &Probes) -> (String, String, Summary) {
    let (mut out, mut complaints) = (Vec::new(), Vec::new());
    let summary = run(input, probes, Output::Json, true, &mut out, &mut complaints).expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (text(out), text(complaints), summary)
}

/// Code, object and field of each issue in the last line of an output.
fn issues(out: &str) -> Vec<String> {
    let last: serde_json::Value = serde_json::from_str(out.lines().last().expect("a last line")).expect("JSON");
    let text = |issue: &serde_json::Value, name| issue[name].as_str().expect("a string").to_owned();
    let place = |issue| ["code", "object", "field"].map(|name| text(issue, name)).join(" ");
    last["issues"].as_array().expect("a list").iter().map(place).collect()
}

#[test]
fn every_probe_of_the_example_comes_out_as_expected() {
    let lines = std::fs::read_to_string(example().join("probes.jsonl")).expect("the probes");
    let (out, complaints, summary) = simulate(&lines);
    assert_eq!((summary, complaints.as_str()), (Summary::default(), ""));
    assert_eq!(out.lines().count(), lines.lines().count() + 1);
    let expected = [
        "peer_would_widen cluster-b/NetworkPolicy/shop/web spec.ingress[0].from[0]",
        "dns_isolated cluster-c/NetworkPolicy/db/closed spec.egress",
    ];
    assert_eq!(issues(&out), expected);
}

#[test]
fn a_probe_comes_back_with_its_own_fields_verbatim() {
    let probe = r#"{"from":"cluster-a/ops/prom-0","to":"cluster-a/shop/web-1","protocol":"TCP","port":8080,"note":{"n":1.50,"big":123456789012345678901234567890}}"#;
    let (out, _, summary) = simulate(probe);
    assert_eq!(summary.exit_code(), 0);
    let first = out.lines().next().expect("a line");
    assert!(first.starts_with(&probe[..probe.len() - 1]), "{first}");
    assert!(first.contains(r#""verdict":"allow""#), "{first}");
}

/// The names of a result's fields, in order.
fn names(line: &str) -> Vec<String> {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).expect("an object");
    let mut names: Vec<String> = fields.into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

#[test]
fn an_answer_has_nothing_of_an_earlier_answer() {
    let stale = r#""egress":null,"ingress":{"verdict":"x"},"verdict":"x","reason":"x","error":"x","verdict":"y""#;
    let judged = format!(r#"{{{stale},"from":"cluster-a/ops/prom-0","to":"cluster-a/shop/web-1","protocol":"ICMP"}}"#);
    let refused = format!(r#"{{{stale},"from":"cluster-a/ops/gone","to":"cluster-a/shop/web-1","protocol":"ICMP"}}"#);
    let (out, _, _) = simulate(&format!("{judged}\n{refused}\n"));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(names(lines[0]), ["egress", "from", "ingress", "protocol", "reason", "to", "verdict"]);
    assert_eq!(names(lines[1]), ["error", "from", "protocol", "to"]);
    assert!(!out.contains(r#":"x""#) && !out.contains(r#":"y""#), "{out}");
}

#[test]
fn a_wrong_expectation_is_exit_code_1() {
    let probe =
        r#"{"from":"cluster-a/ops/prom-0","to":"cluster-c/db/pg-0","protocol":"TCP","port":5432,"expect":"allow"}"#;
    assert_eq!(simulate(probe).2.exit_code(), 1);
}

#[test]
fn what_cannot_be_judged_says_why_and_is_exit_code_2() {
    let cases = [
        (r#"{"from":"cluster-x/a/b","to":"10.1.0.1","protocol":"TCP","port":1}"#, "cluster-x is no member"),
        (r#"{"from":"cluster-a/a/b","to":"10.1.0.1","protocol":"TCP","port":1}"#, "cluster-a/a/b is not known"),
        (r#"{"from":"10.1.0.1","to":"fd00:1::2","protocol":"TCP","port":1}"#, "no common address family"),
        (r#"{"from":"10.1.0.1","to":"10.1.0.2","protocol":"TCP"}"#, "needs a port"),
        (r#"{"from":"10.1.0.1","to":"10.1.0.2","protocol":"GRE"}"#, "protocol is not TCP, UDP, SCTP or ICMP"),
        (r#"{"from":"10.1.0.1","protocol":"ICMP"}"#, "to is missing"),
    ];
    for (probe, why) in cases {
        let (out, _, summary) = simulate(probe);
        assert!(out.contains("\"error\":") && out.contains(why), "{probe}: {out}");
        assert_eq!(summary.exit_code(), 2, "{probe}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let set = example().join("clusterset.yaml").display().to_string();
    for arguments in [&["completions", "bash"][..], &["simulate", &set], &["simulate", &set, "-o", "json"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut policyctl = std::process::Command::new(env!("CARGO_BIN_EXE_policyctl"));
        let output = policyctl.args(arguments).stdout(writer).stderr(std::process::Stdio::piped()).output();
        let output = output.expect("it runs");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*complaints), (Some(0), ""), "{arguments:?}");
    }
}

/// The example with the Node of each cluster, which has an address of each family.
fn input_with_nodes() -> Input {
    let mut input = input();
    for (member, number) in input.config.members.iter().zip(1..) {
        let key = NodeKey { cluster: member.id.clone(), name: format!("{}-node-1", member.id).into() };
        let addresses = [format!("192.168.0.{number}"), format!("fd00:99::{number}")];
        let addresses = addresses.map(|address| address.parse().expect("an address")).to_vec();
        input.events.push(Event::NodeApplied(Node { key, addresses }));
    }
    input
}

/// Probes between all pods, and between each pod and addresses that are no pod's: of nodes, in podCIDRs, of the world. All
/// protocols over the ports that pods or policies name, their neighbours and both ends of the range, in both families.
fn generated_probes(input: &Input) -> String {
    const OTHERS: [&str; 9] = [
        "192.168.0.1",
        "192.168.0.2",
        "fd00:99::3",
        "10.1.255.1",
        "fd00:2::ffff",
        "203.0.113.7",
        "203.0.113.128",
        "8.8.8.8",
        "2001:db8::1",
    ];
    const PORTS: [u16; 12] = [1, 52, 53, 5432, 7999, 8000, 8080, 9000, 9090, 9100, 9101, 65535];
    let pod = |event: &Event| match event {
        Event::PodApplied(pod) => Some(pod.key.to_string()),
        _ => None,
    };
    let pods: Vec<String> = input.events.iter().filter_map(pod).collect();
    let family = |address: &str| if address.contains(':') { "IPv6" } else { "IPv4" };
    let mut ends = Vec::new();
    for from in &pods {
        for to in &pods {
            ends.extend(["IPv4", "IPv6"].map(|family| (from.clone(), to.clone(), family)));
        }
        for other in OTHERS {
            ends.push((from.clone(), other.to_owned(), family(other)));
            ends.push((other.to_owned(), from.clone(), family(other)));
        }
    }
    let mut lines = String::new();
    for (from, to, family) in ends {
        let mut line = |service: &str| {
            lines += &format!(r#"{{"from":"{from}","to":"{to}","family":"{family}",{service}}}"#);
            lines.push('\n');
        };
        line(r#""protocol":"ICMP""#);
        for protocol in ["TCP", "UDP", "SCTP"] {
            PORTS.iter().for_each(|port| line(&format!(r#""protocol":"{protocol}","port":{port}"#)));
        }
    }
    lines
}

#[test]
fn tables_and_oracle_agree_about_the_whole_matrix() {
    let (out, complaints, summary) = check(&input(), &Probes::Matrix);
    assert_eq!((summary, complaints.as_str()), (Summary::default(), ""));
    assert_eq!(out.lines().count(), 12 * 12 + 1, "each of twelve pods declares one port");
}

#[test]
fn tables_and_oracle_agree_about_generated_probes() {
    let input = input_with_nodes();
    let probes = generated_probes(&input);
    let count = probes.lines().count();
    assert!(count >= 1000, "{count}");
    let (out, complaints, summary) = simulate_in(&input, &probes);
    assert_eq!((summary, complaints.as_str()), (Summary::default(), ""));
    assert_eq!(out.lines().count(), count + 1);
    for part in [r#""verdict":"deny""#, r#""reason":"node""#, r#""reason":"self""#, r#""reason":"not_isolated""#] {
        assert!(out.contains(part), "no probe comes to {part}");
    }
}
