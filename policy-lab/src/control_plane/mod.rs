//! A cluster's control plane: a real kube-apiserver with its etcd, in a network namespace of its own that all nodes reach.
//!
//! There is no controller-manager, no scheduler and no kubelet: what they would write, [`Lab::publish`] and
//! [`ControlPlane::apply_status`] write. RBAC is in force, and so are the default admission plugins but `ServiceAccount`:
//! it would refuse every pod, because the controller that makes the account `default` of a namespace does not run.

mod assets;
mod authority;
mod daemon;
mod etcd;
mod kubectl;

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::address::{Family, SERVICES};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::lab::Lab;
use crate::netns::NetNs;
use authority::{Authority, Credential};
use daemon::Daemon;

pub use assets::{ASSETS_VARIABLE, Assets};
pub use kubectl::Kubectl;

/// The port of the API server.
const PORT: u16 = 6443;
/// A busy machine takes long for what else takes four seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// The group that may do everything, whatever RBAC says.
const ADMINISTRATORS: &str = "system:masters";

/// How control planes are started.
#[derive(Debug, Clone)]
pub struct ControlPlaneOptions {
    assets: Assets,
    api_server_arguments: Vec<OsString>,
}

impl ControlPlaneOptions {
    /// Runs these programs.
    #[must_use]
    pub fn new(assets: Assets) -> Self {
        Self { assets, api_server_arguments: Vec::new() }
    }

    /// Adds an argument of the API server after the lab's own: `--watch-cache=false`, `--feature-gates=WatchList=false`.
    #[must_use]
    pub fn api_server_arg(mut self, argument: impl Into<OsString>) -> Self {
        self.api_server_arguments.push(argument.into());
        self
    }
}

/// The control plane of one cluster. Dropping it kills its processes and removes its files.
#[derive(Debug)]
pub struct ControlPlane {
    cluster: String,
    netns: Arc<NetNs>,
    address: SocketAddr,
    assets: Assets,
    directory: PathBuf,
    authority: Authority,
    admin: PathBuf,
    api_server: Daemon,
    etcd: Daemon,
}

impl Lab {
    /// Starts the control plane of a cluster and waits until it is ready.
    pub fn start_control_plane(&mut self, cluster: &str, options: &ControlPlaneOptions) -> Result<ControlPlane> {
        let mut control_plane = self.prepare_control_plane(cluster, options)?;
        control_plane.spawn()?;
        control_plane.wait_until_ready()?;
        Ok(control_plane)
    }

    /// Starts the control planes of all clusters, all at the same time; waits for all. In the order of
    /// [`Lab::clusters`].
    pub fn start_control_planes(&mut self, options: &ControlPlaneOptions) -> Result<Vec<ControlPlane>> {
        let clusters: Vec<String> = self.clusters().map(String::from).collect();
        let mut control_planes =
            clusters.iter().map(|cluster| self.prepare_control_plane(cluster, options)).collect::<Result<Vec<_>>>()?;
        control_planes.iter_mut().try_for_each(ControlPlane::spawn)?;
        control_planes.iter_mut().try_for_each(ControlPlane::wait_until_ready)?;
        Ok(control_planes)
    }

    /// Makes API objects, with their status, of all that the lab has manifests of in the control plane's cluster. May
    /// be repeated after changes; what is gone from the lab stays an object.
    pub fn publish(&self, control_plane: &ControlPlane) -> Result<()> {
        let cluster = &control_plane.cluster;
        let [namespaces, nodes, pods, others] = self.manifests().by_kind(cluster)?;
        let nodes: Vec<Value> = nodes.iter().filter_map(|node| serde_json::from_str(node).ok()).collect();
        let bare_nodes = nodes.iter().map(|node| without_status(node).to_string()).collect();
        // A pod is refused in a namespace that is not there yet.
        let objects = [namespaces, bare_nodes, pods.clone(), others].concat();
        if !objects.is_empty() {
            control_plane.apply(&objects.join("\n---\n"))?;
        }
        if !pods.is_empty() {
            control_plane.apply_status(&pods.join("\n---\n"))?;
        }
        nodes.iter().try_for_each(|node| {
            let name = node.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            control_plane.patch_status("node", name, &node["status"])
        })
    }

