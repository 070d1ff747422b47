//! What `deploy/` holds: nobody may more than a table here says, and the agent understands what it is started with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};
use policy_agent::agent::Cli;
use policy_agent::cluster_set::ClusterSet;
use policy_agent::document::{Format, parse};
use serde_json::{Value, json};

/// The version that images have.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const AGENT: &str = "DaemonSet crosswall-system/crosswall-agent";
const CONTROLLER: &str = "Deployment crosswall-system/crosswall-controller";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The files below a folder that have one of these names' endings, sorted.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path()) {
        if entry.is_dir() {
            found.extend(files(&entry, endings));
        } else if endings.iter().any(|ending| entry.to_string_lossy().ends_with(ending)) {
            found.push(entry);
        }
    }
    found.sort();
    found
}

fn documents(path: &Path) -> Vec<Value> {
    let bytes = fs::read(path).expect("readable");
    parse(&bytes, Format::Yaml).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All objects of these kinds in `deploy/`.
fn objects(kinds: &[&str]) -> Vec<Value> {
    let all = files(&deploy(), &[".yaml"]).into_iter().flat_map(|path| documents(&path));
    all.filter(|object| kinds.contains(&text(&object["kind"]))).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> Vec<&str> {
    list(value).iter().map(text).collect()
}

fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

/// `Kind namespace/name`.
fn title(object: &Value) -> String {
    let namespace = object["metadata"]["namespace"].as_str().map(|namespace| format!("{namespace}/"));
    format!("{} {}{}", text(&object["kind"]), namespace.unwrap_or_default(), name(object))
}

/// All containers of all workloads, with the workload's title and its pod's spec.
fn containers() -> Vec<(String, Value, Value)> {
    let mut found = Vec::new();
    for workload in objects(&["DaemonSet", "Deployment", "StatefulSet", "Job"]) {
        let pod = &workload["spec"]["template"]["spec"];
        for container in list(&pod["initContainers"]).iter().chain(list(&pod["containers"])) {
            found.push((title(&workload), pod.clone(), container.clone()));
        }
    }
    assert!(found.len() >= 4, "{found:?}");
    found
}

/// The agent's DaemonSet.
fn agent() -> Value {
    let agents = objects(&["DaemonSet"]).into_iter().filter(|object| name(object) == "crosswall-agent");
    let [agent] = agents.collect::<Vec<_>>().try_into().expect("one agent");
    agent
}

/// The controller's Deployment.
fn controller() -> Value {
    let [controller] = objects(&["Deployment"]).try_into().expect("one Deployment");
    assert_eq!(title(&controller), CONTROLLER);
    controller
}

/// What the container of a workload is started with.
fn arguments(agent: &Value) -> Vec<String> {
    texts(&agent["spec"]["template"]["spec"]["containers"][0]["args"]).into_iter().map(str::to_owned).collect()
}

/// Whether the program understands these arguments, with what Kubernetes puts in.
fn understood(arguments: &[String]) -> Result<(), String> {
    let put_in =
        [("$(NODE_NAME)", "worker-1"), ("$(POD_NAME)", "controller-1"), ("$(POD_NAMESPACE)", "crosswall-system")];
    let arguments = arguments.iter().map(|argument| {
        put_in.iter().fold(argument.clone(), |argument, (variable, value)| argument.replace(variable, value))
    });
    Cli::try_parse_from(std::iter::once("policy-agent".to_owned()).chain(arguments))
        .map(drop)
        .map_err(|error| error.to_string())
}

#[test]
fn every_file_holds_objects_or_lists_of_changes() {
    let paths = files(&deploy(), &[".yaml", ".yml", ".json"]);
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        let documents = documents(&path);
        assert!(!documents.is_empty(), "{} is empty", path.display());
        for document in documents {
            let is_object = ["apiVersion", "kind"].iter().all(|field| document[field].is_string());
            assert!(is_object, "{}: {document}", path.display());
        }
    }
}

#[test]
fn what_kustomizations_name_is_there_and_every_manifest_is_named() {
    let mut named = BTreeSet::new();
    let kustomizations = files(&deploy(), &["kustomization.yaml"]);
    for path in &kustomizations {
        let folder = path.parent().expect("a folder");
        for kustomization in documents(path) {
            let generated = list(&kustomization["configMapGenerator"]).iter().flat_map(|from| texts(&from["files"]));
            let resources = ["resources", "components"].into_iter().flat_map(|field| texts(&kustomization[field]));
            for entry in resources.chain(generated) {
                let entry = folder.join(entry);
                let found = if entry.is_dir() { entry.join("kustomization.yaml") } else { entry };
                let found = fs::canonicalize(&found).unwrap_or_else(|error| panic!("{}: {error}", found.display()));
                named.insert(found);
            }
        }
    }
    for folder in ["base", "crds", "remote-reader", "uninstall", "overlays"] {
        for path in files(&deploy().join(folder), &[".yaml"]) {
            let path = fs::canonicalize(path).expect("there");
            assert!(named.contains(&path) || path.ends_with("kustomization.yaml"), "nobody names {}", path.display());
        }
    }
}

/// What a rule lets do, a line for each kind: verbs, group and resource, and the one object if it is one.
fn rights(rule: &Value) -> Vec<String> {
    let fields: Vec<&str> = rule.as_object().expect("a rule").keys().map(String::as_str).collect();
    let known = ["apiGroups", "resourceNames", "resources", "verbs"];
    assert!(fields.iter().all(|field| known.contains(field)), "{rule}");
    let verbs = texts(&rule["verbs"]).join(",");
    let object = match texts(&rule["resourceNames"]).as_slice() {
        [] => String::new(),
        names => format!("/{}", names.join(",")),
    };
    let kinds = texts(&rule["apiGroups"])
        .into_iter()
        .flat_map(|group| texts(&rule["resources"]).into_iter().map(move |resource| format!("{group}/{resource}")));
    kinds.map(|kind| format!("{verbs} {kind}{object}")).collect()
}

#[test]
fn roles_let_do_what_the_table_says_and_nothing_else() {
    let table = BTreeMap::from([
        (
            "ClusterRole crosswall-agent",
            vec![
                "get about.k8s.io/clusterproperties/cluster.clusterset.k8s.io",
                "get,list,watch /namespaces",
                "get,list,watch /nodes",
                "get,list,watch /pods",
                "get,list,watch /services",
                "get,list,watch discovery.k8s.io/endpointslices",
                "get,list,watch multicluster.x-k8s.io/clusterprofiles",
                "get,list,watch networking.k8s.io/networkpolicies",
            ],
        ),
        (
            "ClusterRole crosswall-controller",
            vec![
                "create events.k8s.io/events",
                "get about.k8s.io/clusterproperties/cluster.clusterset.k8s.io",
                "list,watch /namespaces",
                "list,watch /nodes",
                "list,watch /pods",
                "list,watch /services",
                "list,watch discovery.k8s.io/endpointslices",
                "list,watch multicluster.x-k8s.io/clusterprofiles",
                "list,watch,patch networking.k8s.io/networkpolicies",
            ],
        ),
        ("ClusterRole crosswall-reader", vec!["get,list,watch /namespaces", "get,list,watch /pods"]),
        ("Role crosswall-system/crosswall-agent", vec!["get,list,watch /configmaps", "get,list,watch /secrets"]),
        (
            "Role crosswall-system/crosswall-controller",
            vec![
                "create coordination.k8s.io/leases",
                "get,update coordination.k8s.io/leases/crosswall-controller",
                "list,watch /secrets",
            ],
        ),
    ]);
    let mut found = BTreeMap::new();
    for role in objects(&["ClusterRole", "Role"]) {
        let mut may: Vec<String> = list(&role["rules"]).iter().flat_map(rights).collect();
        may.sort();
        assert!(found.insert(title(&role), may).is_none(), "{role}");
    }
    let table: BTreeMap<String, Vec<String>> =
        table.into_iter().map(|(role, may)| (role.to_owned(), may.into_iter().map(str::to_owned).collect())).collect();
    assert_eq!(found, table);
}

#[test]
fn roles_are_bound_to_the_account_of_their_name_alone() {
    let bindings = objects(&["ClusterRoleBinding", "RoleBinding"]);
    let found: BTreeSet<(String, String, String)> = bindings
        .iter()
        .map(|binding| {
            let [subject] = list(&binding["subjects"]) else { panic!("{binding}") };
            let account = json!({"metadata": subject, "kind": subject["kind"]});
            (title(binding), text(&binding["roleRef"]["kind"]).to_owned(), {
                assert_eq!(binding["roleRef"]["name"], subject["name"], "{binding}");
                title(&account)
            })
        })
        .collect();
    let expect = [
        ("ClusterRoleBinding crosswall-agent", "ClusterRole", "ServiceAccount crosswall-system/crosswall-agent"),
        (
            "ClusterRoleBinding crosswall-controller",
            "ClusterRole",
            "ServiceAccount crosswall-system/crosswall-controller",
        ),
        ("ClusterRoleBinding crosswall-reader", "ClusterRole", "ServiceAccount crosswall-remote/crosswall-reader"),
        ("RoleBinding crosswall-system/crosswall-agent", "Role", "ServiceAccount crosswall-system/crosswall-agent"),
        (
            "RoleBinding crosswall-system/crosswall-controller",
            "Role",
            "ServiceAccount crosswall-system/crosswall-controller",
        ),
    ];
    let expect = expect.map(|(binding, role, account)| (binding.to_owned(), role.to_owned(), account.to_owned()));
    assert_eq!(found, expect.into());
    let accounts: BTreeSet<String> = objects(&["ServiceAccount"]).iter().map(title).collect();
    assert_eq!(accounts, found.into_iter().map(|(_, _, account)| account).collect());
}

#[test]
fn no_container_is_privileged_and_only_the_agent_has_capabilities() {
    for (workload, pod, container) in containers() {
        let context = &container["securityContext"];
        let title = format!("{workload}, container {}", text(&container["name"]));
        for forbidden in ["privileged", "allowPrivilegeEscalation"] {
            assert_eq!(context[forbidden], json!(false), "{title}: {forbidden}");
        }
        assert_eq!(context["readOnlyRootFilesystem"], json!(true), "{title}");
        assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}), "{title}");
        for host in ["hostPID", "hostIPC"] {
            assert!(!pod[host].as_bool().unwrap_or(false), "{title}: {host}");
        }
        let capabilities = match workload.as_str() {
            AGENT => json!({"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON"]}),
            _ => json!({"drop": ["ALL"]}),
        };
        assert_eq!(context["capabilities"], capabilities, "{title}");
        let paths: Vec<&str> =
            list(&pod["volumes"]).iter().filter_map(|volume| volume["hostPath"]["path"].as_str()).collect();
        let expect: &[&str] = match workload.as_str() {
            AGENT => &["/sys/fs/bpf", "/run/crosswall", "/var/lib/crosswall"],
            CONTROLLER => &[],
            _ => &["/sys/fs/bpf"],
        };
        assert_eq!(paths, expect, "{title}");
        // Who needs nothing of the node is nobody there, and on no network of the node's.
        if workload == CONTROLLER {
            assert_eq!(
                (&context["runAsUser"], &context["runAsNonRoot"], &pod["hostNetwork"]),
                (&json!(65532), &json!(true), &Value::Null),
                "{title}"
            );
        }
    }
}

