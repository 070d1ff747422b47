//! What ClusterSet files say, and what is said of those that cannot be read.

use proptest::prelude::*;

use super::*;
use crate::document::tests::damaged;

fn parse(text: &str) -> Result<Loaded, ClusterSetError> {
    ClusterSet::parse(text.as_bytes(), Path::new("/etc/sets/demo.yaml"))
}

fn set(spec: &str) -> String {
    format!("apiVersion: crosswall.dev/v1alpha1\nkind: ClusterSet\nmetadata: {{name: demo}}\nspec: {spec}\n")
}

/// A set whose only member has these fields beside a source and podCIDRs.
fn member(fields: &str) -> String {
    set(&format!("{{members: [{{{fields}, source: {{directory: {{path: a}}}}, podCIDRs: [10.0.0.0/8]}}]}}"))
}

fn id(text: &str) -> ClusterId {
    text.parse().unwrap()
}

fn places(issues: &[Issue]) -> Vec<(IssueCode, &str)> {
    issues.iter().map(|issue| (issue.code, issue.field.as_str())).collect()
}

#[test]
fn a_file_is_read_whole() {
    let text = set("
  local: cluster-a
  defaultPeerScope: ClusterSet
  clusterLabels: Explicit
  members:
  - id: cluster-a
    source: {directory: {path: cluster-a}}
    podCIDRs: [10.1.0.0/16, 'fd00:1::/48']
    labels: {region: eu-west}
  - id: eu.b
    source: {directory: {path: /abs/b}, kubeconfig: null}
    podCIDRs: [10.2.0.0/16]
    staleAfter: 1h30m
    trustedProperties: [region]
");
    let (a, b) = (id("cluster-a"), id("eu.b"));
    let members = vec![
        MemberEntry {
            member: Member {
                id: a.clone(),
                pod_cidrs: vec!["10.1.0.0/16".parse().unwrap(), "fd00:1::/48".parse().unwrap()],
                labels: Labels::from_iter([("region".into(), "eu-west".into())]),
            },
            source: Source::Directory("/etc/sets/cluster-a".into()),
            stale_after: None,
            trusted_properties: vec![],
        },
        MemberEntry {
            member: Member { id: b, pod_cidrs: vec!["10.2.0.0/16".parse().unwrap()], labels: Labels::new() },
            source: Source::Directory("/abs/b".into()),
            stale_after: Some(Duration::from_secs(5400)),
            trusted_properties: vec!["region".into()],
        },
    ];
    let config = ClusterConfig {
        local: a.clone(),
        default_scope: Scope::ClusterSet,
        cluster_labels: ClusterLabels::Explicit,
        members: members.iter().map(|entry| entry.member.clone()).collect(),
    };
    let cluster_set = ClusterSet {
        local: Some(a.clone()),
        default_scope: Scope::ClusterSet,
        cluster_labels: ClusterLabels::Explicit,
        members,
    };
    assert_eq!(cluster_set.config(&a), config);
    assert_eq!(parse(&text), Ok(Loaded { cluster_set, issues: vec![] }));
}

#[test]
fn api_servers_are_reached_in_cluster_by_a_kubeconfig_or_as_a_profile_says() {
    let source = |text: &str| {
        let set = set(&format!("{{local: a, members: [{{id: a, source: {text}, podCIDRs: [10.0.0.0/8]}}]}}"));
        parse(&set).unwrap().cluster_set
    };
    let file = Here::File("/etc/sets/x".into());
    let secret = |key: &str| KubeconfigSecret {
        object: ObjectName { namespace: "s".to_owned(), name: "n".to_owned() },
        key: key.to_owned(),
    };
    for (text, access) in [
        ("{inCluster: {}}", Access::Here(Here::InCluster)),
        ("{kubeconfig: {path: x}}", Access::Here(file.clone())),
        ("{kubeconfig: {secretRef: {namespace: s, name: n}}}", Access::Secret(secret("kubeconfig"))),
        ("{kubeconfig: {secretRef: {namespace: s, name: n, key: value}}}", Access::Secret(secret("value"))),
        ("{clusterProfile: {namespace: s, name: n}}", Access::Profile(secret("").object)),
    ] {
        assert_eq!(source(text).members[0].source, Source::Kube(access), "{text}");
    }
    assert_eq!(source("{kubeconfig: {path: x}}").local_access(), Some(&file));
    assert_eq!(source("{directory: {path: x}}").local_access(), None);
}

#[test]
fn scope_and_label_mode_have_defaults_and_local_may_be_absent() {
    let ClusterSet { local, default_scope, cluster_labels, .. } = parse(&member("id: a")).unwrap().cluster_set;
    assert_eq!((local, default_scope, cluster_labels), (None, Scope::Local, ClusterLabels::Implicit));
}

#[test]
fn what_cannot_be_read_is_an_error_with_its_path() {
    let directory = "source: {directory: {path: a}}, podCIDRs: [10.0.0.0/8]";
    let table = [
        ("", "5".to_owned()),
        ("", String::new()),
        ("", member("id: a") + "---\n{a: b}\n"),
        ("", "kind: [".to_owned()),
        ("kind", "{}".to_owned()),
        ("kind", "{apiVersion: crosswall.dev/v1alpha1, kind: ConfigMap}".to_owned()),
        ("apiVersion", "{apiVersion: crosswall.dev/v1, kind: ClusterSet}".to_owned()),
        ("spec", "{apiVersion: crosswall.dev/v1alpha1, kind: ClusterSet}".to_owned()),
        ("status", member("id: a") + "status: {}\n"),
        ("spec.members", set("{}")),
        ("spec.members", set("{members: []}")),
        ("spec.members", set("{members: {a: b}}")),
        ("spec.members[0]", set("{members: [a]}")),
        ("spec.defaultScope", set(&format!("{{defaultScope: Local, members: [{{id: a, {directory}}}]}}"))),
        ("spec.defaultPeerScope", set(&format!("{{defaultPeerScope: local, members: [{{id: a, {directory}}}]}}"))),
        ("spec.clusterLabels", set(&format!("{{clusterLabels: true, members: [{{id: a, {directory}}}]}}"))),
        ("spec.local", set(&format!("{{local: b, members: [{{id: a, {directory}}}]}}"))),
        ("spec.local", set(&format!("{{local: A_B, members: [{{id: a, {directory}}}]}}"))),
        ("spec.members[1].id", set(&format!("{{members: [{{id: a, {directory}}}, {{id: a, {directory}}}]}}"))),
        ("spec.members[0].id", set(&format!("{{members: [{{{directory}}}]}}"))),
        ("spec.members[0].id", member("id: a.b.c")),
        ("spec.members[0].id", member("id: 5")),
        ("spec.members[0].podCidrs", member("id: a, podCidrs: []")),
        ("spec.members[0].labels", member("id: a, labels: [x]")),
        ("spec.members[0].labels.x", member("id: a, labels: {x: 5}")),
        ("spec.members[0].staleAfter", member("id: a, staleAfter: 5")),
        ("spec.members[0].staleAfter", member("id: a, staleAfter: 5 minutes")),
        ("spec.members[0].staleAfter", member("id: a, staleAfter: ''")),
        ("spec.members[0].source", set("{members: [{id: a, podCIDRs: [10.0.0.0/8]}]}")),
        ("spec.members[0].source", set("{members: [{id: a, source: {}, podCIDRs: [10.0.0.0/8]}]}")),
        ("spec.members[0].source.dir", set("{members: [{id: a, source: {dir: x}}]}")),
        ("spec.members[0].source.foo", set("{members: [{id: a, source: {directory: {path: a}, foo: 1}}]}")),
        ("spec.members[0].source", set("{members: [{id: a, source: {directory: {path: a}, etcd: {x: y}}}]}")),
        ("foo", member("id: a") + "foo:\n"),
        ("metadata.foo", member("id: a").replace("{name: demo}", "{foo: null}")),
        ("spec.foo", set(&format!("{{foo: null, members: [{{id: a, {directory}}}]}}"))),
        ("spec.members[0].foo", member("id: a, foo: null")),
        ("spec.members[0].source.foo", set("{members: [{id: a, source: {directory: {path: a}, foo: null}}]}")),
        (
            "spec.members[0].source.directory.foo",
            set("{members: [{id: a, source: {directory: {path: a, foo: null}}}]}"),
        ),
        ("spec.members[0].source.directory.path", set("{members: [{id: a, source: {directory: {}}}]}")),
        ("spec.members[0].source.directory.path", set("{members: [{id: a, source: {directory: {path: ''}}}]}")),
        ("spec.members[0].source.directory.x", set("{members: [{id: a, source: {directory: {path: a, x: 1}}}]}")),
        ("spec.members[0].podCIDRs[0]", set("{members: [{id: a, source: {directory: {path: a}}, podCIDRs: [x]}]}")),
        ("spec.members[0].source.kubeconfig", set("{members: [{id: a, source: {kubeconfig: {}}}]}")),
        (
            "spec.members[0].source.kubeconfig",
            set("{members: [{id: a, source: {kubeconfig: {path: a, secretRef: {name: n, namespace: s}}}}]}"),
        ),
        (
            "spec.members[0].source.kubeconfig.secretRef.namespace",
            set("{members: [{id: a, source: {kubeconfig: {secretRef: {name: n}}}}]}"),
        ),
        (
            "spec.members[0].source.clusterProfile.namespace",
            set("{members: [{id: a, source: {clusterProfile: {name: n}}}]}"),
        ),
        (
            "spec.members[0].source.clusterProfile.name",
            set("{members: [{id: a, source: {clusterProfile: {namespace: s, name: ''}}}]}"),
        ),
        (
            "spec.members[0].source.clusterProfile.key",
            set("{members: [{id: a, source: {clusterProfile: {namespace: s, name: n, key: k}}}]}"),
        ),
        ("spec.members[0].source.inCluster.x", set("{members: [{id: a, source: {inCluster: {x: 1}}}]}")),
        ("spec.members[0].podCIDRs", set("{members: [{id: a, source: {directory: {path: a}}, podCIDRs: x}]}")),
    ];
    for (field, text) in table {
        let error = parse(&text).unwrap_err();
        assert_eq!(places(&error.issues), [(IssueCode::UnreadableClusterSet, field)], "{text}");
    }
}

#[test]
fn a_source_of_a_later_version_is_named_as_such() {
    let error = parse(&set("{members: [{id: a, source: {etcd: {x: y}}}]}")).unwrap_err();
    let expect = "/etc/sets/demo.yaml: spec.members[0].source.etcd: \
                      source etcd of member a is not supported by this version; use kubeconfig";
    assert_eq!(error.to_string(), expect);
}

#[test]
fn overlapping_and_absent_ranges_are_warnings() {
    let loaded = parse(&set("
  members:
  - {id: a, source: {directory: {path: a}}, podCIDRs: [10.0.0.0/8, 10.3.0.0/16]}
  - {id: b, source: {directory: {path: b}}, podCIDRs: [10.1.2.3/16, 11.0.0.0/8]}
  - {id: c, source: {directory: {path: c}}}
"))
    .unwrap();
    let expect = [
        (IssueCode::MaskedHostBits, "spec.members[1].podCIDRs[0]"),
        (IssueCode::OverlappingPodCidrs, "spec.members[1].podCIDRs"),
        (IssueCode::MissingPodCidrs, "spec.members[2].podCIDRs"),
    ];
    assert_eq!(places(&loaded.issues), expect);
    assert_eq!(loaded.issues[1].message, "10.1.0.0/16 of member b overlaps 10.0.0.0/8 of member a");
    assert!(loaded.issues.iter().all(|issue| issue.level == Level::Warning));
}

#[test]
fn a_local_cluster_that_would_grow_stale_is_a_warning() {
    let members = |id: &str| {
        format!(
            "[{{id: a, source: {{directory: {{path: a}}}}, podCIDRs: [10.1.0.0/16]}}, \
            {{id: {id}, staleAfter: 1h, source: {{directory: {{path: b}}}}, podCIDRs: [10.2.0.0/16]}}]"
        )
    };
    let loaded = parse(&set(&format!("{{local: b, members: {}}}", members("b")))).unwrap();
    assert_eq!(places(&loaded.issues), [(IssueCode::IneffectiveField, "spec.members[1].staleAfter")]);
    assert_eq!(loaded.issues[0].level, Level::Warning);
    let loaded = parse(&set(&format!("{{local: a, members: {}}}", members("b")))).unwrap();
    assert_eq!(loaded.issues, []);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = ClusterSet::load(Path::new("/nowhere/set.yaml")).unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/set.yaml: cannot be read: No such file or directory (os error 2)");
}

/// Every field that there is.
const WHOLE: &str = "
apiVersion: crosswall.dev/v1alpha1
kind: ClusterSet
metadata: {name: demo}
spec:
  local: a
  defaultPeerScope: ClusterSet
  clusterLabels: Explicit
  members:
  - {id: a, source: {inCluster: {}}, podCIDRs: [10.1.0.0/16, 'fd00:1::/48'], labels: {region: eu-west}}
  - {id: eu.b, source: {kubeconfig: {secretRef: {namespace: s, name: n, key: k}}}, staleAfter: 1h30m, trustedProperties: [x]}
  - {id: c, source: {clusterProfile: {namespace: s, name: n}}, podCIDRs: [10.3.0.0/16]}
  - {id: d, source: {directory: {path: d}}}
";

#[test]
fn a_file_with_every_field_is_read() {
    assert_eq!(parse(WHOLE).expect("read").cluster_set.members.len(), 4);
}

proptest! {
    #[test]
    fn a_damaged_file_is_read_or_it_is_said_what_is_wrong(text in damaged(WHOLE)) {
        match parse(&text) {
            Ok(loaded) => prop_assert!(!loaded.cluster_set.members.is_empty()),
            Err(error) => prop_assert!(!error.issues.is_empty() && !error.to_string().is_empty()),
        }
    }
}
