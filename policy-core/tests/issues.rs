//! What is said of objects that contradict each other or hardly mean what they say, in worlds made by hand.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_core::compile::{Compiler, Subjects};
use policy_core::issues;
use policy_core::model::{
    Allowance, Connection, Direction, Issue, IssueCode, Level, NetworkPolicy, Peer, Pod, PolicyKey, Rule, Scope,
    Selector, Transport,
};
use policy_core::oracle::Oracle;
use policy_core::testing::build::{ClusterSetBuilder, PolicyBuilder, RuleBuilder};
use policy_core::testing::{
    abc, block, cases, namespace, namespaces, pod, pods, pods_in, policy, rule, unreadable, worlds,
};
use policy_core::world::World;
use proptest::prelude::*;

fn found(set: &ClusterSetBuilder) -> Vec<Issue> {
    let found = |subjects| {
        let mut compiler = Compiler::new(set.config(), subjects);
        compiler.apply(&set.events());
        issues::of(&compiler)
    };
    let all = found(Subjects::All);
    assert_eq!(found(Subjects::Nobody), all, "who compiles nothing finds the same");
    all
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

/// Namespaces `shop` and `db` (team=front, team=back) in each cluster, and in each cluster shop/web (app=web) and db/pg
/// (app=pg).
fn town() -> ClusterSetBuilder {
    let mut set = abc();
    for (cluster, number) in [("a", 1), ("b", 2), ("c", 3)] {
        set = set
            .with(namespace(&format!("{cluster}/shop")).labels("team=front"))
            .with(namespace(&format!("{cluster}/db")).labels("team=back"))
            .with(pod(&format!("{cluster}/shop/web")).labels("app=web").ip(&format!("10.{number}.0.1")))
            .with(pod(&format!("{cluster}/db/pg")).labels("app=pg").ip(&format!("10.{number}.0.3")));
    }
    set
}

/// A policy of a/shop whose ingress admits these peers, annotated so that its scope is no question.
fn admitting(peers: impl IntoIterator<Item = Peer>) -> PolicyBuilder {
    let rule = peers.into_iter().fold(rule(), RuleBuilder::peer);
    policy("a/shop/np").annotated("Local").ingress([rule])
}

#[test]
fn an_id_of_no_member_is_a_warning_where_a_peer_names_it() {
    let cluster = "cluster.clusterset.k8s.io";
    let set = town().with(admitting([
        pods_in(&format!("{cluster} in (b, zz)"), "app=web"),
        pods_in(&format!("{cluster}=b"), "io.cilium.k8s.policy.cluster notin (yy, c)"),
        pods_in(&format!("{cluster}, !io.cilium.k8s.policy.cluster, team=zz"), ""),
        block("10.0.0.0/8", ""),
        pods(&format!("{cluster}=")),
    ]));
    let np = "a/NetworkPolicy/shop/np";
    says(
        &set,
        &[
            (IssueCode::UnknownClusterId, np, "spec.ingress[0].from[0].namespaceSelector"),
            (IssueCode::UnknownClusterId, np, "spec.ingress[0].from[1].podSelector"),
            (IssueCode::UnknownClusterId, np, "spec.ingress[0].from[4].podSelector"),
        ],
    );
    let messages: Vec<_> = found(&set).into_iter().map(|issue| issue.message).collect();
    assert!(messages[0].contains(r#""zz": it matches nobody"#) && messages[1].contains(r#""yy": it excludes nobody"#));
    assert!(found(&set).iter().all(|issue| issue.level == Level::Warning));
}

#[test]
fn selectors_of_namespaces_and_of_pods_in_two_items_are_a_warning() {
    let split = (IssueCode::SplitPeer, "a/NetworkPolicy/shop/np", "spec.ingress[0].from[1]");
    says(&town().with(admitting([namespaces("team=back"), pods("app=pg")])), &[split]);
    says(
        &town().with(admitting([pods("app=pg"), namespaces("team=back")])),
        &[(split.0, split.1, "spec.ingress[0].from[0]")],
    );
    // The pods of those namespaces that have any labels are all of them: nothing else can have been meant.
    says(&town().with(admitting([namespaces("team=back"), pods("")])), &[]);
    says(&town().with(admitting([pods_in("team=back", "app=pg"), pods("app=pg")])), &[]);
    says(&town().with(admitting([pods_in("team=back", "app=pg"), namespaces("team=back")])), &[]);
    let two_rules = policy("a/shop/np")
        .annotated("Local")
        .ingress([rule().peer(namespaces("team=back")), rule().peer(pods("app=pg"))])
        .egress([rule().peer(pods("app=pg")).peer(pods("app=web")).peer(namespaces("")).peer(namespaces("team=back"))]);
    says(&town().with(two_rules), &[(split.0, split.1, "spec.egress[0].to[0]")]);
}

/// The clusters of whose pods a peer would match some under `ClusterSet`, as the warning about it has them.
#[track_caller]
fn widens(set: &ClusterSetBuilder, peer: Peer, clusters: &str) {
    let set = set.clone().with(policy("a/shop/np").ingress([rule().peer(peer)]));
    let found = found(&set);
    let expected: Vec<String> = match clusters {
        "" => vec![],
        clusters => vec![format!("it would match pods of {clusters} too")],
    };
    let widening: Vec<_> = found.iter().filter(|issue| issue.code == IssueCode::PeerWouldWiden).collect();
    assert_eq!(widening.len(), expected.len(), "{found:#?}\n{}", set.world());
    for (issue, expected) in widening.iter().zip(expected) {
        assert!(issue.message.contains(&expected), "{issue:#?}\n{}", set.world());
        let place = (issue.level, issue.object.as_str(), issue.field.as_str());
        assert_eq!(place, (Level::Warning, "a/NetworkPolicy/shop/np", "spec.ingress[0].from[0]"));
    }
}

#[test]
fn a_peer_that_matches_more_under_cluster_set_is_a_warning() {
    let set = town()
        .with(pod("b/shop/cache").labels("app=cache,tier=x").ip("10.2.0.9"))
        .with(namespace("c/ops").labels("team=ops"))
        .with(pod("c/ops/prom").labels("app=prom").ip("10.3.0.9"))
        .with(pod("c/dark/x").labels("app=dark").ip("10.3.0.10"));
    for (peer, clusters) in [
        (pods(""), "b, c"),
        (pods("app=web"), "b, c"),
        (pods("app=cache"), "b"),
        (pods("app in (pg, prom)"), ""),
        (pods("tier"), "b"),
        (pods("!tier, app!=web"), ""),
        (pods("app notin (web), !x"), "b"),
        (pods("nothing"), ""),
        (namespaces(""), "b, c"),
        (namespaces("team=back"), "b, c"),
        (namespaces("team=ops"), "c"),
        (namespaces("team notin (front, back)"), "c"),
        (namespaces("kubernetes.io/metadata.name=ops"), "c"),
        (namespaces("kubernetes.io/metadata.name in (ops, shop), team=front"), "b, c"),
        (namespaces("kubernetes.io/metadata.name=dark"), ""),
        (namespaces("team=none"), ""),
        (pods_in("", "app=prom"), "c"),
        (pods_in("", "app=dark"), ""),
        (pods_in("team=back", "app=pg"), "b, c"),
        (pods_in("team=back", "app=web"), ""),
        (namespaces("team=back, cluster.clusterset.k8s.io=a"), ""),
        (pods("io.cilium.k8s.policy.cluster"), ""),
        (block("0.0.0.0/0", ""), ""),
    ] {
        widens(&set, peer, clusters);
    }
}

#[test]
fn a_scope_that_no_switch_of_the_default_changes_is_no_warning() {
    let np = || policy("a/shop/np").ingress([rule().peer(pods(""))]);
    let widening =
        |set: &ClusterSetBuilder| found(set).iter().filter(|it| it.code == IssueCode::PeerWouldWiden).count();
    assert_eq!(widening(&town().with(np())), 1);
    for scope in ["Local", "ClusterSet", "else"] {
        assert_eq!(widening(&town().with(np().annotated(scope))), 0, "{scope}");
        let inherited = town().with(namespace("a/shop").annotated(scope)).with(np());
        assert_eq!(widening(&inherited), 0, "{scope}");
    }
    assert_eq!(widening(&town().scope(Scope::ClusterSet).with(np())), 0);
    assert_eq!(widening(&town().with(policy("b/shop/np").ingress([rule().peer(pods(""))]))), 0);
}

#[test]
fn pods_that_no_selector_finds_widen_nothing() {
    let set = abc().with(namespace("a/shop")).with(pod("a/shop/web").ip("10.1.0.1"));
    widens(&set.clone().with(pod("b/shop/x").ip("10.2.0.1")), pods(""), "b");
    widens(&set.clone().with(pod("b/shop/x").ip("172.16.0.1")), pods(""), "");
    widens(&set.clone().with(pod("b/shop/x").ip("10.2.0.1").host_network()), pods(""), "");
    widens(&set.clone().with(pod("b/shop/x").ip("10.2.0.1").finished()), pods(""), "");
    let twice = set.with(pod("b/shop/x").ip("10.2.0.1")).with(pod("b/shop/y").ip("10.2.0.1"));
    widens(&twice, pods(""), "");
    widens(&twice.clone().with(pod("b/shop/z").ip("10.2.0.2")), pods(""), "b");
}

/// The policies of a/shop of which it is said that they isolate DNS away.
#[track_caller]
fn without_dns(set: &ClusterSetBuilder, expected: &[&str]) {
    let found = found(set);
    let without = found.iter().filter(|issue| issue.code == IssueCode::DnsIsolated);
    let places: Vec<_> = without.map(|it| (it.level, it.object.clone(), it.field.as_str())).collect();
    let object = |name: &&str| (Level::Warning, format!("a/NetworkPolicy/shop/{name}"), "spec.egress");
    assert_eq!(places, expected.iter().map(object).collect::<Vec<_>>(), "{}", set.world());
}

#[test]
fn a_policy_that_isolates_dns_away_is_a_warning() {
    let np = |rule: Rule| town().with(policy("a/shop/np").egress([rule]));
    let ports = |ports: &str| np(rule().ports(ports).into());
    without_dns(&town().with(policy("a/shop/np").no_egress()), &["np"]);
    without_dns(&town().with(policy("a/shop/np").no_ingress()), &[]);
    without_dns(&np(unreadable()), &["np"]);
    without_dns(&np(rule().into()), &[]);
    without_dns(&ports("TCP/443 SCTP UDP/54"), &["np"]);
    without_dns(&ports("SCTP/53"), &["np"]);
    without_dns(&ports("UDP/53"), &[]);
    without_dns(&ports("TCP/53"), &[]);
    without_dns(&ports("TCP/50-60"), &[]);
    without_dns(&ports("UDP"), &[]);
    without_dns(&np(rule().peer(pods("app=dns")).ports("UDP/53").into()), &[]);
    let named = ports("UDP/dns");
    without_dns(&named, &["np"]);
    without_dns(&named.clone().with(pod("b/dns/core").protocol_port("TCP", "dns", 53).ip("10.2.0.9")), &["np"]);
    without_dns(&named.clone().with(pod("b/dns/core").protocol_port("UDP", "dns", 5353).ip("10.2.0.9")), &["np"]);
    without_dns(&named.with(pod("b/dns/core").protocol_port("UDP", "dns", 53).ip("10.2.0.9")), &[]);
}

#[test]
fn policies_of_one_subject_are_judged_together() {
    let set = town().with(pod("a/shop/cache").labels("app=cache").ip("10.1.0.2"));
    let closed = || policy("a/shop/closed").no_egress();
    let web = |ports: &str| policy("a/shop/web").select("app=web").egress([rule().ports(ports)]);
    without_dns(&set.clone().with(closed()).with(web("TCP/443")), &["closed", "web"]);
    without_dns(&set.clone().with(closed()).with(web("UDP/53")), &["closed"]);
    without_dns(&set.clone().with(policy("a/shop/dns").egress([rule().ports("UDP/53")])).with(web("TCP/443")), &[]);
    without_dns(
        &set.clone().with(closed()).with(policy("a/shop/dns").select("app").egress([rule().ports("UDP/53")])),
        &[],
    );
    without_dns(&set.clone().with(closed()).with(policy("a/db/dns").egress([rule().ports("UDP/53")])), &["closed"]);
    without_dns(&set.clone().with(policy("a/shop/none").select("app=none").no_egress()), &[]);
    let by_cluster = |id: &str| policy("a/shop/b").select(&format!("cluster.clusterset.k8s.io={id}")).no_egress();
    without_dns(&set.clone().with(by_cluster("b")), &[]);
    without_dns(&set.clone().with(by_cluster("a")), &["b"]);
    without_dns(&set.with(policy("b/shop/np").no_egress()), &[]);
}

#[test]
fn a_policy_whose_subject_is_unknown_isolates_and_serves_nobody() {
    let set = abc().explicit().with(pod("a/shop/web").labels("app=web").ip("10.1.0.1"));
    let dns = policy("a/shop/dns").select("cluster.clusterset.k8s.io=a").egress([rule().ports("UDP/53")]);
    without_dns(&set.clone().with(dns.clone()), &["dns"]);
    let labelled = namespace("a/shop").labels("cluster.clusterset.k8s.io=a");
    without_dns(&set.clone().with(labelled).with(dns.clone()), &[]);
    without_dns(&set.with(namespace("a/shop")).with(dns), &[]);
}

#[test]
fn an_address_is_contested_as_long_as_two_claim_it() {
    let (one, two, three) =
        (|| pod("b/db/pg-1").ip("10.2.0.5"), || pod("b/db/pg-2").ip("10.2.0.5"), || pod("c/db/pg").ip("10.2.0.5"));
    let set = abc().member("c", "10.2.0.0/16").with(one()).with(two());
    let count = |set: &ClusterSetBuilder| found(set).iter().filter(|it| it.code == IssueCode::DuplicateAddress).count();
    assert_eq!(count(&set), 2);
    assert_eq!(count(&set.clone().with(three())), 3);
    assert_eq!(count(&set.clone().with(three()).with(one().deleted())), 2);
    assert_eq!(count(&set.clone().with(one().deleted())), 0);
    assert_eq!(count(&set.clone().with(one().finished())), 0);
    assert_eq!(count(&set.with(one().deleted()).with(one())), 2);
}

#[test]
fn a_label_of_another_cluster_is_a_warning_on_whatever_carries_it() {
    let set = abc()
        .with(namespace("b/shop").labels("cluster.clusterset.k8s.io=a"))
        .with(namespace("b/db").labels("cluster.clusterset.k8s.io=b"))
        .with(pod("b/db/live-1").labels("io.cilium.k8s.policy.cluster=c").ip("10.2.0.1"))
        .with(pod("b/db/live-2").labels("io.cilium.k8s.policy.cluster=c").ip("10.2.0.2"))
        .with(pod("b/db/true").labels("io.cilium.k8s.policy.cluster=b,cluster.clusterset.k8s.io=b").ip("10.2.0.3"))
        .with(pod("a/db/none").labels("cluster.clusterset.k8s.io=b"))
        .with(pod("a/db/finished").labels("cluster.clusterset.k8s.io=b").ip("10.1.0.1").finished());
    let (key, alias) = ("metadata.labels[cluster.clusterset.k8s.io]", "metadata.labels[io.cilium.k8s.policy.cluster]");
    says(
        &set,
        &[
            (IssueCode::SpoofedClusterLabel, "a/Pod/db/finished", key),
            (IssueCode::SpoofedClusterLabel, "a/Pod/db/none", key),
            (IssueCode::SpoofedClusterLabel, "b/Namespace/shop", key),
            (IssueCode::SpoofedClusterLabel, "b/Pod/db/live-1", alias),
            (IssueCode::SpoofedClusterLabel, "b/Pod/db/live-2", alias),
        ],
    );
}

/// A pod of a policy's namespace whose own addresses nobody else has.
fn bystander(policy: &PolicyKey) -> Pod {
    pod(&format!("{}/{}/bystander", policy.cluster, policy.namespace)).ip("10.1.255.254").ip("fd00:1::ffff").build()
}

/// Whether the rules of a policy with this one peer allow a connection from an address, by the oracle.
fn admits(world: &World, policy: &NetworkPolicy, peer: &Peer, scope: Scope, source: IpAddr) -> bool {
    let subject = bystander(&policy.key);
    let rule = Rule::Allow(Allowance { peers: Some(vec![peer.clone()]), ports: None });
    let alone =
        NetworkPolicy { subject: Selector::default(), ingress: Some(vec![rule]), egress: None, ..policy.clone() };
    let mut world = world.clone();
    world.config.iter_mut().for_each(|config| config.default_scope = scope);
    world.policies = [(alone.key.clone(), alone)].into();
    let destination = subject.addresses.iter().copied().find(|address| address.is_ipv4() == source.is_ipv4());
    world.pods.insert(subject.key.clone(), subject.clone());
    let connection = Connection { source, destination: destination.expect("it has both"), transport: Transport::Icmp };
    !Oracle::new(&world).judge(&subject.key, Direction::Ingress, &connection).allowed_by.is_empty()
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_peer_widens_when_the_oracle_admits_more_under_cluster_set(world in worlds()) {
        let mut world = world;
        world.namespaces.values_mut().for_each(|namespace| namespace.peer_scope = None);
        world.policies.values_mut().for_each(|policy| policy.peer_scope = None);
        let config = world.config.as_mut().expect("generated worlds are configured");
        config.default_scope = Scope::Local;
        let local = config.local.clone();
        let mut compiler = Compiler::new(config.clone(), Subjects::All);
        compiler.apply(&world.events());
        let issues = issues::of(&compiler);
        let widening = issues.iter().filter(|issue| issue.code == IssueCode::PeerWouldWiden);
        let told: BTreeSet<_> = widening.map(|issue| (issue.object.clone(), issue.field.clone())).collect();

        let mut expected = BTreeSet::new();
        for policy in world.policies.values().filter(|policy| policy.key.cluster == local) {
            for (direction, list) in [(Direction::Ingress, "from"), (Direction::Egress, "to")] {
                for (item, rule) in policy.rules(direction).unwrap_or_default().iter().enumerate() {
                    let Rule::Allow(Allowance { peers: Some(peers), .. }) = rule else { continue };
                    for (at, peer) in peers.iter().enumerate() {
                        let more = world.pods.values().flat_map(|pod| &pod.addresses).any(|address| {
                            admits(&world, policy, peer, Scope::ClusterSet, *address)
                                && !admits(&world, policy, peer, Scope::Local, *address)
                        });
                        if more {
                            let field = format!("spec.{}[{item}].{list}[{at}]", direction.as_str());
                            expected.insert((policy.key.to_string(), field));
                        }
                    }
                }
            }
        }
        prop_assert_eq!(told, expected, "{}", world);
    }
}
