//! A member that a ClusterProfile of the local cluster describes: real API servers, and a program that gives credentials.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use policy_lab::control_plane::{Assets, ControlPlane, ControlPlaneOptions};
use policy_lab::traffic::probe::Probe;
use policy_lab::{AgentOptions, ClusterSpec, Lab, MemberSource, NamespaceSpec, NodeSpec, PodSpec, can_run};
use serde_json::{Value, json};

/// How long it may take until traffic is as a policy wants it.
const SETTLED: Duration = Duration::from_secs(30);

/// Admits the web pods of cluster-b alone.
const ADMIT_WEB: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {cluster.clusterset.k8s.io: cluster-b}}
      podSelector: {matchLabels: {app: web}}
";

/// The program gives what lies in a file, if it was told what the profile says.
const PLUGIN: &str = r#"
case "$KUBERNETES_EXEC_INFO" in
*'"server":"https://'*'"config":{"audience":"cluster-b"}'*) cat ANSWER ;;
*) echo "told $KUBERNETES_EXEC_INFO" >&2; exit 1 ;;
esac
"#;

/// What the program gives.
fn answer(path: &Path, status: &Value) {
    let answer = json!({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status});
    std::fs::write(path, answer.to_string()).unwrap();
}

/// The file of access providers with that program.
fn providers(path: &Path, answer: &Path) {
    let script = PLUGIN.replace("ANSWER", answer.to_str().unwrap());
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "args": ["-c", script],
        "provideClusterInfo": true});
    std::fs::write(path, json!({"providers": [{"name": "tokens", "execConfig": exec}]}).to_string()).unwrap();
}

/// The certificate and the key of a kubeconfig's user, as a program gives them.
fn certificate(kubeconfig: &Path) -> Value {
    let kubeconfig: Value = serde_json::from_str(&std::fs::read_to_string(kubeconfig).unwrap()).unwrap();
    let pem = |field: &str| {
        let bytes: ByteString = serde_json::from_value(kubeconfig["users"][0]["user"][field].clone()).unwrap();
        String::from_utf8(bytes.0).unwrap()
    };
    json!({"clientCertificateData": pem("client-certificate-data"), "clientKeyData": pem("client-key-data")})
}

fn apply(control_plane: &ControlPlane, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    control_plane.kubectl(&["apply", "--kustomize", std::fs::canonicalize(folder).unwrap().to_str().unwrap()]).unwrap();
}

fn web(name: &str) -> PodSpec {
    PodSpec::new(name).label("app", "web").udp(53)
}

/// What of a kubeconfig a profile has, and what its program is to know.
fn cluster(kubeconfig: &Path) -> Value {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let mut cluster = serde_json::from_str::<Value>(&text).unwrap()["clusters"][0]["cluster"].take();
    cluster["extensions"] =
        json!([{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "cluster-b"}}]);
    cluster
}

/// Makes the ClusterProfile `fleet/cluster-b` and gives it this status.
fn tell(control_plane: &ControlPlane, cluster: &Value) {
    let profile = "{apiVersion: multicluster.x-k8s.io/v1alpha1, kind: ClusterProfile, metadata: {name: cluster-b, \
                   namespace: fleet}, spec: {clusterManager: {name: lab}}}";
    control_plane.apply(profile).unwrap();
    let patch = json!({"status": {"accessProviders": [{"name": "tokens", "cluster": cluster}]}}).to_string();
    let arguments =
        ["patch", "clusterprofile", "cluster-b", "--namespace=fleet", "--subresource=status", "--type=merge"];
    control_plane.kubectl(&[&arguments[..], &["--patch", &patch]].concat()).unwrap();
}

/// The member's source in a ClusterSet file becomes the profile.
fn reach_by_the_profile(path: &Path) {
    let mut set: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for record in set["spec"]["members"].as_array_mut().unwrap().iter_mut().filter(|record| record["id"] == "cluster-b")
    {
        record["source"] = json!({"clusterProfile": {"name": "cluster-b", "namespace": "fleet"}});
    }
    std::fs::write(path, set.to_string()).unwrap();
}

