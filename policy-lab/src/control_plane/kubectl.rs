//! kubectl inside a control plane's namespace: what a person would do there.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use super::ControlPlane;
use crate::error::{Error, Result};
use crate::netns::NetNs;

/// The field manager of what the lab applies.
const MANAGER: &str = "--field-manager=lab";

/// kubectl of one control plane as one user.
#[derive(Debug, Clone)]
pub struct Kubectl {
    netns: Arc<NetNs>,
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl ControlPlane {
    /// kubectl as another user than the administrator.
    #[must_use]
    pub fn kubectl_as(&self, kubeconfig: impl Into<PathBuf>) -> Kubectl {
        Kubectl {
            netns: Arc::clone(&self.netns),
            program: self.assets.kubectl().clone(),
            kubeconfig: kubeconfig.into(),
            cache: self.directory.join("kubectl-cache"),
        }
    }

    /// kubectl as the administrator.
    pub(super) fn kubectl_as_admin(&self) -> Kubectl {
        self.kubectl_as(self.admin_kubeconfig())
    }

    /// Runs kubectl as the administrator and gives what it prints; what it says on failure is the error.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_as_admin().run(arguments)
    }

    /// As [`ControlPlane::kubectl`], with something to read.
    pub fn kubectl_with(&self, arguments: &[&str], stdin: &str) -> Result<String> {
        self.kubectl_as_admin().run_with(arguments, stdin)
    }

    /// Applies objects (YAML or JSON) on the server's side.
    pub fn apply(&self, objects: &str) -> Result<String> {
        self.kubectl_with(&["apply", "--server-side", "--force-conflicts", MANAGER, "--filename=-"], objects)
    }

    /// Applies the status of objects that exist: what a kubelet would write.
    pub fn apply_status(&self, objects: &str) -> Result<String> {
        let apply = ["apply", "--server-side", "--force-conflicts", "--subresource=status", MANAGER, "--filename=-"];
        self.kubectl_with(&apply, objects)
    }

    /// Changes the status of one object: fields that are given replace those that are there, lists as a whole.
    pub fn patch_status(&self, kind: &str, name: &str, status: &Value) -> Result<()> {
        let patch = json!({"status": status}).to_string();
        self.kubectl(&["patch", kind, name, "--subresource=status", "--type=merge", MANAGER, "--patch", &patch])
            .map(drop)
    }

    /// Deletes a pod at once: no kubelet is there to confirm that it has ended.
    pub fn delete_pod(&self, namespace: &str, name: &str) -> Result<()> {
        let delete = ["delete", "pod", name, "--namespace", namespace, "--force", "--grace-period=0", "--wait=false"];
        self.kubectl(&delete).map(drop)
    }

    /// A token of a service account, which must exist, for an hour.
    pub fn token(&self, namespace: &str, service_account: &str) -> Result<String> {
        let token = self.kubectl(&["create", "token", service_account, "--namespace", namespace])?;
        Ok(token.trim().into())
    }
}

impl Kubectl {
    /// Runs it and gives what it prints; what it says on failure is the error.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with(arguments, "")
    }

    /// As [`Kubectl::run`], with something to read.
    pub fn run_with(&self, arguments: &[&str], stdin: &str) -> Result<String> {
        let failed = || format!("cannot run kubectl in {}", self.netns.name());
        let output = self.output(arguments, stdin).map_err(Error::io(failed()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Command {
            command: format!("kubectl {}", arguments.join(" ")),
            namespace: self.netns.name().into(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
        })
    }

    fn output(&self, arguments: &[&str], stdin: &str) -> io::Result<std::process::Output> {
        let mut child = self
            .netns
            .command(&self.program)
            .args(arguments)
            // Nothing of the user's own configuration, and no cache in the home directory.
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", &self.cache)
            .env("KUBERC", "off")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        thread::scope(|scope| {
            // Beside reading what it prints: either of the pipes may be full.
            scope.spawn(|| {
                if let Some(mut input) = input {
                    // It stops reading at an error; its message says more than the broken pipe.
                    let _ = input.write_all(stdin.as_bytes());
                }
            });
            child.wait_with_output()
        })
    }
}