    fn prepare_control_plane(&mut self, cluster: &str, options: &ControlPlaneOptions) -> Result<ControlPlane> {
        let directory = self.directory().join("control-planes").join(cluster);
        if directory.exists() {
            return Err(Error::Taken { what: format!("a control plane of {cluster}") });
        }
        let host = self.control_plane_host(cluster)?;
        fs::create_dir_all(&directory).map_err(Error::path("create", &directory))?;
        let made = ControlPlane::prepare(cluster, &host, options, &directory);
        // Without one there is no guard that would remove what was written.
        made.inspect_err(|_| drop(fs::remove_dir_all(&directory)))
    }
}

impl ControlPlane {
    /// The id of its cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Its network namespace, for commands beside it.
    #[must_use]
    pub fn netns(&self) -> &Arc<NetNs> {
        &self.netns
    }

    /// The IPv4 address and port of the API server, which all nodes and hosts of the lab reach.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file that lets whoever reads it do everything.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// Its directory (data, keys, logs, kubeconfigs), removed with it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A kubeconfig of a user with a certificate. Without a role it may do next to nothing.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let identity = self.authority.user(user, group)?;
        self.write_kubeconfig(user, &Credential::Certificate(&identity))
    }

    /// A kubeconfig of whoever the token says, under this name in its file.
    pub fn kubeconfig_with_token(&self, user: &str, token: &str) -> Result<PathBuf> {
        self.write_kubeconfig(user, &Credential::Token(token))
    }

    /// Freezes the API server: connections stay, requests get no answer.
    pub fn pause(&self) -> Result<()> {
        self.api_server.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen API server go on.
    pub fn resume(&self) -> Result<()> {
        self.api_server.signal(Signal::SIGCONT)
    }

    /// Kills the API server; etcd goes on and keeps all objects.
    pub fn stop(&mut self) -> Result<()> {
        self.api_server.kill()
    }

    /// Starts the API server again and waits until it is ready.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_until_ready()
    }

    /// Makes etcd forget all history up to now; gives the resource version before which nothing is kept.
    ///
    /// What the API server still has in its watch caches it goes on serving: watches from older versions until it is
    /// restarted, lists of an older version for up to 15 seconds (k8s.io/apiserver, pkg/storage/cacher/compactor.go).
    /// After [`ControlPlane::stop`] and [`ControlPlane::start`], or at once with `--watch-cache=false`, both answer 410.
    pub fn compact(&self) -> Result<u64> {
        etcd::compact(&self.netns)
    }

    /// Stores objects under keys of etcd (`/registry/pods/NAMESPACE/NAME`) as if the API server had: many times faster, and
    /// past all that it checks.
    pub fn store(&self, objects: impl IntoIterator<Item = (String, Value)>) -> Result<()> {
        etcd::put(&self.netns, objects.into_iter().map(|(key, object)| (key, object.to_string())))
    }

    /// The process ids of the API server and of etcd, where they run.
    #[must_use]
    pub fn processes(&self) -> [(&'static str, Option<u32>); 2] {
        [("kube-apiserver", self.api_server.pid()), ("etcd", self.etcd.pid())]
    }

    /// The file with the API server's output, of all its starts.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        self.api_server.log()
    }

    fn prepare(cluster: &str, host: &Host, options: &ControlPlaneOptions, directory: &Path) -> Result<Self> {
        let ControlPlaneOptions { assets, api_server_arguments } = options;
        let authority = Authority::new(cluster)?;
        let address = SocketAddr::new(host.address(Family::V4)?, PORT);
        let identity = authority.server(host.addresses())?;
        let (token_key, token_public_key) = authority::token_key()?;
        for (file, content) in [
            (CA, &authority.certificate()),
            (SERVER_CERTIFICATE, &identity.certificate),
            (SERVER_KEY, &identity.key),
            (TOKEN_KEY, &token_key),
            (TOKEN_PUBLIC_KEY, &token_public_key),
        ] {
            write_private(&directory.join(file), content)?;
        }
        let mut arguments = arguments(directory, address.ip());
        arguments.extend(api_server_arguments.iter().cloned());
        let daemon = |name, program: &Path, arguments| Daemon::new(name, program, arguments, &host.netns, directory);
        let mut control_plane = Self {
            cluster: cluster.into(),
            netns: Arc::clone(&host.netns),
            address,
            assets: assets.clone(),
            directory: directory.into(),
            authority,
            admin: PathBuf::new(),
            api_server: daemon("kube-apiserver", &assets.api_server, arguments),
            etcd: daemon("etcd", &assets.etcd, etcd::arguments(&directory.join("etcd"))),
        };
        control_plane.admin = control_plane.kubeconfig_for("admin", Some(ADMINISTRATORS))?;
        Ok(control_plane)
    }

    fn spawn(&mut self) -> Result<()> {
        self.etcd.spawn()?;
        let netns = Arc::clone(&self.netns);
        self.etcd.wait_until("an answer", PATIENCE, || etcd::is_ready(&netns))?;
        self.api_server.spawn()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let (netns, address) = (Arc::clone(&self.netns), self.address);
        let listens = || netns.enter(|| TcpStream::connect(address).is_ok()).unwrap_or(false);
        self.api_server.wait_until("the port", PATIENCE, listens)?;
        let kubectl = self.kubectl_as_admin();
        // The namespace `default` comes a moment later than the server says that it is ready.
        for path in ["/readyz", "/api/v1/namespaces/default"] {
            self.api_server.wait_until(path, PATIENCE, || kubectl.run(&["get", "--raw", path]).is_ok())?;
        }
        Ok(())
    }

    fn write_kubeconfig(&self, user: &str, credential: &Credential<'_>) -> Result<PathBuf> {
        let server = format!("https://{}", self.address);
        let file_name = user.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.', "-");
        let path = self.directory.join(format!("{file_name}.kubeconfig"));
        write_private(&path, &format!("{:#}\n", self.authority.kubeconfig(&server, user, credential)))?;
        Ok(path)
    }
}

