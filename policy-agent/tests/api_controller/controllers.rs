//! A cluster with an API server that notes what controllers ask of it, and processes of controllers.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use policy_lab::control_plane::{Assets, ControlPlane, ControlPlaneOptions};

use policy_lab::{ClusterSpec, Lab, NamespaceSpec, NetNs, NodeSpec, PodSpec, can_run};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long something may take on a busy machine that takes two or three seconds elsewhere.
pub const SOON: Duration = Duration::from_secs(15);
/// What the lease and the tries between two looks come to, and some more for a busy machine.
pub const TAKEOVER: Duration = Duration::from_secs(40);
/// Whom the deployment's controllers are to an API server.
pub const ACCOUNT: &str = "system:serviceaccount:crosswall-system:crosswall-controller";
/// As whom they run.
const USER: &str = "65532";

/// One lab at a time: an API server keeps a machine busy enough.
static TURN: Mutex<()> = Mutex::new(());

/// A cluster whose API server has what `deploy/` holds. What is first here ends first.
pub struct Cluster {
    pub server: ControlPlane,
    _lab: Lab,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

fn deploy(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    fs::canonicalize(path).expect("it is there").to_str().expect("a path").to_owned()
}

/// Which cluster it is only its ClusterProperty says; one member is reached by a Secret, another by a
/// ClusterProfile that nobody has made yet.
const CLUSTER_SET: &str = "
apiVersion: crosswall.dev/v1alpha1
kind: ClusterSet
metadata: {name: lab}
spec:
  members:
  - id: cluster-a
    source: {kubeconfig: {path: KUBECONFIG}}
    podCIDRs: [10.1.0.0/16]
  - id: cluster-b
    source: {kubeconfig: {secretRef: {name: cluster-b, namespace: crosswall-system}}}
    podCIDRs: [10.99.0.0/16]
  - id: cluster-c
    source: {clusterProfile: {name: cluster-c, namespace: crosswall-system}}
    podCIDRs: [10.98.0.0/16]
";
const PROPERTY: &str = "{apiVersion: about.k8s.io/v1beta1, kind: ClusterProperty, \
                        metadata: {name: cluster.clusterset.k8s.io}, spec: {value: cluster-a}}";
impl Cluster {
    /// `None`, and a line that says why, where there can be none.
    pub fn start(test: &str) -> Option<Self> {
        let assets = can_run().map_err(|missing| missing.to_string()).and_then(|()| Assets::from_env());
        let assets = assets.inspect_err(|missing| eprintln!("skipped {test}: {missing}")).ok()?;
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("a directory");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("set");
        let file = |name: &str| folder.path().join(name);
        let noted = json!({"level": "Metadata", "users": [ACCOUNT]});
        let audit = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [noted, {"level": "None"}]});
        fs::write(file("audit.json"), audit.to_string()).expect("written");
        let options = ControlPlaneOptions::new(assets)
            .api_server_arg(format!("--audit-policy-file={}", file("audit.json").display()))
            .api_server_arg(format!("--audit-log-path={}", file("audit.log").display()));
        let spec = ClusterSpec::new("cluster-a")
            .namespace(NamespaceSpec::new("shop"))
            .node(NodeSpec::new("a1").pod(PodSpec::new("shop/web-1").label("app", "web")));
        let mut lab = Lab::builder("controller").cluster(spec).build().expect("the lab comes up");
        let server = lab.start_control_plane("cluster-a", &options).expect("it starts");
        for name in ["crds", "overlays/generic", "remote-reader"] {
            server.kubectl(&["apply", "--kustomize", &deploy(name)]).expect("applied");
        }
        lab.publish(&server).expect("published");
        let wait = ["wait", "--for=condition=Established", "--timeout=30s", "crd/clusterproperties.about.k8s.io"];
        server.kubectl(&wait).expect("it comes");
        let cluster = Self { server, _lab: lab, folder, _turn: turn };
        until("the property is taken", SOON, || cluster.server.apply(PROPERTY).map(drop));
        cluster.hand_out_credentials();
        Some(cluster)
    }

    /// What a controller finds in its pod, and the Secret of the other member.
    fn hand_out_credentials(&self) {
        let account = |namespace: &str, name: &str| {
            let token = self.server.token(namespace, name).expect("a token");
            self.server.kubeconfig_with_token(name, &token).expect("a kubeconfig")
        };
        let reader = format!("--from-file=kubeconfig={}", account("crosswall-remote", "crosswall-reader").display());
        let create = ["create", "secret", "generic", "cluster-b", "--namespace=crosswall-system", &reader];
        self.server.kubectl(&create).expect("created");
        let own = self.file("kubeconfig");
        fs::copy(account("crosswall-system", "crosswall-controller"), &own).expect("copied");
        fs::set_permissions(&own, Permissions::from_mode(0o644)).expect("set");
        let set = CLUSTER_SET.replace("KUBECONFIG", own.to_str().expect("a path"));
        fs::write(self.file("clusterset.yaml"), set).expect("written");
        let provider = json!({"name": "tokens", "execConfig":
            {"apiVersion": "client.authentication.k8s.io/v1", "command": "/plugins/tokens", "provideClusterInfo": true}});
        fs::write(self.file("providers.json"), json!({"providers": [provider]}).to_string()).expect("written");
        fs::copy(env!("CARGO_BIN_EXE_policy-agent"), self.file("policy-agent")).expect("copied");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a controller as the Deployment does: nobody's user, without capabilities.
    pub fn controller(&self, identity: &str, port: u16) -> Controller {
        let log = File::create(self.file(&format!("{identity}.log"))).expect("created");
        let mut command = self.server.netns().command("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--no-new-privs", "--bounding-set=-all"]);
        command.arg(self.file("policy-agent")).arg("controller").arg("--cluster-set").arg(self.file("clusterset.yaml"));
        command.arg("--kubeconfig").arg(self.file("kubeconfig"));
        command.arg("--access-providers").arg(self.file("providers.json"));
        command.args(["--namespace", "crosswall-system", "--identity", identity]);
        command.args(["--metrics", &format!("127.0.0.1:{port}")]);
        let child = command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).stderr(log);
        let child = child.spawn().expect("it starts");
        let log = self.file(&format!("{identity}.log"));
        let netns = Arc::clone(self.server.netns());
        Controller { identity: identity.to_owned(), child, port, log, netns }
    }

    fn get(&self, kind: &str, name: &str, namespace: &str) -> Value {
        let get = ["get", kind, name, "--namespace", namespace, "--ignore-not-found", "--output=json"];
        let text = self.server.kubectl(&get).expect("an answer");
        if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") }
    }

    /// Who holds the Lease.
    pub fn leader(&self) -> Option<String> {
        let lease = self.get("lease", "crosswall-controller", "crosswall-system");
        lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty()).map(str::to_owned)
    }

    /// The codes that the annotation of a policy tells; `None`: there is none.
    pub fn codes(&self, policy: &str) -> Option<Vec<String>> {
        let policy = self.get("networkpolicy", policy, "shop");
        let issues: Value = serde_json::from_str(policy["metadata"]["annotations"]["crosswall.dev/issues"].as_str()?)
            .expect("the annotation is JSON");
        let text = |issue: &Value| issue["code"].as_str().expect("a code").to_owned();
        Some(issues.as_array().expect("a list").iter().map(text).collect())
    }

    /// The version of a policy: whoever writes on it makes another.
    pub fn version(&self, policy: &str) -> String {
        let policy = self.get("networkpolicy", policy, "shop");
        policy["metadata"]["resourceVersion"].as_str().expect("it is there").to_owned()
    }

    /// Type, reason and reporter of the Events about a policy, the oldest first.
    pub fn events(&self, policy: &str) -> Vec<(String, String, String)> {
        let get = ["get", "events.v1.events.k8s.io", "--namespace=shop", "--output=json"];
        let list: Value = serde_json::from_str(&self.server.kubectl(&get).expect("an answer")).expect("JSON");
        let mut events: Vec<Value> = list["items"].as_array().expect("a list").clone();
        let uid = self.get("networkpolicy", policy, "shop")["metadata"]["uid"].clone();
        events.retain(|event| event["regarding"]["name"] == policy && event["regarding"]["uid"] == uid);
        events.sort_by_key(|event| event["eventTime"].to_string());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        events.iter().map(|it| (text(&it["type"]), text(&it["reason"]), text(&it["reportingInstance"]))).collect()
    }

    /// What the account of controllers asked: verb, group, resource and, of what has a right of its own, the name; and
    /// whether it was answered.
    pub fn asked(&self) -> BTreeSet<(String, u64)> {
        let log = fs::read_to_string(self.file("audit.log")).expect("it is written");
        let entries = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let asked = entries.filter(|entry| entry["user"]["username"] == ACCOUNT).map(|entry| {
            let object = &entry["objectRef"];
            // RBAC does not know the name of what is created.
            let name = match (entry["verb"].as_str(), object["resource"].as_str()) {
                (Some("get" | "update"), Some("leases" | "clusterproperties")) => text(&object["name"]),
                _ => String::new(),
            };
            let what =
                format!("{} {}/{} {name}", text(&entry["verb"]), text(&object["apiGroup"]), text(&object["resource"]));
            (what.trim_end().to_owned(), entry["responseStatus"]["code"].as_u64().expect("a code"))
        });
        asked.collect()
    }

    /// Waits until something is so, and says otherwise what it is instead.
    pub fn until(
        &self,
        what: &str,
        within: Duration,
        controllers: &[&Controller],
        is_so: impl Fn() -> Result<(), String>,
    ) {
        let deadline = Instant::now() + within;
        while let Err(instead) = is_so() {
            if Instant::now() >= deadline {
                let logs: Vec<String> = controllers.iter().map(|controller| controller.said()).collect();
                panic!("not in time: {what}, but {instead}\n{}", logs.join("\n---\n"));
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Waits until something works.
fn until<E: std::fmt::Display>(what: &str, within: Duration, works: impl Fn() -> Result<(), E>) {
    let deadline = Instant::now() + within;
    while let Err(error) = works() {
        assert!(Instant::now() < deadline, "not in time: {what}: {error}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// A process; it is killed with this.
pub struct Controller {
    pub identity: String,
    child: Child,
    port: u16,
    log: PathBuf,
    netns: Arc<NetNs>,
}

impl Controller {
    /// As the kubelet ends it; returns whether it ended well, within the time that the Deployment gives it.
    pub fn terminate(mut self) -> bool {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid"));
        kill(pid, Signal::SIGTERM).expect("it runs");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match self.child.try_wait().expect("our child") {
                Some(status) => return status.success(),
                None if Instant::now() >= deadline => return false,
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// It is killed, and lets go of nothing.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("our child");
    }

    /// What its port answers: the status line and all else.
    pub fn ask(&self, path: &str) -> String {
        let answer = self.netns.enter(|| {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        answer.expect("the namespace is there").unwrap_or_default()
    }

    /// Whether its own metrics say that it leads.
    pub fn leads(&self) -> bool {
        self.ask("/metrics").lines().any(|line| line == "crosswall_controller_leads 1")
    }

    /// What it said.
    pub fn said(&self) -> String {
        format!("{}:\n{}", self.identity, fs::read_to_string(&self.log).unwrap_or_default())
    }

    /// Its memory in KiB and its processor time.
    pub fn weight(&self) -> (usize, Duration) {
        let file = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect("it runs");
        let status = file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        let schedule = file("schedstat");
        let nanoseconds = schedule.split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number");
        (line.trim().trim_end_matches(" kB").parse().expect("a number"), Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
