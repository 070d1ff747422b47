//! The programs of a control plane, and where they are.

use std::env;
use std::path::PathBuf;

/// Names the directory with the programs, as Kubernetes' own projects have it.
pub const ASSETS_VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// kube-apiserver, kubectl and etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    pub(super) etcd: PathBuf,
    pub(super) api_server: PathBuf,
    pub(super) kubectl: PathBuf,
}

impl Assets {
    /// Those of the directory that `KUBEBUILDER_ASSETS` names. The error is one line that says what is missing.
    pub fn from_env() -> Result<Self, String> {
        let named = env::var_os(ASSETS_VARIABLE).filter(|folder| !folder.is_empty());
        let folder = named.ok_or_else(|| format!("{ASSETS_VARIABLE} is not set: `cargo xtask envtest` says how"))?;
        Self::in_folder(folder)
    }

    /// Those of a directory. The error is one line that says what is missing.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Result<Self, String> {
        let folder = folder.into();
        let program = |name: &str| {
            let path = folder.join(name);
            if path.is_file() { Ok(path) } else { Err(format!("{} has no {name}", folder.display())) }
        };
        Ok(Self { etcd: program("etcd")?, api_server: program("kube-apiserver")?, kubectl: program("kubectl")? })
    }

    /// The kubectl that goes with the API server.
    #[must_use]
    pub fn kubectl(&self) -> &PathBuf {
        &self.kubectl
    }
}
