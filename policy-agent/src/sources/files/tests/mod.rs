//! Directories that change, and what the source says of it.

mod arbitrary;
mod watching;

use std::fs;
use std::os::unix::fs::symlink;

use policy_core::model::{Event, IssueCode, Level};
use tempfile::TempDir;

use super::*;

const SET: &str = "apiVersion: crosswall.dev/v1alpha1\nkind: ClusterSet\nspec:\n  local: a\n  members:
  - {id: a, source: {directory: {path: a}}, podCIDRs: [10.1.0.0/16]}
  - {id: b, source: {directory: {path: b}}, podCIDRs: [10.2.0.0/16]}\n";

const ONLY_A: &str = "apiVersion: crosswall.dev/v1alpha1\nkind: ClusterSet\nspec:\n  local: a\n  members:
  - {id: a, source: {directory: {path: a}}, podCIDRs: [10.1.0.0/16]}\n";

/// A ClusterSet of a and b in a folder of its own.
struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        world.write("set.yaml", SET);
        fs::create_dir(world.path("a")).unwrap();
        fs::create_dir(world.path("b")).unwrap();
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
    }

    /// Writes a file beside and moves it to its place, as careful editors do.
    fn replace(&self, path: &str, content: &str) {
        self.write(".new", content);
        fs::rename(self.path(".new"), self.path(path)).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn open(&self) -> FilesSource {
        FilesSource::open(&self.path("set.yaml"), None).unwrap()
    }

    /// The source after its first look, which `expect` describes.
    #[track_caller]
    fn start(&self, expect: &[&str]) -> FilesSource {
        let mut source = self.open();
        let mut first = vec!["configured a: a b", "synced a", "synced b"];
        first.extend(expect);
        let mut said = said(&source.rescan());
        said.sort();
        first.sort_unstable();
        assert_eq!(said, first);
        source
    }

    /// What issues name, without the place of the folder.
    fn issues(&self, batch: &Batch) -> Vec<(IssueCode, String, String)> {
        let folder = format!("{}/", self.folder.path().display());
        let plain = |text: &str| text.replace(&folder, "");
        batch.issues().iter().map(|issue| (issue.code, plain(&issue.object), plain(&issue.message))).collect()
    }
}

/// Events in a word each.
fn said(batch: &Batch) -> Vec<String> {
    let word = |event: &Event| match event {
        Event::Configured(config) => {
            let members: Vec<_> = config.members.iter().map(|member| member.id.as_str()).collect();
            format!("configured {}: {}", config.local, members.join(" "))
        }
        Event::Synced(cluster) => format!("synced {cluster}"),
        Event::Relisted(cluster, listing) => format!("relisted {cluster} {}", listing.len()),
        Event::NamespaceApplied(namespace) => format!("+namespace {}", namespace.key.name),
        Event::NamespaceDeleted(key) => format!("-namespace {}", key.name),
        Event::PodApplied(pod) => format!("+{} {}", pod.key, pod.uid),
        Event::PodDeleted { key, uid } => format!("-{key} {uid}"),
        Event::NodeApplied(node) => format!("+node {}", node.key.name),
        Event::NodeDeleted(key) => format!("-node {}", key.name),
        Event::PolicyApplied(policy) => format!("+{} {}", policy.key, policy.ingress.as_ref().map_or(0, Vec::len)),
        Event::PolicyDeleted(key) => format!("-{key}"),
        Event::ServiceApplied(service) => format!("+service {} {}", service.key, service.addresses.len()),
        Event::ServiceDeleted(key) => format!("-service {key}"),
        Event::EndpointSliceApplied(slice) => format!("+slice {} {}", slice.key.name, slice.backends.len()),
        Event::EndpointSliceDeleted(key) => format!("-slice {}", key.name),
    };
    batch.events.iter().map(word).collect()
}

fn pod(name: &str, uid: &str) -> String {
    format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, uid: '{uid}'}}\n")
}

