//! An API server that goes and comes back, and rights that do.

use std::thread;
use std::time::Duration;

use crate::controllers::{Cluster, SOON, TAKEOVER};

/// Peers of which one is nobody.
const BAD: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: NAME, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {cluster.clusterset.k8s.io: nowhere}}}]
";

fn told() -> Option<Vec<String>> {
    Some(vec!["unknown_cluster_id".to_owned()])
}

#[test]
fn a_leader_without_its_api_server_stops_and_one_leads_again_when_it_is_back() {
    let Some(mut cluster) = Cluster::start("an API server that goes") else { return };
    cluster.server.apply(&BAD.replace("NAME", "bad")).expect("applied");
    let pair = [cluster.controller("controller-1", 9464), cluster.controller("controller-2", 9465)];
    let both: Vec<_> = pair.iter().collect();
    let tells = |cluster: &Cluster, policy: &str, within| {
        cluster.until(&format!("{policy} tells"), within, &both, || match cluster.codes(policy) {
            found if found == told() => Ok(()),
            found => Err(format!("it tells {found:?}")),
        });
    };
    tells(&cluster, "bad", SOON);
    let (version, events) = (cluster.version("bad"), cluster.events("bad"));
    cluster.server.stop().expect("stopped");
    cluster.until("nobody leads", TAKEOVER, &both, || match both.iter().any(|it| it.leads()) {
        false => Ok(()),
        true => Err("somebody does".to_owned()),
    });
    for controller in &both {
        assert!(controller.ask("/healthz").starts_with("HTTP/1.1 200"), "{}", controller.said());
    }
    thread::sleep(Duration::from_secs(2));
    cluster.server.start().expect("started");
    cluster.server.apply(&BAD.replace("NAME", "second")).expect("applied");
    tells(&cluster, "second", TAKEOVER);
    assert_eq!(both.iter().filter(|it| it.leads()).count(), 1);
    assert_eq!((cluster.version("bad"), cluster.events("bad")), (version, events), "nothing is written twice");
}

#[test]
fn a_right_that_is_missing_is_named_and_what_it_kept_back_is_written_once_it_is_there() {
    let Some(cluster) = Cluster::start("rights that are missing") else { return };
    let role = |verb: &str, at: &str, value: &str| {
        let patch = format!(r#"[{{"op": "{verb}", "path": "/rules/{at}"{value}}}]"#);
        let patch = ["patch", "clusterrole", "crosswall-controller", "--type=json", "--patch", &patch];
        cluster.server.kubectl(&patch).expect("patched");
    };
    // Of policies it may not write, and nobody who is not told to may lead.
    role("test", "1/resources/0", r#", "value": "networkpolicies""#);
    role("remove", "1/verbs/2", "");
    let lease = ["delete", "rolebinding", "crosswall-controller", "--namespace=crosswall-system"];
    cluster.server.kubectl(&lease).expect("deleted");
    cluster.server.apply(&BAD.replace("NAME", "bad")).expect("applied");
    let controller = cluster.controller("controller-1", 9464);
    let says = |words: &[&str]| {
        cluster.until(&format!("{words:?} is said"), SOON, &[&controller], || {
            let said = controller.said();
            if words.iter().all(|word| said.contains(word)) { Ok(()) } else { Err("it is not".to_owned()) }
        });
    };
    says(&["cannot use Lease crosswall-system/crosswall-controller", "forbidden"]);
    assert!(controller.ask("/readyz").starts_with("HTTP/1.1 503"), "who cannot ask for the Lease is not ready");
    assert!(controller.ask("/healthz").starts_with("HTTP/1.1 200"), "and a restart would not help");
    let give = [
        "create",
        "rolebinding",
        "crosswall-controller",
        "--namespace=crosswall-system",
        "--role=crosswall-controller",
        "--serviceaccount=crosswall-system:crosswall-controller",
    ];
    cluster.server.kubectl(&give).expect("created");
    says(&["cannot write on policies", "forbidden", "ClusterRole crosswall-controller"]);
    assert_eq!(cluster.codes("bad"), None);
    assert_eq!(cluster.events("bad").len(), 1, "an Event it may write, and writes it once");
    role("add", "1/verbs/-", r#", "value": "patch""#);
    let within = Duration::from_secs(90);
    cluster.until("it is written", within, &[&controller], || match cluster.codes("bad") {
        found if found == told() => Ok(()),
        found => Err(format!("it tells {found:?}")),
    });
    assert_eq!(cluster.events("bad").len(), 1);
}
