//! From what a ClusterProfile says and the file of access providers to one way of reaching a member.
//!
//! A profile is written by somebody else than the node's administrator. So it says where an API server is and how that proves
//! itself; it names no file and no program of the node, and adds to the command line or the environment of a program only what
//! the administrator's file lets it. KEP-5339; sigs.k8s.io/cluster-inventory-api v0.1.2, apis/v1alpha1 and pkg/access.

use serde::Deserialize;
use serde_json::{Value, json};

use super::program::Program;
use super::providers::{ArgumentsPolicy, ExecConfig, Provider, VariablesPolicy};

/// What of a cluster its program is to know; Kubernetes reserves the name.
const EXEC_CONFIG: &str = "client.authentication.k8s.io/exec";
/// Arguments for the program.
const ADDITIONAL_ARGUMENTS: &str = "clusterprofiles.multicluster.x-k8s.io/exec/additional-args";
/// Variables for the program's environment.
const ADDITIONAL_VARIABLES: &str = "clusterprofiles.multicluster.x-k8s.io/exec/additional-envs";

/// A way of reaching a member.
#[derive(Clone, Debug, PartialEq)]
pub struct Approach {
    /// Where its API server is.
    pub server: Server,
    /// What gives credentials for it.
    pub program: Program,
}

/// Who says where an API server is and how it proves itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Server {
    /// A ClusterProfile.
    Profile(Cluster),
    /// A kubeconfig of this machine, which is this text.
    Kubeconfig(String),
}

/// Where an API server is and how it proves itself; what of a kubeconfig's cluster a profile may say.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Cluster {
    /// Its URL.
    pub server: String,
    /// The name in its certificate, if that is another one than the URL's.
    pub tls_server_name: Option<String>,
    /// The certificates of its authority, PEM in base64; without it, those that this machine believes.
    pub certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    certificate_authority: Option<String>,
    proxy_url: Option<String>,
    disable_compression: Option<bool>,
    extensions: Option<Vec<Extension>>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Extension {
    name: String,
    #[serde(default)]
    extension: Value,
}

/// One of a profile's access providers, as it is written.
struct Offered<'s> {
    name: &'s str,
    cluster: &'s Value,
}

impl Approach {
    /// The way that a profile with this status offers and the file knows, the first of the file if there are several.
    ///
    /// # Errors
    ///
    /// Why there is none, as what is wrong with the profile.
    pub fn choose(status: &Value, providers: &[Provider]) -> Result<Self, String> {
        let offers = offers(status)?;
        let known = providers.iter().find_map(|provider| {
            let offer = offers.iter().find(|offer| offer.name == provider.name)?;
            Some((provider, offer))
        });
        let Some((provider, offer)) = known else {
            return Err(none_is_known(&offers, providers));
        };
        let chosen = Self::of(provider, offer.cluster);
        chosen.map_err(|why| format!("access provider {} {why}", provider.name))
    }

    fn of(provider: &Provider, cluster: &Value) -> Result<Self, String> {
        let cluster =
            Cluster::deserialize(cluster).map_err(|error| format!("has a cluster that cannot be read: {error}"))?;
        cluster.check()?;
        let exec = provider.exec_config.as_ref().ok_or("has no execConfig in the file of --access-providers")?;
        let (version, exec_info) = (exec.version()?, cluster.exec_info(exec)?);
        let mut arguments = exec.args.clone().unwrap_or_default();
        if provider.arguments_policy == ArgumentsPolicy::Append {
            let more: Option<Vec<String>> = cluster.additions(ADDITIONAL_ARGUMENTS, "a list of texts")?;
            arguments.extend(more.unwrap_or_default());
        }
        let mut variables = Vec::new();
        for variable in exec.env.iter().flatten() {
            set(&mut variables, &variable.name, &variable.value);
        }
        if provider.variables_policy != VariablesPolicy::Ignore {
            let more: Option<serde_json::Map<String, Value>> =
                cluster.additions(ADDITIONAL_VARIABLES, "names with texts")?;
            for (name, value) in more.unwrap_or_default() {
                let value = value
                    .as_str()
                    .ok_or_else(|| format!("has an extension {ADDITIONAL_VARIABLES} in which {name} is no text"))?;
                // A program that is looked for in PATH would be another one.
                if name.is_empty() || name.contains('=') || name == "PATH" {
                    return Err(format!(
                        "has an extension {ADDITIONAL_VARIABLES} that names {name:?}, which it may not"
                    ));
                }
                let is_free = variables.iter().all(|(set, _)| *set != name);
                if is_free || provider.variables_policy == VariablesPolicy::Replace {
                    set(&mut variables, &name, value);
                }
            }
        }
        let program = Program {
            user: format!("access provider {}", provider.name),
            version: version.to_owned(),
            command: exec.command.clone(),
            arguments,
            variables,
            exec_info,
            is_interactive: false,
            install_hint: exec.install_hint.clone().filter(|hint| !hint.trim().is_empty()),
        };
        Ok(Self { server: Server::Profile(cluster), program })
    }
}

