//! What `deploy/` holds, in the hands of a real API server: it takes all of it, and the roles let read what agents need and
//! nothing else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use policy_agent::document::{Format, parse};
use policy_lab::control_plane::{Assets, ControlPlane, ControlPlaneOptions};
use policy_lab::traffic::probe::Probe;
use policy_lab::{AgentOptions, ClusterSpec, Lab, MemberSource, NamespaceSpec, NodeSpec, PodSpec, can_run};
use serde_json::Value;

/// How long it may take until traffic is as a policy wants it.
const SETTLED: Duration = Duration::from_secs(30);

/// The programs, where labs can run and there are some; says why not, in one line.
fn options(test: &str) -> Option<ControlPlaneOptions> {
    let assets = can_run().map_err(|missing| missing.to_string()).and_then(|()| Assets::from_env());
    match assets {
        Ok(assets) => Some(ControlPlaneOptions::new(assets)),
        Err(missing) => {
            eprintln!("skipped {test}: {missing}");
            None
        }
    }
}

fn folder(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    std::fs::canonicalize(path).unwrap().to_str().unwrap().to_owned()
}

fn apply(control_plane: &ControlPlane, name: &str) {
    control_plane.kubectl(&["apply", "--kustomize", &folder(name)]).unwrap();
}

/// A kubeconfig of a ServiceAccount of `deploy/`.
fn account(control_plane: &ControlPlane, namespace: &str, name: &str) -> PathBuf {
    let token = control_plane.token(namespace, name).unwrap();
    control_plane.kubeconfig_with_token(name, &token).unwrap()
}

fn web(name: &str) -> PodSpec {
    PodSpec::new(name).label("app", "web").udp(53)
}

/// Takes a member's source into a ClusterSet file from that of the example of two clusters.
fn read_from_the_secret_of_the_example(path: &Path, member: &str) {
    let example = std::fs::read(folder("examples/two-clusters/cluster-a/clusterset.yaml")).unwrap();
    let example = parse(&example, Format::Yaml).unwrap().remove(0);
    let mut set = parse(&std::fs::read(path).unwrap(), Format::Json).unwrap().remove(0);
    let records = |set: &Value| set["spec"]["members"].as_array().unwrap().clone();
    let source = records(&example).into_iter().find(|record| record["id"] == member).unwrap()["source"].take();
    for record in set["spec"]["members"].as_array_mut().unwrap().iter_mut().filter(|record| record["id"] == member) {
        record["source"] = source.clone();
    }
    std::fs::write(path, set.to_string()).unwrap();
}

#[test]
fn an_api_server_takes_all_of_it() {
    let Some(options) = options("applying what deploy/ holds") else { return };
    let mut lab = Lab::builder("deploy").cluster(ClusterSpec::new("cluster-a")).build().unwrap();
    let server = lab.start_control_plane("cluster-a", &options).unwrap();
    for name in ["crds", "overlays/generic", "overlays/eks", "overlays/kind", "remote-reader", "uninstall"] {
        apply(&server, name);
    }
    for name in ["examples/two-clusters/cluster-a", "examples/two-clusters/cluster-b"] {
        apply(&server, name);
    }
    // Whoever applies on the server's side may, too, and no field is unknown there.
    for name in ["overlays/generic", "overlays/eks", "overlays/kind", "examples/two-clusters/cluster-a"] {
        let folder = folder(name);
        let dry = [
            "apply",
            "--server-side",
            "--dry-run=server",
            "--force-conflicts",
            "--validate=strict",
            "--kustomize",
            &folder,
        ];
        server.kubectl(&dry).unwrap();
    }
    server.kubectl(&["create", "namespace", "db"]).unwrap();
    server.kubectl(&["apply", "--filename", &folder("examples/two-clusters/cluster-b/policy.yaml")]).unwrap();
    // The About API is what the cluster's id stands in.
    let wait = ["wait", "--for=condition=Established", "--timeout=30s", "crd/clusterproperties.about.k8s.io"];
    server.kubectl(&wait).unwrap();
    let property = "{apiVersion: about.k8s.io/v1beta1, kind: ClusterProperty, metadata: {name: cluster.clusterset.k8s.io}, \
                    spec: {value: cluster-a}}";
    server.apply(property).unwrap();
    let read = ["get", "clusterproperties.v1alpha1.about.k8s.io", "-o", "jsonpath={.items[0].spec.value}"];
    assert_eq!(server.kubectl(&read).unwrap(), "cluster-a");
    let empty = property.replace("value: cluster-a", "value: ''");
    assert!(server.apply(&empty).unwrap_err().to_string().contains("spec.value"), "a property has a value");
}