/// Checks the links as the local cluster's nodes have them, until it ends well or not, as expected, and says this. A server
/// that has just got a kind asks for patience at first.
fn checks(control_plane: &ControlPlane, cluster_set: &Path, providers: &Path, is_well: bool, words: &str) {
    let run = || -> Output {
        let mut policyctl = Command::new(env!("CARGO_BIN_EXE_policyctl"));
        policyctl.args(["cluster", "check", "-o", "json", "--cluster-set"]).arg(cluster_set);
        policyctl.arg("--access-providers").arg(providers).output().unwrap()
    };
    let begun = Instant::now();
    loop {
        let output = control_plane.netns().enter(run).unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        if output.status.success() == is_well && said.contains(words) {
            return;
        }
        assert!(begun.elapsed() < SETTLED, "not {words:?}: {said}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_member_is_reached_as_its_profile_says_with_what_a_program_gives() {
    let assets = can_run().map_err(|missing| missing.to_string()).and_then(|()| Assets::from_env());
    let options = match assets {
        Ok(assets) => ControlPlaneOptions::new(assets),
        Err(missing) => return eprintln!("skipped a member of a ClusterProfile: {missing}"),
    };
    let cluster_of = |id: &str, node: NodeSpec| ClusterSpec::new(id).namespace(NamespaceSpec::new("shop")).node(node);
    let mut lab = Lab::builder("profile")
        .cluster(cluster_of("cluster-a", NodeSpec::new("a1").pod(web("shop/web-1")).pod(web("shop/web-2"))))
        .cluster(cluster_of(
            "cluster-b",
            NodeSpec::new("b1").pod(web("shop/web-1")).pod(PodSpec::new("shop/other").udp(53)),
        ))
        .build()
        .unwrap();
    let servers = lab.start_control_planes(&options).unwrap();
    let [a, b] = servers.as_slice() else { panic!("one for each cluster") };
    apply(a, "overlays/generic");
    apply(a, "crds");
    apply(b, "remote-reader");
    for server in [a, b] {
        lab.publish(server).unwrap();
    }
    a.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd/clusterprofiles.multicluster.x-k8s.io"])
        .unwrap();
    a.kubectl(&["create", "namespace", "fleet"]).unwrap();
    let own = a.kubeconfig_with_token("agent", &a.token("crosswall-system", "crosswall-agent").unwrap()).unwrap();
    lab.set_source("cluster-a", MemberSource::Kubeconfig(own)).unwrap();
    let cluster_set = lab.manifests().cluster_set("cluster-a");
    reach_by_the_profile(&cluster_set);

    let folder = tempfile::tempdir().unwrap();
    let (given, file) = (folder.path().join("answer"), folder.path().join("providers.json"));
    answer(&given, &json!({"token": b.token("crosswall-remote", "crosswall-reader").unwrap()}));
    providers(&file, &given);

    checks(a, &cluster_set, &file, false, "ClusterProfile fleet/cluster-b: is not there");
    let described = cluster(b.admin_kubeconfig());
    let mut careless = described.clone();
    careless["insecure-skip-tls-verify"] = json!(true);
    tell(a, &careless);
    checks(a, &cluster_set, &file, false, "(insecure-skip-tls-verify)");
    let options = AgentOptions::new(env!("CARGO_BIN_EXE_policy-agent")).arg("--access-providers").arg(&file);
    let agent = lab.start_agent("cluster-a/a1", options).unwrap();
    a.apply(ADMIT_WEB).unwrap();
    // The running agent takes what the profile says later.
    tell(a, &described);
    checks(a, &cluster_set, &file, true, r#""pods": 2"#);

    let from = ["cluster-b/shop/web-1", "cluster-b/shop/other", "cluster-a/shop/web-2"];
    let probes = from.map(|from| Probe::udp(from, "cluster-a/shop/web-1", 53));
    let settled = lab.settle(&probes, |probe| probe.from == "cluster-b/shop/web-1", SETTLED).unwrap();
    assert!(settled.is_ok(), "{settled:?}\n{}", agent.log_tail());

    // A certificate will do as well, of whoever may read, and the server says who may not.
    answer(&given, &certificate(&b.kubeconfig_for("reader", None).unwrap()));
    checks(a, &cluster_set, &file, false, "User \\\"reader\\\" cannot list");
    b.kubectl(&["create", "clusterrolebinding", "reader", "--clusterrole=crosswall-reader", "--user=reader"]).unwrap();
    checks(a, &cluster_set, &file, true, r#""pods": 2"#);
}
