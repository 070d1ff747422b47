//! Input that is wrong is named once and clearly, and everything else goes on.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use policy_lab::traffic::packet::Between;
use policy_lab::traffic::probe::Probe;
use policy_lab::traffic::sniffer::Injector;
use policy_lab::{Family, Mac, Wiring};

use crate::clusters::{Enforced, SOON, three_clusters};

const WEB: &str = "cluster-a/shop/web-1";
const API: &str = "cluster-a/shop/api-1";

/// A policy of two rules: one that cannot be read, and one that admits the api.
fn policy(name: &str, unreadable: &str) -> String {
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  ingress:
  - {unreadable}
  - from: [{{podSelector: {{matchLabels: {{app: api}}}}}}]
"
    )
}

/// Waits until the issues of a node hold all these words in one line.
fn shows_issue(enforced: &Enforced, words: &[&str]) {
    let start = Instant::now();
    loop {
        let issues = enforced.policyctl("cluster-a/a1", &["issues", "-o", "json"]);
        let value: serde_json::Value = serde_json::from_str(&issues).expect("JSON");
        let text: Vec<String> = flatten(&value);
        if text.iter().any(|issue| words.iter().all(|word| issue.contains(word))) {
            return;
        }
        assert!(start.elapsed() < SOON * 3, "no issue with {words:?}: {issues}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every issue as one text, wherever it stands.
fn flatten(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(flatten).collect(),
        serde_json::Value::Object(fields) if fields.contains_key("message") => vec![value.to_string()],
        serde_json::Value::Object(fields) => fields.values().flat_map(flatten).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_rule_that_cannot_be_read_is_named_and_the_rest_of_its_policy_stands() {
    let enforced = Enforced::start(three_clusters("unreadable", Wiring::Ptp));
    let rules = [
        ("bad-selector", "{from: [{podSelector: {matchExpressions: [{key: app, operator: Is}]}}]}", "operator"),
        ("bad-cidr", "{from: [{ipBlock: {cidr: 10.2.0.0/33}}]}", "cidr"),
        ("bad-end-port", "{ports: [{port: 90, endPort: 80}]}", "endPort"),
        ("unknown-field", "{from: [{podSelektor: {}}]}", "podSelektor"),
    ];
    for (name, rule, place) in rules {
        enforced.write("cluster-a", "policy.yaml", &policy(name, rule));
        shows_issue(&enforced, &[&format!("cluster-a/NetworkPolicy/shop/{name}"), "spec.ingress[0]", place]);
        enforced.becomes_allowed(&Probe::tcp(API, WEB, 80), true, SOON);
        enforced.becomes_allowed(&Probe::tcp("cluster-b/shop/web-1", WEB, 80), false, SOON);
    }
}

#[test]
fn a_file_that_is_cut_in_half_keeps_its_last_good_content() {
    let enforced = Enforced::start(three_clusters("cut", Wiring::Ptp));
    let good = policy("web", "{from: [{podSelector: {matchLabels: {app: nobody}}}]}");
    enforced.write("cluster-a", "policy.yaml", &good);
    enforced.becomes_allowed(&Probe::tcp("cluster-b/shop/web-1", WEB, 80), false, SOON);
    enforced.write("cluster-a", "policy.yaml", &good[..good.find("{app: nobody").expect("there")]);
    shows_issue(&enforced, &["policy.yaml"]);
    enforced.becomes_allowed(&Probe::tcp(API, WEB, 80), true, SOON);
    enforced.becomes_allowed(&Probe::tcp("cluster-b/shop/web-1", WEB, 80), false, SOON);
}

#[test]
fn addresses_that_cannot_be_are_named_and_admit_nobody() {
    let mut enforced = Enforced::start(three_clusters("addresses", Wiring::Ptp));
    enforced.write("cluster-a", "policy.yaml", &policy("web", "{from: [{podSelector: {matchLabels: {app: liar}}}]}"));
    let pod = |name: &str, address: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{app: liar}}}}, \
             status: {{phase: Running, podIPs: [{{ip: {address}}}]}}}}"
        )
    };
    let taken = enforced.lab.host("cluster-b/shop/web-1").expect("a host").address(Family::V4).expect("IPv4");
    enforced.write("cluster-b", "twice.yaml", &pod("twice", &taken.to_string()));
    shows_issue(&enforced, &["cluster-b/Pod/shop/twice", &taken.to_string(), "web-1"]);
    enforced.write("cluster-a", "outside.yaml", &pod("outside", &taken.to_string()));
    shows_issue(&enforced, &["cluster-a/Pod/shop/outside", "podCIDRs"]);
    enforced.becomes(&[Probe::tcp("cluster-b/shop/web-1", WEB, 80)], |_| false, SOON);
    enforced.becomes_allowed(&Probe::tcp(API, WEB, 80), true, SOON);
    enforced.lab.remove_pod("cluster-c/shop/web-1").expect("removed");
}