#[test]
fn images_are_of_this_version_and_of_no_certain_registry() {
    for (workload, _, container) in containers() {
        assert_eq!(text(&container["image"]), format!("crosswall/policy-agent:{VERSION}"), "{workload}");
    }
    let dockerfile = fs::read_to_string(deploy().join("Dockerfile")).expect("there");
    assert!(dockerfile.contains(&format!("image.version=\"{VERSION}\"")), "the label has another version");
}

#[test]
fn the_agent_understands_what_it_is_started_with() {
    let agent = agent();
    assert_eq!(understood(&arguments(&agent)), Ok(()));
    assert_eq!(unknown(&agent), Vec::<String>::new());
}

/// The variables of ours in a DaemonSet that the agent does not know.
fn unknown(daemon_set: &Value) -> Vec<String> {
    let cli = Cli::command();
    let known: BTreeSet<String> = cli
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned))
        .collect();
    let variables = list(&daemon_set["spec"]["template"]["spec"]["containers"][0]["env"]).iter();
    let ours =
        variables.map(|variable| text(&variable["name"]).to_owned()).filter(|name| name.starts_with("CROSSWALL_"));
    ours.filter(|name| !known.contains(name)).collect()
}

#[test]
fn the_controller_understands_what_it_is_started_with_and_finds_it() {
    let controller = controller();
    let arguments = arguments(&controller);
    assert_eq!(understood(&arguments), Ok(()));
    let pod = &controller["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let named: BTreeSet<String> =
        list(&container["env"]).iter().map(|variable| format!("$({})", text(&variable["name"]))).collect();
    let used: BTreeSet<String> = arguments.iter().filter(|argument| argument.starts_with("$(")).cloned().collect();
    assert_eq!(named, used, "what Kubernetes puts in is there");
    let mounts: Vec<&str> = list(&container["volumeMounts"]).iter().map(|mount| text(&mount["mountPath"])).collect();
    assert_eq!((mounts.as_slice(), list(&pod["volumes"]).len()), (["/etc/crosswall"].as_slice(), 1));
    assert!(arguments.contains(&"/etc/crosswall/clusterset.yaml".to_owned()), "{arguments:?}");
    let [port] = list(&container["ports"]) else { panic!("{container}") };
    let address = arguments.iter().skip_while(|argument| *argument != "--metrics").nth(1).expect("it has a value");
    assert_eq!(*address, format!("0.0.0.0:{}", port["containerPort"]));
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let http = &container[probe]["httpGet"];
        assert_eq!((text(&http["port"]), text(&http["path"])), ("metrics", path), "{probe}");
    }
    let labels = &controller["spec"]["template"]["metadata"]["labels"];
    let selectors = [
        &controller["spec"]["selector"]["matchLabels"],
        &pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ];
    assert!(selectors.iter().all(|selector| *selector == labels), "{selectors:?}");
    assert_eq!(pod["serviceAccountName"], "crosswall-controller");
}