/// A NetworkPolicy `default/NAME` with this spec.
fn policy(name: &str, spec: &str) -> String {
    format!("---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn files(cluster: &str, paths: &[&str]) -> Changes {
    let paths = paths.iter().map(OsString::from).collect();
    Changes { files: BTreeMap::from([(cluster.parse().unwrap(), paths)]), ..Changes::default() }
}

#[test]
fn all_manifests_below_a_directory_are_read() {
    let world = World::new();
    world.write("a/1.yaml", &(pod("p", "1") + &pod("q", "2")));
    world.write("a/x/y/2.yml", &pod("r", "3"));
    world.write(
        "b/3.json",
        r#"{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "s", "uid": "4"}}]}"#,
    );
    world.write("a/.hidden.yaml", &pod("no", "1"));
    world.write("a/.git/x.yaml", &pod("no", "2"));
    world.write("a/README.md", "no: [");
    world.write("a/empty.yaml", "");
    let expect = ["+a/default/p 1", "+a/default/q 2", "+a/default/r 3", "+b/default/s 4"];
    world.start(&expect);
}

#[test]
fn services_and_slices_are_read_of_the_local_cluster_alone() {
    let service = |address: &str| {
        format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{clusterIP: {address}}}\n")
    };
    let slice = |addresses: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: web-x, labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\n\
             endpoints: [{{addresses: [{addresses}]}}]\n"
        )
    };
    let world = World::new();
    world.write("a/web.yaml", &(service("10.96.0.1") + &slice("10.1.0.1")));
    world.write("b/web.yaml", &(service("x") + &slice("10.2.0.1")));
    let mut source = world.start(&["+service a/default/web 1", "+slice web-x 1"]);
    world.write("a/web.yaml", &(service("None") + &slice("x")));
    let batch = source.rescan();
    assert_eq!(said(&batch), ["+service a/default/web 0"], "a slice that cannot be read stays as it was");
    let issues = world.issues(&batch);
    let [(IssueCode::UnreadableObject, object, message)] = issues.as_slice() else { panic!("{issues:?}") };
    assert_eq!(object, "a/EndpointSlice/default/web-x");
    assert!(message.ends_with("its last valid version stays in force"), "{message}");
    world.remove("a/web.yaml");
    assert_eq!(said(&source.rescan()), ["-service a/default/web", "-slice web-x"]);
}

#[test]
fn a_change_of_a_file_says_only_what_is_different() {
    let world = World::new();
    world.write("a/1.yaml", &(pod("p", "1") + &pod("q", "2") + &pod("r", "3")));
    let mut source = world.start(&["+a/default/p 1", "+a/default/q 2", "+a/default/r 3"]);
    assert_eq!(said(&source.rescan()), [""; 0]);
    world.write("a/1.yaml", &(pod("s", "4") + &pod("q", "2") + "# no difference\n" + &pod("r", "33")));
    let expect = ["-a/default/p 1", "+a/default/r 33", "+a/default/s 4"];
    assert_eq!(said(&source.refresh(&files("a", &["1.yaml"]))), expect);
    assert_eq!(said(&source.rescan()), [""; 0]);
    world.remove("a/1.yaml");
    let expect = ["-a/default/q 2", "-a/default/r 33", "-a/default/s 4"];
    assert_eq!(said(&source.rescan()), expect);
}

#[test]
fn a_refresh_reads_no_other_file() {
    let world = World::new();
    world.write("a/1.yaml", &pod("p", "1"));
    world.write("a/2.yaml", &pod("q", "1"));
    let mut source = world.start(&["+a/default/p 1", "+a/default/q 1"]);
    world.write("a/1.yaml", &pod("p", "2"));
    world.write("a/2.yaml", &pod("q", "2"));
    assert_eq!(said(&source.refresh(&files("a", &["1.yaml"]))), ["+a/default/p 2"]);
    assert_eq!(said(&source.rescan()), ["+a/default/q 2"]);
}

#[test]
fn a_rename_changes_nothing() {
    let world = World::new();
    world.write("a/1.yaml", &pod("p", "1"));
    let mut source = world.start(&["+a/default/p 1"]);
    world.rename("a/1.yaml", "a/2.yaml");
    assert_eq!(said(&source.refresh(&files("a", &["1.yaml", "2.yaml"]))), [""; 0]);
    world.rename("a/2.yaml", "a/2.yaml.off");
    assert_eq!(said(&source.refresh(&files("a", &["2.yaml"]))), ["-a/default/p 1"]);
}

#[test]
fn a_file_cut_in_half_keeps_its_last_good_content() {
    let world = World::new();
    world.write("a/1.yaml", &pod("p", "1"));
    let mut source = world.start(&["+a/default/p 1"]);
    world.write("a/1.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p, ui");
    world.write("a/2.yaml", "{");
    let batch = source.rescan();
    assert_eq!(said(&batch), [""; 0]);
    let expect = [
        (
            IssueCode::UnreadableObject,
            "a/1.yaml".to_owned(),
            "cannot be read: unclosed bracket '{' at line 3, column 11; \
             its last good content stays in force until it is mended"
                .to_owned(),
        ),
        (
            IssueCode::UnreadableObject,
            "a/2.yaml".to_owned(),
            "cannot be read: unclosed bracket '{' at line 1, column 1; nothing in it is used until it is mended"
                .to_owned(),
        ),
    ];
    assert_eq!(world.issues(&batch), expect);
    world.write("a/1.yaml", &pod("p", "2"));
    world.remove("a/2.yaml");
    let batch = source.rescan();
    assert_eq!((said(&batch), batch.issues()), (vec!["+a/default/p 2".to_owned()], &[][..]));
}

