//! Documents of any shape.

use proptest::prelude::*;

use super::*;

/// Values that often have the names and shapes of Kubernetes' fields, and often do not.
fn any_value() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 40] = [
        "metadata",
        "name",
        "namespace",
        "labels",
        "annotations",
        "spec",
        "status",
        "podSelector",
        "namespaceSelector",
        "matchLabels",
        "matchExpressions",
        "key",
        "operator",
        "values",
        "policyTypes",
        "ingress",
        "egress",
        "from",
        "to",
        "ports",
        "port",
        "endPort",
        "protocol",
        "ipBlock",
        "cidr",
        "except",
        "containers",
        "containerPort",
        "podIPs",
        "ip",
        "items",
        "addresses",
        "hostNetwork",
        "crosswall.dev/peer-scope",
        "clusterIP",
        "clusterIPs",
        "kubernetes.io/service-name",
        "conditions",
        "ready",
        "terminating",
    ];
    const TEXTS: [&str; 14] = [
        "a",
        "",
        "IPv4",
        "None",
        "In",
        "Exists",
        "TCP",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "fd00::1",
        "Ingress",
        "InternalIP",
        "ä",
        "a/b/c",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u16..=u16::MAX).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(TEXTS.as_slice()).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((proptest::sample::select(NAMES.as_slice()), inner), 0..6).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

const KINDS: [&str; 8] = ["Pod", "Namespace", "Node", "NetworkPolicy", "Service", "EndpointSlice", "List", "PodList"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn arbitrary_values_never_panic_and_never_fail_silently(
        kind in proptest::sample::select(KINDS.as_slice()),
        metadata in any_value(),
        spec in any_value(),
        rules in any_value(),
    ) {
        let api_version = match kind {
            "NetworkPolicy" => "networking.k8s.io/v1",
            "EndpointSlice" => "discovery.k8s.io/v1",
            _ => "v1",
        };
        let named = serde_json::json!({"name": "x", "labels": metadata, "annotations": metadata});
        let documents = [
            spec.clone(),
            serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}),
            serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": named, "spec": spec, "status": rules}),
            serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x",
                "labels": {"kubernetes.io/service-name": "x"}}, "addressType": "IPv4", "ports": rules,
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": rules}, {"addresses": spec}], "spec":
                {"clusterIP": spec, "clusterIPs": rules, "ports": [rules, {"port": 1, "name": spec, "protocol": spec}]}}),
            serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "items": rules,
                "spec": {"ingress": rules, "egress": [{"to": spec}, {"ports": rules}, {"to": [{"podSelector": rules}]}],
                         "containers": rules}, "status": {"podIPs": rules, "addresses": spec}}),
        ];
        for document in documents {
            let mut readings = Readings::default();
            read_document(&"c".parse().unwrap(), &document, "file", &mut readings);
            for reading in &readings.objects {
                let errors = reading.issues.iter().filter(|issue| issue.level == Level::Error).count();
                prop_assert!(reading.object.is_some() || errors > 0);
                if let Some(Object::NetworkPolicy(policy)) = &reading.object {
                    let rules = policy.ingress.iter().chain(&policy.egress).flatten();
                    let lost = rules.filter(|rule| **rule == Rule::Unreadable).count();
                    prop_assert!(errors >= lost);
                }
            }
        }
    }
}