/// JSON patches (RFC 6902) of arguments as overlays and components have them.
#[test]
fn the_agent_understands_what_overlays_make_of_it() {
    let mut changed = 0;
    for path in files(&deploy(), &["kustomization.yaml"]) {
        let mut arguments = arguments(&agent());
        let before = arguments.clone();
        let kustomizations = documents(&path);
        for patch in kustomizations.iter().flat_map(|kustomization| list(&kustomization["patches"])) {
            for steps in parse(text(&patch["patch"]).as_bytes(), Format::Yaml).expect("a list of steps, or fields") {
                assert_eq!(unknown(&steps), Vec::<String>::new(), "{}", path.display());
                for step in list(&steps) {
                    let Some((_, place)) = text(&step["path"]).split_once("/containers/0/args/") else { continue };
                    let value = text(&step["value"]).to_owned();
                    match (text(&step["op"]), place.parse::<usize>()) {
                        ("add", Err(_)) if place == "-" => arguments.push(value),
                        ("replace", Ok(at)) => arguments[at] = value,
                        ("test", Ok(at)) => assert_eq!(arguments[at], value, "{}", path.display()),
                        _ => panic!("{}: {step}", path.display()),
                    }
                }
            }
        }
        assert_eq!(understood(&arguments), Ok(()), "{}", path.display());
        changed += usize::from(arguments != before);
    }
    assert!(changed >= 2, "no patch was found");
}

