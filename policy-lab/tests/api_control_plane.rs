//! Real API servers in a lab: two clusters' control planes, what they hold, and what happens to them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use policy_lab::control_plane::{Assets, ControlPlane, ControlPlaneOptions};
use policy_lab::{ClusterSpec, Lab, NamespaceSpec, NodeSpec, PodSpec, PortProtocol};
use serde_json::Value;
use support::{runs_here, traces};

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {}}]}]
";

/// The programs, where labs can run and there are some; says why not, in one line.
fn options(test: &str) -> Option<ControlPlaneOptions> {
    if !runs_here(test) {
        return None;
    }
    match Assets::from_env() {
        Ok(assets) => Some(ControlPlaneOptions::new(assets)),
        Err(missing) => {
            eprintln!("skipped {test}: {missing}");
            None
        }
    }
}

fn two_clusters() -> Lab {
    let web = PodSpec::new("shop/web-1").label("app", "web").named_port("http", PortProtocol::Tcp, 80);
    Lab::builder("api")
        .cluster(
            ClusterSpec::new("cluster-a")
                .namespace(NamespaceSpec::new("shop").label("team", "web").annotation("owner", "x"))
                .node(NodeSpec::new("a1").pod(web).pod(PodSpec::new("ops/agent").tcp(9100).host_network())),
        )
        .cluster(ClusterSpec::new("cluster-b").node(NodeSpec::new("b1").pod(PodSpec::new("db/pg-0").tcp(5432))))
        .build()
        .unwrap()
}

fn one_cluster(options: &ControlPlaneOptions) -> (Lab, ControlPlane) {
    let mut lab = Lab::builder("api").cluster(ClusterSpec::new("cluster-a")).build().unwrap();
    let control_plane = lab.start_control_plane("cluster-a", options).unwrap();
    (lab, control_plane)
}