#[test]
fn a_policy_that_cannot_be_read_keeps_its_last_valid_version_until_it_is_gone() {
    let world = World::new();
    world.write("a/1.yaml", &policy("web", "{ingress: [{}]}"));
    let mut source = world.start(&["+a/NetworkPolicy/default/web 1"]);
    world.write("a/1.yaml", &(policy("web", "{policyTypes: [in]}") + &policy("new", "{podSelector: 5}")));
    let batch = source.rescan();
    assert_eq!(said(&batch), [""; 0]);
    let ends: Vec<_> = batch.issues().iter().map(|issue| issue.message.rsplit("; ").next().unwrap()).collect();
    assert_eq!(ends, ["it is not applied", "its last valid version stays in force"]);
    world.write("a/1.yaml", "");
    let batch = source.rescan();
    assert_eq!((said(&batch), batch.issues()), (vec!["-a/NetworkPolicy/default/web".to_owned()], &[][..]));
}

#[test]
fn of_two_files_with_one_object_the_later_by_path_wins() {
    let world = World::new();
    world.write("a/1.yaml", &(pod("p", "0") + &pod("p", "1")));
    world.write("a/2/x.yaml", &pod("p", "2"));
    let mut source = world.open();
    let batch = source.rescan();
    assert!(said(&batch).contains(&"+a/default/p 2".to_owned()));
    let expect = "stands in a/1.yaml and again in a/2/x.yaml; the latter counts. Remove one";
    let expect = [(IssueCode::DuplicateObject, "a/Pod/default/p".to_owned(), expect.to_owned())];
    assert_eq!(world.issues(&batch), expect);
    world.remove("a/2/x.yaml");
    let batch = source.rescan();
    assert_eq!((said(&batch), batch.issues().len()), (vec!["+a/default/p 1".to_owned()], 1));
    world.write("a/1.yaml", &pod("p", "1"));
    let batch = source.rescan();
    assert_eq!((said(&batch), batch.issues()), (vec![], &[][..]));
}

#[test]
fn a_directory_that_vanishes_keeps_its_last_known_state() {
    let world = World::new();
    world.write("b/1.yaml", &pod("p", "1"));
    world.write("b/2.yaml", &pod("q", "1"));
    let mut source = world.start(&["+b/default/p 1", "+b/default/q 1"]);
    world.rename("b", "elsewhere");
    for batch in [source.refresh(&files("b", &["1.yaml", "2.yaml"])), source.rescan()] {
        assert_eq!(said(&batch), [""; 0]);
        let expect = "the directory b of member b cannot be read: No such file or directory (os error 2); \
                      its last known state stays in force";
        assert_eq!(world.issues(&batch), [(IssueCode::UnusableSource, "b".to_owned(), expect.to_owned())]);
    }
    world.rename("elsewhere", "b");
    world.remove("b/2.yaml");
    let batch = source.rescan();
    assert_eq!((said(&batch), batch.issues()), (vec!["-b/default/q 1".to_owned()], &[][..]));
}

#[test]
fn a_directory_that_is_not_there_yet_is_synced_when_it_appears() {
    let world = World::new();
    world.write("a/1.yaml", &pod("p", "1"));
    world.rename("b", "later");
    let mut source = world.open();
    let batch = source.rescan();
    assert_eq!(said(&batch), ["configured a: a b", "+a/default/p 1", "synced a"]);
    assert_eq!((batch.issues().len(), batch.issues()[0].level), (1, Level::Error));
    world.rename("later", "b");
    let batch = source.rescan();
    assert_eq!((said(&batch), batch.issues()), (vec!["synced b".to_owned()], &[][..]));
}

#[test]
fn policies_of_remote_members_are_not_read() {
    let world = World::new();
    world.write("a/1.yaml", &policy("web", "{}"));
    world.write("b/1.yaml", &(policy("web", "{}") + &policy("bad", "5") + &pod("p", "1")));
    let mut source = world.start(&["+a/NetworkPolicy/default/web 0", "+b/default/p 1"]);
    world.write("set.yaml", &SET.replace("local: a", "local: b"));
    let batch = source.rescan();
    let expect = ["configured b: a b", "-a/NetworkPolicy/default/web", "+b/NetworkPolicy/default/web 0"];
    assert_eq!((said(&batch), batch.issues().len()), (expect.map(str::to_owned).to_vec(), 1));
}

#[test]
fn a_link_that_leads_nowhere_keeps_what_it_led_to_last() {
    let world = World::new();
    world.write("a/1.yaml", &policy("web", "{}"));
    let mut source = world.start(&["+a/NetworkPolicy/default/web 0"]);
    symlink(world.path("nowhere"), world.path("link")).unwrap();
    world.rename("link", "a/1.yaml");
    let batch = source.refresh(&files("a", &["1.yaml"]));
    assert_eq!((said(&batch), world.issues(&batch).len()), (Vec::new(), 1));
    assert_eq!(said(&source.rescan()), [""; 0]);
    world.remove("a/1.yaml");
    assert_eq!(said(&source.refresh(&files("a", &["1.yaml"]))), ["-a/NetworkPolicy/default/web"]);
}