impl Cluster {
    /// Refuses what a profile may not say, and what this version cannot do.
    fn check(&self) -> Result<(), String> {
        if self.certificate_authority.as_ref().is_some_and(|path| !path.is_empty()) {
            return Err("names a file of this node (certificate-authority), which a ClusterProfile may not; write \
                        certificate-authority-data into it"
                .to_owned());
        }
        if self.insecure_skip_tls_verify == Some(true) {
            return Err(
                "would have any server believed (insecure-skip-tls-verify), which a ClusterProfile may not; write \
                        certificate-authority-data into it"
                    .to_owned(),
            );
        }
        if self.proxy_url.as_ref().is_some_and(|url| !url.is_empty()) {
            return Err(
                "has a proxy-url, which this version does not support; agents must reach the server itself".to_owned()
            );
        }
        let url = self.server.parse::<http::Uri>().ok();
        let place = url.as_ref().and_then(|url| Some((url.scheme_str()?, url.host()?)));
        match place {
            // What is not encrypted must not leave the node.
            Some(("https", _) | ("http", "127.0.0.1" | "[::1]" | "localhost")) => Ok(()),
            _ => Err(format!("has the server {:?}; it must be an https:// URL", self.server)),
        }
    }

    fn extension(&self, name: &str) -> Option<&Value> {
        self.extensions.iter().flatten().find(|extension| extension.name == name).map(|extension| &extension.extension)
    }

    fn additions<'de, T: Deserialize<'de>>(&'de self, name: &str, shape: &str) -> Result<Option<T>, String> {
        let value = self.extension(name).map(T::deserialize).transpose();
        value.map_err(|_| format!("has an extension {name} that is not {shape}"))
    }

    /// What the program is told, of its cluster only where the administrator's file wants that.
    fn exec_info(&self, exec: &ExecConfig) -> Result<String, String> {
        let mut spec = json!({"interactive": false});
        if exec.provide_cluster_info {
            let mut told = json!({"server": self.server});
            let optional = [
                ("tls-server-name", self.tls_server_name.as_ref().map(|name| json!(name))),
                ("certificate-authority-data", self.certificate_authority_data.as_ref().map(|data| json!(data))),
                ("disable-compression", self.disable_compression.filter(|is| *is).map(|is| json!(is))),
                ("config", self.extension(EXEC_CONFIG).cloned()),
            ];
            for (name, value) in optional {
                if let Some(value) = value {
                    told[name] = value;
                }
            }
            spec["cluster"] = told;
        }
        Ok(json!({"kind": "ExecCredential", "apiVersion": exec.version()?, "spec": spec}).to_string())
    }
}

/// The providers of a profile: those of the older `credentialProviders` count where `accessProviders` has none of the name.
fn offers(status: &Value) -> Result<Vec<Offered<'_>>, String> {
    let mut offers: Vec<Offered<'_>> = Vec::new();
    for field in ["accessProviders", "credentialProviders"] {
        let list = match &status[field] {
            Value::Null => continue,
            Value::Array(list) => list,
            _ => return Err(format!("has a status.{field} that is no list")),
        };
        for (at, entry) in list.iter().enumerate() {
            let name = entry["name"].as_str().ok_or_else(|| format!("has a status.{field}[{at}] without a name"))?;
            if offers.iter().all(|offer| offer.name != name) {
                offers.push(Offered { name, cluster: &entry["cluster"] });
            }
        }
    }
    if offers.is_empty() {
        return Err(
            "has no status.accessProviders, so nobody knows how its cluster is reached; the cluster manager that its \
                    spec names writes them"
                .to_owned(),
        );
    }
    Ok(offers)
}