/// A node as server-side apply takes it: there the addresses of a node are a map by type, so that two of one type are
/// refused, though every dual-stack node has them.
fn without_status(node: &Value) -> Value {
    let mut node = node.clone();
    if let Some(fields) = node.as_object_mut() {
        fields.shift_remove("status");
    }
    node
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let _ = self.api_server.kill();
        let _ = self.etcd.kill();
        if std::thread::panicking() {
            eprintln!("--- log of the API server of {}, its end:\n{}", self.cluster, self.api_server.log_tail());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

const CA: &str = "ca.crt";
const SERVER_CERTIFICATE: &str = "server.crt";
const SERVER_KEY: &str = "server.key";
const TOKEN_KEY: &str = "service-accounts.key";
const TOKEN_PUBLIC_KEY: &str = "service-accounts.pub";

fn arguments(directory: &Path, address: IpAddr) -> Vec<OsString> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", directory.join(name).display());
    [
        format!("--etcd-servers={}", etcd::url(etcd::CLIENTS)),
        format!("--secure-port={PORT}"),
        format!("--advertise-address={address}"),
        // Both families.
        "--bind-address=::".into(),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=RBAC".into(),
        "--disable-admission-plugins=ServiceAccount".into(),
        "--allow-privileged".into(),
        file("client-ca-file", CA),
        file("tls-cert-file", SERVER_CERTIFICATE),
        file("tls-private-key-file", SERVER_KEY),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        file("service-account-key-file", TOKEN_PUBLIC_KEY),
        file("service-account-signing-key-file", TOKEN_KEY),
        "--profiling=false".into(),
    ]
    .map(OsString::from)
    .into()
}

/// Writes a file that only its owner reads.
fn write_private(path: &Path, content: &str) -> Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes())).map_err(Error::path("write", path))
}
