//! Services and EndpointSlices.

use policy_core::model::{Backend, BackendState, ServicePort, TargetPort};

use super::*;

fn service(spec: &str) -> Reading {
    only(read(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec: {spec}\n")))
}

/// The slice `shop/web-x`, with more members in flow style.
fn slice(labels: &str, members: &str) -> Reading {
    only(read(&format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, \
         metadata: {{name: web-x, namespace: shop, labels: {{{labels}}}}}, {members}}}"
    )))
}

const OF_WEB: &str = "kubernetes.io/service-name: web";

#[track_caller]
fn read_service(spec: &str) -> Service {
    let reading = service(spec);
    assert_eq!((reading.issues, reading.key.to_string()), (vec![], "c/Service/shop/web".to_owned()));
    let Some(Object::Service(service)) = reading.object else { panic!("{spec}") };
    service
}

#[track_caller]
fn read_slice(labels: &str, members: &str) -> EndpointSlice {
    let reading = slice(labels, members);
    assert_eq!((reading.issues, reading.key.to_string()), (vec![], "c/EndpointSlice/shop/web-x".to_owned()));
    let Some(Object::EndpointSlice(slice)) = reading.object else { panic!("{members}") };
    slice
}

#[test]
fn a_service_has_the_addresses_that_the_cluster_gave_it() {
    let table: [(&str, &[&str]); 9] = [
        ("{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00:96::1']}", &["10.96.0.1", "fd00:96::1"]),
        ("{clusterIP: 'fd00:96::1', clusterIPs: ['fd00:96:0::1', 10.96.0.1]}", &["10.96.0.1", "fd00:96::1"]),
        ("{clusterIP: 10.96.0.1}", &["10.96.0.1"]),
        ("{clusterIP: 10.96.0.1, clusterIPs: []}", &["10.96.0.1"]),
        ("{clusterIP: None, clusterIPs: [None]}", &[]),
        ("{clusterIP: ''}", &[]),
        ("{type: ExternalName, externalName: example.org}", &[]),
        ("{}", &[]),
        ("null", &[]),
    ];
    for (spec, expect) in table {
        assert_eq!(read_service(spec).addresses, addresses(expect), "{spec}");
    }
}

#[test]
fn the_ports_of_a_service_are_those_of_its_address() {
    let spec = "{ports: [{port: 80, targetPort: http, nodePort: 30080}, {name: dns, protocol: UDP, port: 53, appProtocol: x}]}";
    let port = |name: Option<&str>, protocol, port| ServicePort { name: name.map(Into::into), protocol, port };
    assert_eq!(read_service(spec).ports, [port(None, Protocol::Tcp, 80), port(Some("dns"), Protocol::Udp, 53)]);
}

#[test]
fn a_service_with_a_part_that_cannot_be_read_is_not_read() {
    for (spec, field) in [
        ("5", "spec"),
        ("{clusterIP: 10.96.0.01}", "spec.clusterIP"),
        ("{clusterIP: 5}", "spec.clusterIP"),
        ("{clusterIPs: [None, x]}", "spec.clusterIPs[1]"),
        ("{clusterIPs: x}", "spec.clusterIPs"),
        ("{ports: {}}", "spec.ports"),
        ("{ports: [5]}", "spec.ports[0]"),
        ("{ports: [{name: x}]}", "spec.ports[0].port"),
        ("{ports: [{port: 80}, {port: 0}]}", "spec.ports[1].port"),
        ("{ports: [{port: '80'}]}", "spec.ports[0].port"),
        ("{ports: [{port: 80, protocol: tcp}]}", "spec.ports[0].protocol"),
        ("{ports: [{port: 80, name: 8}]}", "spec.ports[0].name"),
    ] {
        let reading = service(spec);
        assert_eq!(told(&reading.issues), [(IssueCode::UnreadableObject, Level::Error, field)], "{spec}");
        assert_eq!(reading.object, None, "{spec}");
    }
}

#[test]
fn a_slice_names_the_backends_that_may_get_traffic() {
    let backend = |conditions: &str| format!("{{addresses: [10.1.0.1], conditions: {conditions}}}");
    let (ready, draining) = (Some(BackendState::Ready), Some(BackendState::Draining));
    for (conditions, expect) in [
        ("null", ready),
        ("{}", ready),
        ("{ready: null, serving: null, terminating: null}", ready),
        ("{ready: true, serving: true, terminating: false}", ready),
        // As with publishNotReadyAddresses.
        ("{ready: true, serving: false, terminating: true}", ready),
        ("{ready: false}", None),
        ("{ready: false, serving: true, terminating: false}", None),
        ("{ready: false, serving: false, terminating: true}", None),
        ("{ready: false, serving: true, terminating: true}", draining),
        ("{ready: false, terminating: true}", draining),
    ] {
        let slice = read_slice(OF_WEB, &format!("addressType: IPv4, endpoints: [{}]", backend(conditions)));
        let address = "10.1.0.1".parse().unwrap();
        let expect: Vec<Backend> = expect.into_iter().map(|state| Backend { address, state }).collect();
        assert_eq!(slice.backends, expect, "{conditions}");
    }
}

