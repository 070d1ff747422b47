//! What is said of objects that contradict each other or hardly mean what they say, in worlds made by hand.

use policy_core::compile::{Compiler, Subjects};
use policy_core::issues;
use policy_core::model::{Issue, IssueCode};
use policy_core::testing::build::ClusterSetBuilder;
use policy_core::testing::{abc, namespace, policy};

fn found(set: &ClusterSetBuilder) -> Vec<Issue> {
    let mut compiler = Compiler::new(set.config(), Subjects::All);
    compiler.apply(&set.events());
    issues::of(&compiler)
}

/// The code, the object and the field of each issue.
#[track_caller]
fn says(set: &ClusterSetBuilder, expected: &[(IssueCode, &str, &str)]) {
    let found = found(set);
    let places: Vec<_> = found.iter().map(|issue| (issue.code, issue.object.as_str(), issue.field.as_str())).collect();
    assert_eq!(places, expected, "{found:#?}\n{}", set.world());
}

#[test]
fn an_unknown_scope_of_a_namespace_is_an_issue_of_the_policies_that_inherit_it() {
    let place = "metadata.annotations[crosswall.dev/peer-scope]";
    let set = abc()
        .with(namespace("a/shop").annotated("clusterset"))
        .with(policy("a/shop/heir").no_ingress())
        .with(policy("a/shop/own").no_ingress().annotated("Local"))
        .with(policy("a/shop/wrong").no_ingress().annotated("local"))
        .with(policy("a/db/other").no_ingress())
        .with(policy("b/shop/remote").no_ingress());
    says(&set, &[(IssueCode::UnknownPeerScope, "a/NetworkPolicy/shop/heir", place)]);
}