#[test]
fn a_member_without_its_directory_is_named_and_the_others_go_on() {
    let enforced = Enforced::start(three_clusters("directory", Wiring::Ptp));
    enforced.write(
        "cluster-a",
        "policy.yaml",
        &policy("web", "{from: [{namespaceSelector: {matchLabels: {cluster.clusterset.k8s.io: cluster-c}}}]}"),
    );
    enforced.becomes_allowed(&Probe::tcp("cluster-b/shop/web-1", WEB, 80), false, SOON);
    std::fs::rename(enforced.lab.manifests().directory("cluster-c"), enforced.lab.directory().join("aside"))
        .expect("renamed");
    shows_issue(&enforced, &["cluster-c"]);
    // Its last known state stays.
    enforced.becomes_allowed(&Probe::tcp("cluster-c/shop/web-1", WEB, 80), true, SOON);
    enforced.write("cluster-a", "policy.yaml", &policy("web", "{from: []}"));
    enforced.becomes_allowed(&Probe::tcp("cluster-b/shop/web-1", WEB, 80), true, SOON);
    std::fs::rename(enforced.lab.directory().join("aside"), enforced.lab.manifests().directory("cluster-c"))
        .expect("renamed");
}

#[test]
fn packets_under_a_false_source_do_not_arrive() {
    let enforced = Enforced::start(three_clusters("spoof", Wiring::Ptp));
    let lab = &enforced.lab;
    let address = |host: &str| lab.host(host).expect("a host").address(Family::V4).expect("IPv4");
    let (web, api, other) = (address(WEB), address(API), address("cluster-b/shop/web-1"));
    let sent = |from: &str, source, mark: &[u8]| {
        let between = Between { from: source, to: web };
        let frame = lab.frame(from, web).expect("a frame").udp(between, (4000, 53), mark).expect("a datagram");
        lab.inject(from, WEB, &frame, mark, Duration::from_millis(300)).expect("injected")
    };
    assert!(sent(API, api, b"an honest packet"), "the way is there");
    assert!(!sent(API, other, b"under another's address"), "spoofed_source");
    assert!(!sent("cluster-b/b1", api, b"a martian from elsewhere"), "martian_source");
    assert!(sent(API, api, b"and still honest"), "and nothing else is cut");
}

/// A broadcast ARP request that speaks for `sender` honestly, in a frame that says to come from `source`.
fn arp_request(source: Mac, hardware: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(source.0);
    // ARP; Ethernet, IPv4, 6 and 4 bytes, a request (RFC 826).
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(hardware.0.into_iter().chain(sender.octets()));
    frame.extend([0; 6].into_iter().chain(target.octets()));
    frame
}

#[test]
fn a_bridged_pod_under_anothers_hardware_address_does_not_become_that_pod() {
    let enforced = Enforced::start(three_clusters("hardware", Wiring::Bridge));
    let lab = &enforced.lab;
    let v4 = |host: &str| match lab.host(host).expect("a host").address(Family::V4).expect("IPv4") {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address}"),
    };
    let (web, api, node) = (v4(WEB), v4(API), v4("cluster-a/a1"));
    let place = || {
        let endpoints = enforced.policyctl("cluster-a/a1", &["get", "endpoints", "-o", "json"]);
        let endpoints: serde_json::Value = serde_json::from_str(&endpoints).expect("JSON");
        let endpoints = endpoints.as_array().expect("a list").iter();
        let found: BTreeMap<String, String> =
            endpoints.map(|it| (it["pod"].to_string(), format!("{} {}", it["ifindex"], it["state"]))).collect();
        found
    };
    let before = place();
    let injector = Injector::at(lab.host(API).expect("a host")).expect("a socket");
    let mac = |host: &str| lab.host(host).expect("a host").mac();
    let lie = arp_request(mac(WEB), mac(API), api, node);
    let start = Instant::now();
    while start.elapsed() < SOON * 2 {
        injector.send(&lie).expect("sent");
        std::thread::sleep(Duration::from_millis(2));
        let heard = enforced.policyctl("cluster-a/a1", &["issues", "-o", "json"]);
        if heard.contains("contested_interface") {
            break;
        }
    }
    shows_issue(&enforced, &["contested_interface", WEB.rsplit('/').next().expect("a name"), API]);
    assert_eq!(place(), before);
    // What it sends under the other's address still is not heard.
    let (target, mark) = ("cluster-b/shop/web-1", b"under another's address".as_slice());
    let between = Between { from: web.into(), to: v4(target).into() };
    let frame = lab.frame(API, v4(target).into()).expect("a frame").udp(between, (4000, 53), mark);
    assert!(!lab.inject(API, target, &frame.expect("a datagram"), mark, Duration::from_millis(300)).expect("injected"));
    // Once the other is heard of again, nothing is left of it.
    enforced.becomes_simulated(SOON * 3);
    assert_eq!(place(), before);
}

#[test]
fn a_start_that_cannot_be_says_why_in_a_line() {
    let lab = three_clusters("starts", Wiring::Ptp).build().expect("a lab");
    let node = lab.host("cluster-a/a1").expect("a node");
    let cluster_set = lab.manifests().cluster_set("cluster-a");
    let run = |bpffs: &str, cluster_set: &str| {
        let mut agent = node.netns().command(env!("CARGO_BIN_EXE_policy-agent"));
        let directory = lab.directory();
        agent.args(["run", "--node", "a1", "--bpffs", bpffs, "--cluster-set", cluster_set]);
        agent.arg("--socket").arg(directory.join("a.sock")).arg("--state-dir").arg(directory.join("state"));
        let output = agent.output().expect("it runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let no_bpffs = run(&lab.directory().display().to_string(), &cluster_set.display().to_string());
    assert!(no_bpffs.contains("mount -t bpf"), "{no_bpffs}");
    let no_file = run("/sys/fs/bpf", "/nowhere/clusterset.yaml");
    assert!(no_file.contains("/nowhere/clusterset.yaml"), "{no_file}");
}
