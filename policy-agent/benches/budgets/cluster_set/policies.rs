//! Policies as people write them: for each kind of peer and of port some.

use policy_core::model::{Event, NetworkPolicy};
use policy_core::testing::{block, namespaces, pods, pods_in, policy, rule};

use super::names::{APPS, TEAMS, mixed};
use super::{ClusterSet, NAMESPACES, cluster_name, namespace_name};

/// Policy `number` of the mix. Over numbers that follow each other namespaces change first, then applications.
pub fn mix(set: &ClusterSet, number: u32) -> NetworkPolicy {
    let namespace = namespace_name(number % NAMESPACES);
    let app = APPS[(number / NAMESPACES) as usize % APPS.len()];
    let [kind, peer, first, second] = [0, 1, 2, 3].map(|salt| mixed([number, salt, 77]));
    let peer = APPS[peer as usize % APPS.len()];
    let team = TEAMS[first as usize % TEAMS.len()];
    let app_of = |name: &str| format!("app={name}");
    let dns = || rule().peer(pods_in("team=platform", "app=dns")).ports("UDP/53 TCP/53");
    let built = policy(&format!("{}/{namespace}/{app}-{number}", cluster_name(0))).select(&app_of(app));
    let built = match kind % 8 {
        0 => built.ingress([rule().peer(pods(&app_of(peer))).ports("TCP/8080")]),
        1 => built.ingress([rule().peer(namespaces(&format!("team={team}"))).ports("TCP/8080 TCP/9090")]),
        2 => {
            let from = format!("kubernetes.io/metadata.name={}", namespace_name(first as u32 % NAMESPACES));
            built.ingress([rule().peer(pods_in(&from, &app_of(peer))).ports("TCP/http")])
        }
        3 => {
            let [one, other] = [first, second].map(|random| cluster_name(random as u32 % set.clusters));
            let from = format!("cluster.clusterset.k8s.io in ({one}, {other})");
            built.ingress([rule().peer(pods_in(&from, &app_of(peer))).ports("TCP/8080-8089")])
        }
        4 => built.egress([
            rule().peer(block("0.0.0.0/0", "10.0.0.0/8 169.254.169.254/32")).ports("TCP/443"),
            dns().peer(block(&format!("192.168.{}.0/24", second % 256), "")),
        ]),
        5 => built.egress([rule().peer(pods(&app_of(peer))).ports("TCP/http TCP/grpc"), dns()]),
        6 => built.no_ingress().egress([dns()]),
        _ => built.ingress([
            rule().ports("TCP/8443"),
            rule().peer(pods_in(&format!("team in ({team}, platform)"), "tier notin (edge)")).ports("TCP/metrics"),
        ]),
    };
    built.build()
}

/// A policy for endpoints of the node that matches every pod of the ClusterSet.
pub fn everybody() -> Event {
    reader("everybody").ingress([rule().peer(namespaces("")).ports("TCP/8081")]).into()
}

/// One that matches nobody.
pub fn nobody() -> Event {
    reader("nobody").ingress([rule().peer(pods_in("", "app=nobody")).ports("TCP/8081")]).into()
}

/// One that matches the pods of these clusters, all of them.
pub fn of_clusters(clusters: impl Iterator<Item = u32>) -> Event {
    let list: Vec<String> = clusters.map(cluster_name).collect();
    let peer = namespaces(&format!("cluster.clusterset.k8s.io in ({})", list.join(", ")));
    reader("clusters").ingress([rule().peer(peer).ports("TCP/8082")]).into()
}

/// The end of a policy that was applied.
pub fn deletion(applied: &Event) -> Event {
    match applied {
        Event::PolicyApplied(policy) => Event::PolicyDeleted(policy.key.clone()),
        other => other.clone(),
    }
}

/// One that matches the pods of a team's namespaces.
pub fn of_team(team: &str) -> Event {
    reader(team).ingress([rule().peer(namespaces(&format!("team={team}"))).ports("TCP/8083")]).into()
}

/// A policy whose subject has an endpoint on [`super::NODE`].
fn reader(name: &str) -> policy_core::testing::build::PolicyBuilder {
    let namespace = namespace_name(0);
    policy(&format!("{}/{namespace}/{name}", cluster_name(0))).select(&format!("app={}", APPS[0]))
}