#[test]
fn accounts_read_what_they_need_and_nothing_else() {
    let Some(options) = options("what accounts may") else { return };
    let mut lab = Lab::builder("roles").cluster(ClusterSpec::new("cluster-a")).build().unwrap();
    let server = lab.start_control_plane("cluster-a", &options).unwrap();
    for name in ["crds", "overlays/generic", "remote-reader"] {
        apply(&server, name);
    }
    let agent = server.kubectl_as(account(&server, "crosswall-system", "crosswall-agent"));
    let reader = server.kubectl_as(account(&server, "crosswall-remote", "crosswall-reader"));
    let table = [
        // What; may an agent, may a reader of another cluster.
        ("/api/v1/pods", true, true),
        ("/api/v1/namespaces", true, true),
        ("/api/v1/nodes", true, false),
        ("/api/v1/services", true, false),
        ("/apis/discovery.k8s.io/v1/endpointslices", true, false),
        ("/apis/networking.k8s.io/v1/networkpolicies", true, false),
        ("/apis/about.k8s.io/v1beta1/clusterproperties", false, false),
        ("/apis/multicluster.x-k8s.io/v1alpha1/clusterprofiles", true, false),
        ("/api/v1/namespaces/crosswall-system/secrets", true, false),
        ("/api/v1/namespaces/crosswall-system/configmaps", true, false),
        ("/api/v1/namespaces/crosswall-remote/secrets", false, false),
        ("/api/v1/namespaces/kube-system/configmaps", false, false),
        ("/api/v1/secrets", false, false),
        ("/api/v1/configmaps", false, false),
        ("/api/v1/serviceaccounts", false, false),
        ("/apis/apps/v1/daemonsets", false, false),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", false, false),
    ];
    for (path, agent_may, reader_may) in table {
        for (who, kubectl, may) in [("agent", &agent, agent_may), ("reader", &reader, reader_may)] {
            for query in ["", "?watch=true&timeoutSeconds=1"] {
                match kubectl.run(&["get", "--raw", &format!("{path}{query}")]) {
                    Ok(_) => assert!(may, "the {who} may read {path}{query}"),
                    Err(error) => {
                        let error = error.to_string();
                        assert!(!may && error.contains("orbidden"), "the {who} may not read {path}{query}: {error}");
                    }
                }
            }
        }
    }
    let id = ["get", "--raw", "/apis/about.k8s.io/v1beta1/clusterproperties/cluster.clusterset.k8s.io"];
    assert!(agent.run(&id).unwrap_err().to_string().contains("NotFound"), "the agent may ask which cluster it is");
    for kubectl in [&agent, &reader] {
        let create = ["create", "configmap", "x", "--namespace", "crosswall-system"];
        let patch = ["patch", "namespace", "default", "--patch", "{\"metadata\":{\"labels\":{\"x\":\"y\"}}}"];
        let delete = ["delete", "namespace", "crosswall-remote"];
        for change in [&create[..], &patch, &delete] {
            assert!(kubectl.run(change).unwrap_err().to_string().contains("orbidden"), "{change:?}");
        }
    }
}

#[test]
fn agents_with_these_accounts_enforce_across_clusters() {
    let Some(options) = options("agents with the accounts of deploy/") else { return };
    let shop = || NamespaceSpec::new("shop");
    let mut lab = Lab::builder("joined")
        .cluster(
            ClusterSpec::new("cluster-a")
                .namespace(shop())
                .node(NodeSpec::new("a1").pod(web("shop/web-1")).pod(web("shop/web-2"))),
        )
        .cluster(
            ClusterSpec::new("cluster-b")
                .namespace(shop())
                .node(NodeSpec::new("b1").pod(web("shop/web-1")).pod(PodSpec::new("shop/other").udp(53))),
        )
        .build()
        .unwrap();
    let servers = lab.start_control_planes(&options).unwrap();
    let [a, b] = servers.as_slice() else { panic!("one for each cluster") };
    apply(a, "overlays/generic");
    apply(b, "remote-reader");
    for server in [a, b] {
        lab.publish(server).unwrap();
    }
    lab.set_source("cluster-a", MemberSource::Kubeconfig(account(a, "crosswall-system", "crosswall-agent"))).unwrap();
    let reader = account(b, "crosswall-remote", "crosswall-reader");
    let from_file = format!("--from-file=kubeconfig={}", reader.display());
    a.kubectl(&["create", "secret", "generic", "cluster-b", "--namespace=crosswall-system", &from_file]).unwrap();
    read_from_the_secret_of_the_example(&lab.manifests().cluster_set("cluster-a"), "cluster-b");
    let _agent = lab.start_agent("cluster-a/a1", AgentOptions::new(env!("CARGO_BIN_EXE_policy-agent"))).unwrap();
    a.apply(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {cluster.clusterset.k8s.io: cluster-b}}
      podSelector: {matchLabels: {app: web}}
",
    )
    .unwrap();
    let to = "cluster-a/shop/web-1";
    let from = ["cluster-b/shop/web-1", "cluster-b/shop/other", "cluster-a/shop/web-2"];
    let probes = from.map(|from| Probe::udp(from, to, 53));
    let allowed = |probe: &Probe| probe.from == "cluster-b/shop/web-1";
    let settled = lab.settle(&probes, allowed, SETTLED).unwrap();
    assert!(settled.is_ok(), "{settled:?}");
}
