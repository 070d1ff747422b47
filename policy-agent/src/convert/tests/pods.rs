//! Pods and nodes.

use super::*;

#[test]
fn a_pod_is_read_whole() {
    let reading = pod("
metadata:
  name: web-1
  namespace: shop
  uid: u-1
  creationTimestamp: '2024-02-29T12:34:56Z'
  labels: {app: web, empty: , any: '/ ?'}
spec:
  nodeName: n1
  initContainers: [{name: i, ports: [{name: sidecar, containerPort: 15000}]}]
  containers:
  - {name: a, ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP}]}
  - {name: b}
status:
  phase: Running
  podIP: 10.1.0.5
  podIPs: [{ip: 10.1.0.5}, {ip: 'fd00:1::5'}]
");
    let port = |name: Option<&str>, protocol, number| ContainerPort { name: name.map(Into::into), protocol, number };
    let expect = Pod {
        key: PodKey { cluster: "c".parse().unwrap(), namespace: "shop".into(), name: "web-1".into() },
        uid: "u-1".into(),
        labels: labels(&[("app", "web"), ("empty", ""), ("any", "/ ?")]),
        addresses: addresses(&["10.1.0.5", "fd00:1::5"]),
        ports: vec![
            port(Some("http"), Protocol::Tcp, 8080),
            port(None, Protocol::Udp, 53),
            port(Some("sidecar"), Protocol::Tcp, 15000),
        ],
        node: Some("n1".into()),
        host_network: false,
        lifecycle: Lifecycle::Live,
        created: Some(Timestamp { s: 1_709_210_096, ns: 0 }),
    };
    assert_eq!(
        reading,
        Reading { key: ObjectKey::Pod(expect.key.clone()), object: Some(Object::Pod(expect)), issues: vec![] }
    );
}

#[test]
fn a_pod_needs_little_more_than_a_name() {
    for rest in
        ["{name: p}", "{name: p, namespace: '', labels: null, uid: '', creationTimestamp: null}\nspec: {}\nstatus: {}"]
    {
        let expect = Pod {
            key: PodKey { cluster: "c".parse().unwrap(), namespace: "default".into(), name: "p".into() },
            uid: "c/default/p".into(),
            labels: Labels::new(),
            addresses: vec![],
            ports: vec![],
            node: None,
            host_network: false,
            lifecycle: Lifecycle::Live,
            created: None,
        };
        let reading = pod(&format!("metadata: {rest}\n"));
        assert_eq!((reading.object, reading.issues), (Some(Object::Pod(expect)), vec![]), "{rest}");
    }
}

#[test]
fn phase_and_deletion_tell_where_a_pod_stands() {
    let table = [
        ("null", "{}", Lifecycle::Live),
        ("null", "{phase: Pending, podIP: 10.0.0.1}", Lifecycle::Live),
        ("null", "{phase: Unknown}", Lifecycle::Live),
        ("null", "{phase: Succeeded}", Lifecycle::Finished),
        ("'2024-01-01T00:00:00Z'", "{phase: Failed}", Lifecycle::Finished),
        ("'2024-01-01T00:00:00Z'", "{phase: Running}", Lifecycle::Terminating),
    ];
    for (deleted, status, expect) in table {
        let reading = pod(&format!("metadata: {{name: p, deletionTimestamp: {deleted}}}\nstatus: {status}\n"));
        let Some(Object::Pod(pod)) = reading.object else { panic!("{status}") };
        assert_eq!((pod.lifecycle, reading.issues), (expect, vec![]), "{deleted} {status}");
    }
}

#[test]
fn a_pod_keeps_what_can_be_read_of_its_fields() {
    let reading = pod("
metadata: {name: p, uid: 5, deletionTimestamp: soon}
spec:
  nodeName: [n]
  containers:
  - ports: [{name: a, containerPort: 1}, {name: a, containerPort: 2}, {name: a, containerPort: 3, protocol: UDP}]
  - ports: [{name: b}, {containerPort: http}, {containerPort: 4, protocol: tcp}, {name: B!, containerPort: 5}, 6]
  initContainers: {}
status:
  phase: 1
  podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.1}, {ip: 10.0.0.2}, {ip: 10.0.0.300}, {ip: '::ffff:10.0.0.1'}, {}, {ip: fd00::1}]
");
    let bad = |field| (IssueCode::UnreadableField, Level::Error, field);
    let expect = [
        bad("metadata.uid"),
        bad("spec.nodeName"),
        bad("status.phase"),
        bad("metadata.deletionTimestamp"),
        (IssueCode::ExtraAddress, Level::Warning, "status.podIPs[2].ip"),
        bad("status.podIPs[3].ip"),
        bad("status.podIPs[4].ip"),
        bad("status.podIPs[5].ip"),
        (IssueCode::RepeatedPortName, Level::Warning, "spec.containers[0].ports[1].name"),
        bad("spec.containers[1].ports[0].containerPort"),
        bad("spec.containers[1].ports[1].containerPort"),
        bad("spec.containers[1].ports[2].protocol"),
        bad("spec.containers[1].ports[3].name"),
        bad("spec.containers[1].ports[4]"),
        bad("spec.initContainers"),
    ];
    assert_eq!(told(&reading.issues), expect);
    let Some(Object::Pod(pod)) = reading.object else { panic!() };
    assert_eq!(pod.addresses, addresses(&["10.0.0.1", "fd00::1"]));
    let numbers: Vec<u16> = pod.ports.iter().map(|port| port.number).collect();
    assert_eq!((numbers, pod.lifecycle), (vec![1, 2, 3, 5], Lifecycle::Terminating));
}

#[test]
fn a_pod_whose_labels_or_network_cannot_be_read_is_not_read() {
    let table = [
        ("metadata.labels.app", "metadata: {name: p, labels: {app: 1.10}}"),
        ("metadata.labels", "metadata: {name: p, labels: [app]}"),
        ("spec.hostNetwork", "metadata: {name: p}\nspec: {hostNetwork: 'true'}"),
        ("spec", "metadata: {name: p}\nspec: []"),
    ];
    for (field, yaml) in table {
        let reading = pod(yaml);
        assert_eq!(told(&reading.issues), [(IssueCode::UnreadableObject, Level::Error, field)], "{yaml}");
        assert_eq!(reading.object, None, "{yaml}");
    }
}

#[test]
fn a_node_has_the_addresses_that_are_addresses() {
    let reading = only(read(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 10.0.0.1},
          {type: Hostname, address: n1}, {type: ExternalIP, address: 10.0.0.1}, {type: InternalIP, address: 'fd00::1'}]}\n",
    ));
    let key = NodeKey { cluster: "c".parse().unwrap(), name: "n1".into() };
    let expect = Node { key, addresses: addresses(&["10.0.0.1", "fd00::1"]) };
    assert_eq!((reading.object, reading.issues), (Some(Object::Node(expect)), vec![]));
}