fn get(control_plane: &ControlPlane, path: &str) -> Value {
    serde_json::from_str(&control_plane.kubectl(&["get", "--raw", path]).unwrap()).unwrap()
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[test]
fn two_control_planes_are_reached_from_all_nodes_and_hold_what_the_lab_has() {
    let Some(options) = options("two control planes") else {
        return;
    };
    let mut lab = two_clusters();
    let begun = Instant::now();
    let control_planes = lab.start_control_planes(&options).unwrap();
    let ready = begun.elapsed();
    let memory: Vec<String> = control_planes
        .iter()
        .flat_map(ControlPlane::processes)
        .map(|(name, pid)| format!("{name} {} MiB", resident_mib(pid.unwrap())))
        .collect();
    eprintln!("two control planes ready in {ready:?}; {}", memory.join(", "));
    let [a, b] = control_planes.as_slice() else { panic!("a control plane for each cluster") };
    assert_ne!(a.address(), b.address());
    for node in ["cluster-a/a1", "cluster-b/b1", "cluster-a/shop/web-1"] {
        for control_plane in [a, b] {
            let address = control_plane.address();
            let reached = lab.host(node).unwrap().netns().enter(|| {
                TcpStream::connect_timeout(&address, Duration::from_secs(5)).map(drop).map_err(|error| error.kind())
            });
            assert_eq!(reached.unwrap(), Ok(()), "{node} to {address}");
        }
    }

    lab.publish(a).unwrap();
    a.apply(POLICY).unwrap();
    let policies = get(a, "/apis/networking.k8s.io/v1/networkpolicies");
    assert_eq!(text(&policies, "/items/0/metadata/name"), "web");
    let others = get(b, "/apis/networking.k8s.io/v1/networkpolicies");
    assert_eq!(others.pointer("/items").unwrap(), &Value::Array(Vec::new()));

    let pod = get(a, "/api/v1/namespaces/shop/pods/web-1");
    let [v4, v6] = lab.host("cluster-a/shop/web-1").unwrap().addresses().iter().collect::<Vec<_>>()[..] else {
        panic!("the pod has both families")
    };
    assert_eq!(pod.pointer("/status/podIPs").unwrap(), &serde_json::json!([{"ip": v4}, {"ip": v6}]));
    assert_eq!((text(&pod, "/status/phase"), text(&pod, "/spec/nodeName")), ("Running", "a1"));
    assert_eq!(text(&pod, "/spec/containers/0/ports/0/name"), "http");
    let host_pod = get(a, "/api/v1/namespaces/ops/pods/agent");
    let node = get(a, "/api/v1/nodes/a1");
    assert_eq!(text(&host_pod, "/status/podIP"), text(&node, "/status/addresses/0/address"));
    assert_eq!(node.pointer("/status/addresses").and_then(Value::as_array).map(Vec::len), Some(2));
    // A streaming list, which the server refuses on an etcd that is too old for it.
    let stream = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let listed = a.kubectl(&["get", "--raw", &format!("/api/v1/pods?{stream}&timeoutSeconds=2")]).unwrap();
    assert!(listed.contains("web-1") && listed.contains("k8s.io/initial-events-end"), "{listed}");
    let namespace = get(a, "/api/v1/namespaces/shop");
    assert_eq!(
        (text(&namespace, "/metadata/labels/team"), text(&namespace, "/metadata/annotations/owner")),
        ("web", "x")
    );
}

#[test]
fn what_the_lab_changes_is_published_again() {
    let Some(options) = options("changes") else {
        return;
    };
    let mut lab = two_clusters();
    let a = lab.start_control_plane("cluster-a", &options).unwrap();
    lab.publish(&a).unwrap();
    lab.relabel_pod("cluster-a/shop/web-1", &[("tier", "front")]).unwrap();
    lab.add_pod("cluster-a/a1", &PodSpec::new("new/one").tcp(80)).unwrap();
    lab.publish(&a).unwrap();
    let pod = get(&a, "/api/v1/namespaces/shop/pods/web-1");
    assert_eq!(pod.pointer("/metadata/labels").unwrap(), &serde_json::json!({"tier": "front"}));
    assert_eq!(text(&get(&a, "/api/v1/namespaces/new/pods/one"), "/status/phase"), "Running");
    a.delete_pod("new", "one").unwrap();
    let gone = a.kubectl(&["get", "--raw", "/api/v1/namespaces/new/pods/one"]).unwrap_err().to_string();
    assert!(gone.contains("NotFound"), "{gone}");
}

#[test]
fn a_frozen_server_gives_no_answer_until_it_goes_on_and_a_killed_one_keeps_its_objects() {
    let Some(options) = options("freezing and killing") else {
        return;
    };
    let (_lab, mut server) = one_cluster(&options);
    server.apply("{apiVersion: v1, kind: Namespace, metadata: {name: kept}}").unwrap();
    server.pause().unwrap();
    let begun = Instant::now();
    let refused = server.kubectl(&["get", "--raw", "/api/v1/namespaces/kept", "--request-timeout=1s"]);
    assert!(refused.is_err() && begun.elapsed() >= Duration::from_secs(1), "{refused:?} in {:?}", begun.elapsed());
    server.resume().unwrap();
    let namespace = get(&server, "/api/v1/namespaces/kept");

    let [(_, api_server), (_, etcd)] = server.processes();
    server.stop().unwrap();
    assert!(!is_alive(api_server.unwrap()) && is_alive(etcd.unwrap()));
    assert_eq!(server.processes()[0].1, None);
    assert!(server.kubectl(&["get", "--raw", "/readyz"]).is_err());
    let begun = Instant::now();
    server.start().unwrap();
    eprintln!("the API server is ready again in {:?}", begun.elapsed());
    assert_eq!(get(&server, "/api/v1/namespaces/kept").pointer("/metadata/uid"), namespace.pointer("/metadata/uid"));

    // A frozen one is killed as well.
    server.pause().unwrap();
    let pid = server.processes()[0].1.unwrap();
    server.stop().unwrap();
    assert!(!is_alive(pid));
    server.start().unwrap();
}

/// What the server says to a watch, and to a list, from an old version.
fn from_version(server: &ControlPlane, version: &str) -> [String; 2] {
    ["watch=true&timeoutSeconds=1&", "resourceVersionMatch=Exact&"].map(|query| {
        let path = format!("/api/v1/namespaces/default/configmaps?{query}resourceVersion={version}");
        match server.kubectl(&["get", "--raw", &path]) {
            Ok(answer) => answer,
            Err(error) => error.to_string(),
        }
    })
}

#[test]
fn after_a_compaction_old_versions_are_gone() {
    let Some(options) = options("compaction") else {
        return;
    };
    let without_cache = options.clone().api_server_arg("--watch-cache=false");
    for (options, needs_restart) in [(options, true), (without_cache, false)] {
        let (_lab, mut server) = one_cluster(&options);
        server.kubectl(&["create", "configmap", "first"]).unwrap();
        let old = get(&server, "/api/v1/namespaces/default/configmaps");
        let old = text(&old, "/metadata/resourceVersion").to_owned();
        server.kubectl(&["create", "configmap", "second"]).unwrap();
        let [watch, list] = from_version(&server, &old);
        assert!(watch.contains("\"ADDED\"") && watch.contains("second"), "{watch}");
        assert!(list.contains("first") && !list.contains("second"), "{list}");
        let kept = server.compact().unwrap();
        assert!(kept > old.parse().unwrap());
        if needs_restart {
            server.stop().unwrap();
            server.start().unwrap();
        }
        for answer in from_version(&server, &old) {
            assert!(answer.contains("\"code\":410") || answer.contains("Expired"), "{answer}");
        }
        assert!(server.kubectl(&["get", "configmaps"]).unwrap().contains("second"));
    }
}

#[test]
fn who_has_no_role_is_refused_and_who_has_one_is_not() {
    let Some(options) = options("roles") else {
        return;
    };
    let (_lab, server) = one_cluster(&options);
    server.kubectl(&["create", "serviceaccount", "reader"]).unwrap();
    let token = server.token("default", "reader").unwrap();
    let user = server.kubeconfig_for("jane", Some("readers")).unwrap();
    let account = server.kubeconfig_with_token("reader", &token).unwrap();
    let read = ["get", "pods", "--namespace=default"];
    for (kubeconfig, name) in [(&user, "jane"), (&account, "system:serviceaccount:default:reader")] {
        let refused = server.kubectl_as(kubeconfig).run(&read).unwrap_err().to_string();
        assert!(refused.contains("forbidden") && refused.contains(&format!("\"{name}\"")), "{refused}");
    }
    server.kubectl(&["create", "role", "read", "--resource=pods", "--verb=get,list,watch"]).unwrap();
    let binding = ["create", "rolebinding", "read", "--role=read"];
    server.kubectl(&[&binding[..], &["--group=readers", "--serviceaccount=default:reader"]].concat()).unwrap();
    for kubeconfig in [&user, &account] {
        let kubectl = server.kubectl_as(kubeconfig);
        // The authorizer learns of the binding by a watch.
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = kubectl.run(&read) {
            assert!(Instant::now() < deadline, "{error}");
        }
        let refused = kubectl.run(&["create", "configmap", "no"]).unwrap_err().to_string();
        assert!(refused.contains("forbidden"), "{refused}");
    }
    let stranger = server.kubeconfig_with_token("reader", &format!("{token}x")).unwrap();
    let refused = server.kubectl_as(stranger).run(&read).unwrap_err().to_string();
    assert!(refused.contains("Unauthorized") || refused.contains("must be logged in"), "{refused}");
}

#[test]
fn nothing_is_left_of_a_control_plane_after_its_end_or_a_panic() {
    let Some(options) = options("cleanup") else {
        return;
    };
    let mut lab = Lab::builder("api").cluster(ClusterSpec::new("cluster-a")).build().unwrap();
    let server = lab.start_control_plane("cluster-a", &options).unwrap();
    assert!(lab.start_control_plane("cluster-a", &options).is_err(), "a cluster has one");
    let pids = server.processes().map(|(_, pid)| pid.unwrap());
    let directory = server.directory().to_owned();
    drop(server);
    assert!(!pids.into_iter().any(is_alive) && !directory.exists());

    let run = lab.run_id();
    let mut pids = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut lab = lab;
        let server = lab.start_control_plane("cluster-a", &options).unwrap();
        server.pause().unwrap();
        pids.extend(server.processes().map(|(_, pid)| pid.unwrap()));
        panic!("on purpose");
    }));
    assert!(outcome.is_err());
    assert_eq!(pids.len(), 2);
    assert!(!pids.into_iter().any(is_alive));
    assert_eq!(traces(run), Vec::<String>::new());
}