#[test]
fn members_come_and_go_with_the_cluster_set() {
    let world = World::new();
    world.write("b/1.yaml", &pod("p", "1"));
    world.write("other/1.yaml", &pod("q", "1"));
    let mut source = world.start(&["+b/default/p 1"]);
    world.write("set.yaml", ONLY_A);
    assert_eq!(said(&source.refresh(&Changes { cluster_set: true, ..Changes::default() })), ["configured a: a"]);
    world.write("set.yaml", SET);
    let back = ["configured a: a b", "+b/default/p 1", "synced b"];
    assert_eq!(said(&source.refresh(&Changes { cluster_set: true, ..Changes::default() })), back);
    world.write("set.yaml", &SET.replace("path: b", "path: other"));
    let moved = ["configured a: a b", "-b/default/p 1", "+b/default/q 1"];
    assert_eq!(said(&source.rescan())[1..], moved[1..]);
}

#[test]
fn a_cluster_set_that_cannot_be_used_leaves_the_last_good_one() {
    let world = World::new();
    let mut source = world.start(&[]);
    for content in ["{", "", "kind: ClusterSet", &SET.replace("local: a", "local: x"), &SET.replace("  local: a\n", "")]
    {
        world.write("set.yaml", content);
        world.write("a/1.yaml", &pod("p", "1"));
        let batch = source.rescan();
        let codes: Vec<_> = batch.issues().iter().map(|issue| issue.code).collect();
        assert_eq!(codes, [IssueCode::UnreadableClusterSet], "{content}");
        assert!(batch.issues()[0].message.ends_with("; the last good ClusterSet stays in force"), "{content}");
    }
    world.remove("set.yaml");
    assert_eq!(source.rescan().issues().len(), 1);
    world.write("set.yaml", SET);
    let batch = source.rescan();
    assert_eq!((said(&batch), batch.issues()), (vec![], &[][..]));
}

#[test]
fn links_are_followed_but_not_in_circles() {
    let world = World::new();
    world.write("data/x.yaml", &pod("p", "1"));
    symlink(world.path("data"), world.path("a/sub")).unwrap();
    symlink(world.path("a"), world.path("a/again")).unwrap();
    symlink(world.path("nowhere"), world.path("a/dangling.yaml")).unwrap();
    let mut source = world.open();
    let batch = source.rescan();
    assert!(said(&batch).contains(&"+a/default/p 1".to_owned()));
    let objects: Vec<_> = world.issues(&batch).into_iter().map(|(code, object, _)| (code, object)).collect();
    assert_eq!(objects, [(IssueCode::UnreadableObject, "a/dangling.yaml".to_owned())]);
}

#[test]
fn of_a_file_that_is_full_of_mistakes_a_hundred_are_told() {
    let world = World::new();
    let rules = "{ports: [{port: 0}]}, ".repeat(300);
    world.write("a/1.yaml", &(policy("web", &format!("{{ingress: [{rules}]}}")) + &pod("p", "1")));
    let mut source = world.open();
    let batch = source.rescan();
    assert!(said(&batch).contains(&"+a/default/p 1".to_owned()), "the rest of it counts");
    assert_eq!(batch.issues().len(), 101);
    let last = (IssueCode::UnreadableObject, "a/1.yaml".to_owned());
    let (code, object, message) = world.issues(&batch).into_iter().find(|(_, object, _)| *object == last.1).unwrap();
    assert_eq!((code, object), last);
    assert_eq!(message, "and 200 more issues, which are told when the others are mended");
}

#[test]
fn what_is_no_regular_file_is_passed_over() {
    let world = World::new();
    let _socket = std::os::unix::net::UnixListener::bind(world.path("a/socket.yaml")).unwrap();
    fs::create_dir(world.path("a/folder.yaml")).unwrap();
    world.start(&[]);
}

#[test]
fn one_load_reads_every_members_policies_or_names_the_missing_directory() {
    let world = World::new();
    world.write("b/1.yaml", &policy("web", "{}"));
    let loaded = ClusterSet::load(&world.path("set.yaml")).unwrap();
    let batch = load(&loaded.cluster_set).unwrap();
    assert_eq!(said(&batch), ["synced a", "+b/NetworkPolicy/default/web 0", "synced b"]);
    world.rename("b", "c");
    let issues = load(&loaded.cluster_set).unwrap_err();
    assert_eq!((issues.len(), issues[0].object.as_str()), (1, "b"));
}