#[test]
fn what_the_agent_is_told_of_is_mounted_and_its_probes_find_it() {
    let agent = agent();
    let pod = &agent["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let mounts: BTreeMap<&str, &str> = list(&container["volumeMounts"])
        .iter()
        .map(|mount| (text(&mount["mountPath"]), text(&mount["name"])))
        .collect();
    let expect = [
        ("/bpf", "bpffs"),
        ("/etc/crosswall", "cluster-set"),
        ("/run/crosswall", "run"),
        ("/var/lib/crosswall", "state"),
    ];
    assert_eq!(mounts, expect.into());
    let volumes: BTreeSet<&str> = list(&pod["volumes"]).iter().map(|volume| text(&volume["name"])).collect();
    assert_eq!(volumes, mounts.into_values().collect());
    let arguments = arguments(&agent);
    let value = |flag: &str| arguments.iter().skip_while(|argument| *argument != flag).nth(1).expect("it has a value");
    assert_eq!(Path::new(value("--cluster-set")).parent(), Some(Path::new("/etc/crosswall")));
    let address = value("--metrics");
    for port in list(&container["ports"]) {
        assert!(address.ends_with(&format!(":{}", port["containerPort"])), "{address}");
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let http = &container[probe]["httpGet"];
        assert_eq!((text(&http["port"]), text(&http["host"])), ("metrics", "127.0.0.1"), "{probe}");
    }
    assert!(address.starts_with("127.0.0.1:"), "only the probes may ask: {address}");
}

/// The ClusterSet files, by their path.
fn cluster_sets() -> Vec<PathBuf> {
    let found = files(&deploy(), &["clusterset.yaml"]);
    assert!(found.len() >= 6, "{found:?}");
    found
}

#[test]
fn every_cluster_set_can_be_used() {
    for path in cluster_sets() {
        let bytes = fs::read(&path).expect("readable");
        if let Err(error) = ClusterSet::parse(&bytes, &path) {
            panic!("{error}");
        }
    }
}

#[test]
fn both_clusters_of_the_example_say_the_same_of_each_other() {
    let example = deploy().join("examples/two-clusters");
    let [a, b] = ["cluster-a", "cluster-b"].map(|id| {
        let [set] = documents(&example.join(id).join("clusterset.yaml")).try_into().expect("one document");
        assert_eq!(text(&set["spec"]["local"]), id);
        for member in list(&set["spec"]["members"]) {
            let remote = text(&member["id"]);
            let secret = json!({"name": remote, "namespace": "crosswall-system"});
            let expect =
                if remote == id { json!({"inCluster": {}}) } else { json!({"kubeconfig": {"secretRef": secret}}) };
            assert_eq!(member["source"], expect, "{id}");
        }
        let records = list(&set["spec"]["members"]).iter();
        records.map(|member| (member["id"].clone(), member["podCIDRs"].clone())).collect::<Vec<_>>()
    });
    assert_eq!(a, b);
}
