//! Permissions that are taken away and given back.

use policy_agent::api::types::SyncState;

use crate::clusters::{API, Clusters, NEIGHBOUR, PG, RETRY, SOON, kept_its_promise};

/// A role without pods, and with them.
fn reader(resources: &str) -> String {
    format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: reader}}
rules: [{{apiGroups: [''], resources: [{resources}], verbs: [list, watch]}}]
"
    )
}

#[test]
fn a_permission_that_is_missing_is_named_and_the_last_known_state_stays() {
    let Some(mut clusters) = Clusters::admitting("permissions", &[]) else {
        return;
    };
    let prober = clusters.probe_continuously();
    clusters.b.apply(&reader("namespaces")).expect("applied");
    // Watches that have begun are not asked again; those that begin are.
    clusters.b.stop().expect("stopped");
    clusters.b.start().expect("started");
    let missing = r#"resources: ["pods"], verbs: ["list", "watch"]"#;
    // A server that has just begun refuses everything for a moment.
    clusters.waits_until(RETRY, || {
        let member = clusters.member("cluster-b");
        let error = member.error.clone().unwrap_or_default();
        let is_told = ["pods of cluster-b cannot be followed", "forbidden", missing, "their last known state stays"];
        let is_told = is_told.iter().all(|words| error.contains(words)) && !error.contains("namespaces of");
        if is_told && member.state == SyncState::Lost { Ok(()) } else { Err(format!("{member:?}")) }
    });
    clusters.shows_issue(&["unusable_source", "pods of cluster-b"], SOON);
    assert_eq!(clusters.member("cluster-a").state, SyncState::Synced);
    clusters.becomes_allowed(API, true, SOON);
    clusters.becomes_allowed(PG, false, SOON);

    let taken = ["label", "pod", "api-1", "--namespace=shop", "--overwrite", "app=other"];
    eprintln!("{:?} datagrams were allowed and forbidden", kept_its_promise(prober));
    clusters.b.kubectl(&taken).expect("relabelled");
    clusters.becomes_allowed(API, true, SOON);
    clusters.b.apply(&reader("pods, namespaces")).expect("applied");
    clusters.becomes_allowed(API, false, RETRY);
    clusters.becomes_state("cluster-b", SyncState::Synced, SOON);
    assert_eq!(clusters.issues(), Vec::<String>::new());
}

#[test]
fn without_any_permission_at_home_what_was_enforced_stays() {
    let Some(mut clusters) = Clusters::admitting("no permission", &[]) else {
        return;
    };
    clusters.a.kubectl(&["delete", "clusterrolebinding", "agent"]).expect("deleted");
    clusters.a.stop().expect("stopped");
    clusters.a.start().expect("started");
    let all = ["namespaces", "nodes", "networkpolicies", "pods", "services", "endpointslices"];
    all.iter().for_each(|resource| clusters.shows_issue(&["cluster-a", resource, "forbidden"], RETRY));
    // Nor does a beginning change it: there is a snapshot…
    clusters.agent().restart().expect("restarted");
    clusters.shows_issue(&["restored_source", "cluster-a"], RETRY);
    clusters.becomes_allowed(API, true, SOON);
    clusters.becomes_allowed(NEIGHBOUR, false, SOON);
    // … and without one the kernel goes on.
    let snapshots = clusters.agent().state_dir().join("members/cluster-a");
    clusters.agent().kill().expect("killed");
    std::fs::remove_dir_all(&snapshots).expect("removed");
    clusters.agent().start().expect("started");
    clusters.shows_issue(&["local_cluster_unknown"], RETRY);
    clusters.becomes_allowed(API, true, SOON);
    clusters.becomes_allowed(NEIGHBOUR, false, SOON);
    let give = ["create", "clusterrolebinding", "agent", "--clusterrole=agent", "--user=agent"];
    clusters.a.kubectl(&give).expect("created");
    clusters.becomes_state("cluster-a", SyncState::Synced, RETRY);
    clusters.becomes_allowed(API, true, SOON);
    clusters.becomes_allowed(NEIGHBOUR, false, SOON);
}
