//! What the semantics say, sentence by sentence, in worlds made by hand: of the oracle, and of the compiled tables.

mod clusters;
mod network_policy;
mod scopes;
mod small_print;
mod time;
mod world;

use policy_core::model::{Connection, Direction, PolicyKey};
use policy_core::oracle::{End, Oracle, Verdict};
use policy_core::simulate::Simulation;
use policy_core::testing::build::{ClusterSetBuilder, PodBuilder};
use policy_core::testing::{abc, connection, namespace, pod, policy};
use policy_core::world::World;

// The cast: namespaces `shop` (team=front) and `db` (team=back) in each of a, b and c, and in each cluster
// shop/web (app=web), shop/cache (app=cache) and db/pg (app=pg), at 10.N.0.1, .2 and .3.
const A_WEB: &str = "10.1.0.1";
const A_CACHE: &str = "10.1.0.2";
const A_PG: &str = "10.1.0.3";
const B_WEB: &str = "10.2.0.1";
const B_CACHE: &str = "10.2.0.2";
const B_PG: &str = "10.2.0.3";
const C_WEB: &str = "10.3.0.1";
const C_CACHE: &str = "10.3.0.2";
const C_PG: &str = "10.3.0.3";
/// An address outside the ClusterSet.
const WORLD: &str = "203.0.113.7";
/// The subject of most claims.
const SUBJECT: &str = "a/shop/web";

fn town() -> ClusterSetBuilder {
    let mut set = abc();
    for (cluster, number) in [("a", 1), ("b", 2), ("c", 3)] {
        set = set
            .with(namespace(&format!("{cluster}/shop")).labels("team=front"))
            .with(namespace(&format!("{cluster}/db")).labels("team=back"));
        for (name, host) in [("shop/web", 1), ("shop/cache", 2), ("db/pg", 3)] {
            let app = name.split('/').next_back().expect("split yields one part at least");
            set = set.with(
                pod(&format!("{cluster}/{name}"))
                    .labels(&format!("app={app}"))
                    .ip(&format!("10.{number}.0.{host}"))
                    .ip(&format!("fd00:{number}::{host}")),
            );
        }
    }
    set
}

/// A policy of namespace a/shop that selects the pod web.
fn web_policy() -> policy_core::testing::build::PolicyBuilder {
    policy("a/shop/web").select("app=web")
}

/// A pod of the cast with something changed; its address as in the cast.
fn same_pod(key: &str, labels: &str, address: &str) -> PodBuilder {
    pod(key).labels(labels).ip(address)
}

/// Whether the pod admits connections from these addresses, and not from those; to `TCP/80`, say.
#[track_caller]
fn admits(set: &ClusterSetBuilder, subject: &str, transport: &str, these: &[&str], not_those: &[&str]) {
    check(set, subject, Direction::Ingress, transport, these, not_those);
}

/// Whether the pod may open connections to these addresses, and not to those.
#[track_caller]
fn reaches(set: &ClusterSetBuilder, subject: &str, transport: &str, these: &[&str], not_those: &[&str]) {
    check(set, subject, Direction::Egress, transport, these, not_those);
}

#[track_caller]
fn check(
    set: &ClusterSetBuilder,
    subject: &str,
    direction: Direction,
    transport: &str,
    these: &[&str],
    not_those: &[&str],
) {
    let expected = these.iter().map(|it| (*it, Verdict::Allow)).chain(not_those.iter().map(|it| (*it, Verdict::Deny)));
    for (other, expected) in expected {
        let end = judge(set, subject, direction, other, transport);
        assert_eq!(end.verdict, expected, "{direction:?} of {subject}, {other} {transport}: {end:?}\n{}", set.world());
    }
}

/// How one end judges a connection with another address; the compiled tables must say the same.
#[track_caller]
fn judge(set: &ClusterSetBuilder, subject: &str, direction: Direction, other: &str, transport: &str) -> End {
    let world = set.world();
    let subject = pod(subject).build().key;
    let is_v6 = other.contains(':');
    let own = world.pods[&subject].addresses.iter().find(|address| address.is_ipv6() == is_v6);
    let own = own.map_or_else(|| panic!("{subject} has no address of that family"), ToString::to_string);
    let connection = match direction {
        Direction::Egress => connection(&own, other, transport),
        Direction::Ingress => connection(other, &own, transport),
    };
    let end = Oracle::new(&world).judge(&subject, direction, &connection);
    compare_with_compiled(set, &subject, direction, &connection, &end);
    end
}

#[track_caller]
fn compare_with_compiled(
    set: &ClusterSetBuilder,
    subject: &policy_core::model::PodKey,
    direction: Direction,
    connection: &Connection,
    end: &End,
) {
    let simulation = Simulation::new(&set.config(), &set.events());
    if let Some(compiled) = simulation.end(subject, direction, connection) {
        let allow = end.verdict == Verdict::Allow;
        assert_eq!(
            (compiled.allow, &compiled.isolated_by),
            (allow, &end.isolated_by),
            "compiled and naive differ: {connection:?}\n{}",
            set.world()
        );
    }
}

/// The keys of policies of a/shop by their names.
fn policies(names: &[&str]) -> Vec<PolicyKey> {
    names.iter().map(|name| policy(&format!("a/shop/{name}")).build().key).collect()
}
