//! The file of access providers: which program of this machine gives credentials for which kind of access.
//!
//! Its shape is that of `--clusterprofile-provider-file` (KEP-5339; sigs.k8s.io/cluster-inventory-api v0.1.2, pkg/access), so
//! that one file does for all who read ClusterProfiles. What it does not know it passes over, as that library does.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What an access provider's program speaks.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// The file.
#[derive(Debug, Deserialize)]
pub struct Providers {
    providers: Option<Vec<Provider>>,
}

/// A kind of access, and the program for it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// As ClusterProfiles name it.
    pub name: String,
    /// The program.
    pub exec_config: Option<ExecConfig>,
    /// Whether profiles may add arguments.
    #[serde(default, rename = "profileSourcedCLIArgsPolicy")]
    pub arguments_policy: ArgumentsPolicy,
    /// Whether profiles may add or change variables of the program's environment.
    #[serde(default, rename = "profileSourcedEnvVarsPolicy")]
    pub variables_policy: VariablesPolicy,
}

/// How a program is run. It is never asked interactively, whatever `interactiveMode` says: nobody sits there.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecConfig {
    /// The version of its answer.
    pub api_version: Option<String>,
    /// A path, or a name that is looked for in PATH.
    pub command: PathBuf,
    /// Its arguments.
    pub args: Option<Vec<String>>,
    /// What is added to the environment of the agent.
    pub env: Option<Vec<Variable>>,
    /// What to do where the program is missing.
    pub install_hint: Option<String>,
    /// Whether it is told which cluster it is for.
    #[serde(default)]
    pub provide_cluster_info: bool,
}

/// A variable of the environment.
#[derive(Clone, Debug, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What becomes of arguments that a profile has for a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ArgumentsPolicy {
    /// They are not looked at.
    #[default]
    #[serde(alias = "")]
    Ignore,
    /// They come after the file's own.
    Append,
}

/// What becomes of variables that a profile has for a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum VariablesPolicy {
    /// They are not looked at.
    #[default]
    #[serde(alias = "")]
    Ignore,
    /// Those are added that the file does not set.
    AppendIfNotExists,
    /// They are added, and take the place of the file's.
    Replace,
}

impl Providers {
    /// Reads the content of the file at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Vec<Provider>, String> {
        let Self { providers } = serde_json::from_str(text).map_err(|error| {
            format!("{} is no file of access providers: {error}; write {{\"providers\": […]}}", path.display())
        })?;
        let mut providers = providers.unwrap_or_default();
        for exec in providers.iter_mut().filter_map(|provider| provider.exec_config.as_mut()) {
            // As kubeconfigs have it: a name is looked for in PATH, a path begins where the file is.
            if exec.command.components().count() > 1 && exec.command.is_relative() {
                exec.command = path.parent().unwrap_or(Path::new("")).join(&exec.command);
            }
        }
        Ok(providers)
    }
}

impl ExecConfig {
    /// The version of the program's answer, if it is one that is understood.
    pub fn version(&self) -> Result<&str, String> {
        let version = self.api_version.as_deref().unwrap_or_default();
        VERSIONS
            .into_iter()
            .find(|known| *known == version)
            .ok_or_else(|| format!("has the execConfig.apiVersion {version:?}; it must be {}", VERSIONS.join(" or ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Provider>, String> {
        Providers::parse(text, Path::new("/etc/crosswall/providers.json"))
    }

    #[test]
    fn the_file_is_read_as_the_library_reads_it() {
        let text = r#"{"providers": [{"name": "a", "execConfig": {"apiVersion": "client.authentication.k8s.io/v1",
            "args": null, "command": "./bin/plugin", "env": null, "provideClusterInfo": true, "interactiveMode": "Never"}},
            {"name": "b", "other": 1, "profileSourcedCLIArgsPolicy": "Append", "profileSourcedEnvVarsPolicy": "Replace"},
            {"name": "c", "execConfig": {"command": "plugin", "args": ["x"], "env": [{"name": "A", "value": "1"}]},
             "profileSourcedCLIArgsPolicy": "", "profileSourcedEnvVarsPolicy": ""}]}"#;
        let read = parse(text).expect("it can be read");
        let names: Vec<&str> = read.iter().map(|provider| provider.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let [a, b, c] = read.try_into().expect("three");
        let exec = a.exec_config.expect("it has one");
        assert_eq!(exec.command, Path::new("/etc/crosswall/bin/plugin"));
        assert!(exec.provide_cluster_info && exec.version().is_ok());
        assert_eq!((a.arguments_policy, a.variables_policy), (ArgumentsPolicy::Ignore, VariablesPolicy::Ignore));
        assert_eq!((b.arguments_policy, b.variables_policy), (ArgumentsPolicy::Append, VariablesPolicy::Replace));
        assert_eq!((c.arguments_policy, c.variables_policy), (ArgumentsPolicy::Ignore, VariablesPolicy::Ignore));
        let exec = c.exec_config.expect("it has one");
        assert_eq!(exec.command, Path::new("plugin"), "found in PATH");
        assert!(exec.version().expect_err("it says none").contains("client.authentication.k8s.io/v1 or"));
        assert!(parse("{}").expect("no provider is a file too").is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        for (text, expect) in [
            ("", "EOF"),
            ("{\"providers\": {}}", "line 1"),
            ("{\"providers\": [{\"name\": 5}]}", "line 1"),
            (r#"{"providers": [{"name": "a", "profileSourcedCLIArgsPolicy": "Prepend"}]}"#, "Prepend"),
        ] {
            let why = parse(text).expect_err(text);
            assert!(why.contains(expect) && why.starts_with("/etc/crosswall/providers.json is no file"), "{why}");
        }
    }
}