#[test]
fn a_slice_says_where_the_ports_lead() {
    let slice = read_slice(
        &format!("app: web, {OF_WEB}"),
        "addressType: IPv6, ports: [{name: '', port: 8080, protocol: TCP}, {name: dns, port: 5353, protocol: UDP}, \
         {name: all}], endpoints: [{addresses: ['fd00:1::1', 'fd00:1::2'], targetRef: {kind: Pod, name: web-1}}]",
    );
    let port = |name: Option<&str>, protocol, number| TargetPort { name: name.map(Into::into), protocol, number };
    assert_eq!(slice.service.as_deref(), Some("web"));
    assert_eq!(slice.ports, [port(None, Protocol::Tcp, 8080), port(Some("dns"), Protocol::Udp, 5353)]);
    let all: Vec<IpAddr> = slice.backends.iter().map(|backend| backend.address).collect();
    assert_eq!(all, addresses(&["fd00:1::1"]), "the first address stands for all");
    let empty = read_slice(OF_WEB, "addressType: IPv4, ports: null, endpoints: null");
    assert_eq!((empty.ports, empty.backends), (vec![], vec![]));
}

#[test]
fn a_slice_about_names_or_no_service_says_nothing() {
    for (labels, members) in [
        ("", "addressType: IPv4, endpoints: [{addresses: [10.1.0.1]}]"),
        ("kubernetes.io/service-name: ''", "addressType: IPv4"),
        ("kubernetes.io/service-name: null", "addressType: IPv4"),
        (OF_WEB, "addressType: FQDN, endpoints: [{addresses: [example.org]}]"),
    ] {
        let slice = read_slice(labels, members);
        assert_eq!((slice.service, slice.backends), (None, vec![]), "{labels} {members}");
    }
}

#[test]
fn a_slice_with_a_part_that_cannot_be_read_is_not_read() {
    let with = |backend: &str| format!("addressType: IPv4, endpoints: [{{addresses: [10.1.0.9]}}, {backend}]");
    for (labels, members, field) in [
        (OF_WEB, "ports: []".to_owned(), "addressType"),
        (OF_WEB, "addressType: ipv4".to_owned(), "addressType"),
        (
            "kubernetes.io/service-name: 5",
            "addressType: IPv4".to_owned(),
            "metadata.labels[kubernetes.io/service-name]",
        ),
        (OF_WEB, "addressType: IPv4, ports: [{port: 65536}]".to_owned(), "ports[0].port"),
        (OF_WEB, "addressType: IPv4, ports: [{port: 1, protocol: X}]".to_owned(), "ports[0].protocol"),
        (OF_WEB, "addressType: IPv4, endpoints: 5".to_owned(), "endpoints"),
        (OF_WEB, with("{}"), "endpoints[1].addresses"),
        (OF_WEB, with("{addresses: []}"), "endpoints[1].addresses"),
        (OF_WEB, with("{addresses: [x]}"), "endpoints[1].addresses[0]"),
        (OF_WEB, with("{addresses: ['fd00:1::1']}"), "endpoints[1].addresses[0]"),
        (OF_WEB, with("{addresses: [10.1.0.1], conditions: 5}"), "endpoints[1].conditions"),
        (OF_WEB, with("{addresses: [10.1.0.1], conditions: {ready: yes}}"), "endpoints[1].conditions.ready"),
    ] {
        let reading = slice(labels, &members);
        assert_eq!(told(&reading.issues), [(IssueCode::UnreadableObject, Level::Error, field)], "{members}");
        assert_eq!(reading.object, None, "{members}");
    }
}

#[test]
fn versions_that_are_not_read_are_issues_and_other_projects_services_are_not() {
    let issues = |api_version: &str, kind: &str| {
        let document = format!("{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: x}}}}");
        let readings = read(&document);
        (readings.objects.len(), told(&readings.issues).into_iter().map(|(_, _, field)| field.to_owned()).collect())
    };
    let unknown = || vec!["apiVersion".to_owned()];
    for (api_version, kind, expect) in [
        ("v1", "Service", (1, vec![])),
        ("discovery.k8s.io/v1beta1", "EndpointSlice", (0, unknown())),
        ("v1", "EndpointSlice", (0, unknown())),
        ("v2", "Service", (0, unknown())),
        ("serving.knative.dev/v1", "Service", (0, vec![])),
        ("example.org/v1", "EndpointSlice", (0, vec![])),
    ] {
        assert_eq!(issues(api_version, kind), expect, "{api_version} {kind}");
    }
}