fn none_is_known(offers: &[Offered<'_>], providers: &[Provider]) -> String {
    let offered: Vec<&str> = offers.iter().map(|offer| offer.name).collect();
    let known: Vec<&str> = providers.iter().map(|provider| provider.name.as_str()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { format!("only {}", known.join(", ")) };
    format!(
        "has the access providers {}, of which the file of --access-providers names {known}; add one of them to that file, with \
         its program",
        offered.join(", ")
    )
}

fn set(variables: &mut Vec<(String, String)>, name: &str, value: &str) {
    match variables.iter_mut().find(|(set, _)| set == name) {
        Some((_, before)) => value.clone_into(before),
        None => variables.push((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::providers::Providers;
    use super::*;

    const FILE: &str = r#"{"providers": [
        {"name": "first", "execConfig": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/p",
            "args": ["own"], "env": [{"name": "A", "value": "own"}], "provideClusterInfo": true}},
        {"name": "append", "profileSourcedCLIArgsPolicy": "Append", "profileSourcedEnvVarsPolicy": "AppendIfNotExists",
            "execConfig": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/p", "args": ["own"],
                "env": [{"name": "A", "value": "own"}]}},
        {"name": "replace", "profileSourcedEnvVarsPolicy": "Replace",
            "execConfig": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/p",
                "env": [{"name": "A", "value": "own"}]}},
        {"name": "programless"}, {"name": "old", "execConfig": {"apiVersion": "v1alpha1", "command": "/p"}}]}"#;

    fn choose(status: &Value) -> Result<Approach, String> {
        Approach::choose(status, &Providers::parse(FILE, Path::new("/f")).expect("it can be read"))
    }

    /// The way by one provider with these fields of its cluster.
    fn by(provider: &str, cluster: &Value) -> Result<Approach, String> {
        let mut fields = json!({"server": "https://b.example:6443"});
        for (name, value) in cluster.as_object().expect("fields") {
            fields[name] = value.clone();
        }
        choose(&json!({"accessProviders": [{"name": provider, "cluster": fields}]}))
    }

    fn additions() -> Value {
        json!({"extensions": [
            {"name": EXEC_CONFIG, "extension": {"audience": "b"}},
            {"name": ADDITIONAL_ARGUMENTS, "extension": ["--theirs"]},
            {"name": ADDITIONAL_VARIABLES, "extension": {"A": "theirs", "LD_PRELOAD": "/tmp/x.so"}}]})
    }

    fn url(approach: &Approach) -> &str {
        match &approach.server {
            Server::Profile(cluster) => &cluster.server,
            Server::Kubeconfig(text) => panic!("{text}"),
        }
    }

    fn pairs(program: &Program) -> Vec<(&str, &str)> {
        program.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn the_first_provider_of_the_file_that_the_profile_has_is_taken() {
        let entry = |name: &str, server: &str| json!({"name": name, "cluster": {"server": server}});
        let status = json!({"accessProviders": [entry("other", "https://o"), entry("replace", "https://r"), entry("first", "https://f")],
            "credentialProviders": [entry("first", "https://older"), entry("append", "https://a")]});
        let chosen = choose(&status).expect("it is known");
        assert_eq!((chosen.program.user.as_str(), url(&chosen)), ("access provider first", "https://f"));
        let older = json!({"credentialProviders": [entry("append", "https://a")], "accessProviders": null});
        assert_eq!(url(&choose(&older).expect("older profiles have that")), "https://a");
    }

    #[test]
    fn a_profile_adds_nothing_to_a_program_that_the_file_does_not_let_it() {
        let own = by("first", &additions()).expect("it can be used").program;
        assert_eq!((own.arguments.as_slice(), pairs(&own)), (&["own".to_owned()][..], vec![("A", "own")]));
        let appended = by("append", &additions()).expect("it can be used").program;
        assert_eq!(appended.arguments, ["own", "--theirs"]);
        assert_eq!(pairs(&appended), [("A", "own"), ("LD_PRELOAD", "/tmp/x.so")]);
        let replaced = by("replace", &additions()).expect("it can be used").program;
        assert_eq!(replaced.arguments, Vec::<String>::new());
        assert_eq!(pairs(&replaced), [("A", "theirs"), ("LD_PRELOAD", "/tmp/x.so")]);
    }

    #[test]
    fn a_program_is_told_of_its_cluster_where_the_file_wants_it() {
        let mut cluster = additions();
        cluster["certificate-authority-data"] = json!("YQ==");
        cluster["tls-server-name"] = json!("b.internal");
        let told = |provider: &str| -> Value {
            let program = by(provider, &cluster).expect("it can be used").program;
            serde_json::from_str(&program.exec_info).expect("JSON")
        };
        let mut expect = json!({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
            "spec": {"interactive": false}});
        assert_eq!(told("append"), expect);
        expect["spec"]["cluster"] = json!({"server": "https://b.example:6443", "tls-server-name": "b.internal",
            "certificate-authority-data": "YQ==", "config": {"audience": "b"}});
        assert_eq!(told("first"), expect);
    }

    #[test]
    fn what_a_profile_may_not_say_is_refused() {
        for (provider, cluster, expect) in [
            ("first", json!({"certificate-authority": "/etc/shadow"}), "(certificate-authority)"),
            ("first", json!({"insecure-skip-tls-verify": true}), "(insecure-skip-tls-verify)"),
            ("first", json!({"proxy-url": "http://p"}), "proxy-url"),
            ("first", json!({"server": "http://b.example"}), "https://"),
            ("first", json!({"server": ""}), "https://"),
            ("first", json!({"server": "b.example:6443"}), "https://"),
            ("first", json!({"server": 5}), "cannot be read"),
            (
                "append",
                json!({"extensions": [{"name": ADDITIONAL_ARGUMENTS, "extension": {"a": 1}}]}),
                "a list of texts",
            ),
            ("append", json!({"extensions": [{"name": ADDITIONAL_VARIABLES, "extension": {"a": 1}}]}), "a is no text"),
            // It would choose another program, or stand for a variable of the file.
            (
                "append",
                json!({"extensions": [{"name": ADDITIONAL_VARIABLES, "extension": {"PATH": "/x"}}]}),
                "\"PATH\"",
            ),
            ("append", json!({"extensions": [{"name": ADDITIONAL_VARIABLES, "extension": {"A=b": "x"}}]}), "\"A=b\""),
            ("append", json!({"extensions": [{"name": ADDITIONAL_VARIABLES, "extension": {"": "x"}}]}), "\"\""),
            ("programless", json!({}), "no execConfig"),
            ("old", json!({}), "v1alpha1"),
        ] {
            let why = by(provider, &cluster).expect_err(expect);
            assert!(why.starts_with(&format!("access provider {provider} ")) && why.contains(expect), "{why}");
        }
        let harmless = json!({"certificate-authority": "", "insecure-skip-tls-verify": false, "proxy-url": "", "server": "http://[::1]:1"});
        by("first", &harmless).expect("nothing is said by that");
    }

    #[test]
    fn without_a_provider_that_both_know_it_is_said_who_knows_which() {
        let why = choose(&json!({"accessProviders": [{"name": "x"}, {"name": "y"}]})).expect_err("nobody knows these");
        assert!(why.contains("x, y, of which") && why.contains("names only first, append"), "{why}");
        let why = Approach::choose(&json!({"accessProviders": [{"name": "x"}]}), &[]).expect_err("an empty file");
        assert!(why.contains("names none"), "{why}");
        for status in [Value::Null, json!({}), json!({"accessProviders": []})] {
            let why = choose(&status).expect_err("no provider");
            assert!(why.contains("no status.accessProviders"), "{why}");
        }
        let why = choose(&json!({"accessProviders": {"google": {}}})).expect_err("not a list");
        assert!(why.contains("no list"), "{why}");
    }
}
