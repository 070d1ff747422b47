//! What annotations and labels say of a policy's reach.

use super::*;

#[test]
fn scope_annotations_are_read_as_they_are() {
    let known = |scope| Some(ScopeAnnotation::Known(scope));
    let unknown = |text: &str| Some(ScopeAnnotation::Unknown(text.into()));
    let table = [
        ("{}", None),
        ("null", None),
        ("{crosswall.dev/peer-scope: Local}", known(Scope::Local)),
        ("{crosswall.dev/peer-scope: ClusterSet}", known(Scope::ClusterSet)),
        ("{crosswall.dev/peer-scope: clusterset}", unknown("clusterset")),
        ("{crosswall.dev/peer-scope: ''}", unknown("")),
        ("{crosswall.dev/peer-scope: }", unknown("")),
        ("{crosswall.dev/peer-scope: 5}", unknown("5")),
    ];
    for (annotations, expect) in table {
        let yaml = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, annotations: {annotations}}}\n");
        let reading = only(read(&yaml));
        assert_eq!(reading.issues, [], "{annotations}");
        let Some(Object::Namespace(namespace)) = reading.object else { panic!("{annotations}") };
        assert_eq!(namespace.peer_scope, expect, "{annotations}");
    }
}

/// The policy `shop/web` with these annotations and this spec.
fn annotated_policy(annotations: &str, spec: &str) -> Reading {
    only(read(&format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: web, namespace: shop, annotations: {annotations}}}\nspec: {spec}\n"
    )))
}

#[test]
fn an_unknown_scope_of_a_policy_is_an_issue_whether_the_policy_is_applied_or_not() {
    let place = "metadata.annotations[crosswall.dev/peer-scope]";
    let unknown = (IssueCode::UnknownPeerScope, Level::Error, place);
    for value in ["clusterset", "''", "", "5"] {
        let annotations = format!("{{crosswall.dev/peer-scope: {value}}}");
        let applied = annotated_policy(&annotations, "{}");
        assert_eq!(told(&applied.issues), [unknown], "{value}");
        assert!(applied.object.is_some(), "{value}");
        let refused = annotated_policy(&annotations, "{policyTypes: [X]}");
        let types = (IssueCode::UnreadablePolicy, Level::Error, "spec.policyTypes[0]");
        assert_eq!(told(&refused.issues), [unknown, types], "{value}");
        assert_eq!(refused.object, None, "{value}");
    }
    for annotations in ["{crosswall.dev/peer-scope: Local}", "{crosswall.dev/peer-scope: ClusterSet}", "{x: y}", "null"]
    {
        assert_eq!(annotated_policy(annotations, "{}").issues, [], "{annotations}");
    }
}

#[test]
fn a_subject_that_names_a_cluster_is_a_warning_whether_the_policy_is_applied_or_not() {
    let names = (IssueCode::SubjectNamesCluster, Level::Warning, "spec.podSelector");
    for subject in [
        "{matchLabels: {cluster.clusterset.k8s.io: c}}",
        "{matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}]}",
    ] {
        let applied = policy(&format!("{{podSelector: {subject}}}"));
        assert_eq!(told(&applied.issues), [names], "{subject}");
        assert!(applied.object.is_some(), "{subject}");
        let refused = policy(&format!("{{podSelector: {subject}, policyTypes: [X]}}"));
        let types = (IssueCode::UnreadablePolicy, Level::Error, "spec.policyTypes[0]");
        assert_eq!(told(&refused.issues), [names, types], "{subject}");
        assert_eq!(refused.object, None, "{subject}");
    }
}

#[test]
fn the_enforcement_annotation_is_a_warning_that_it_is_not_heeded() {
    let place = "metadata.annotations[crosswall.dev/enforcement]";
    let ignored = (IssueCode::UnsupportedAnnotation, Level::Warning, place);
    for (value, expect) in [
        ("Enforce", vec![]),
        ("Audit", vec![ignored]),
        ("''", vec![ignored]),
        ("", vec![ignored]),
        ("5", vec![ignored]),
    ] {
        let annotations = format!("{{crosswall.dev/enforcement: {value}}}");
        let policy = annotated_policy(&annotations, "{podSelector: {}}");
        assert_eq!(told(&policy.issues), expect, "{value}");
        assert!(policy.object.is_some(), "{value}");
        let yaml = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, annotations: {annotations}}}\n");
        let namespace = only(read(&yaml));
        assert_eq!(told(&namespace.issues), expect, "{value}");
        assert!(namespace.object.is_some(), "{value}");
    }
}
