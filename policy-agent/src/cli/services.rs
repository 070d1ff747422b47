//! How Services and what stands behind them are shown.

use comfy_table::Cell;

use super::output::{Card, counted, lines, listing, right, trimmed};
use crate::api::services::{Backend, Behind, Service, ServicePort, Target};
use crate::api::types::Verdict;

/// How many of several backends are shown.
const SHOWN: usize = 3;

/// Services as a table.
pub fn services(services: &[Service]) -> String {
    if services.is_empty() {
        return "The local cluster has no Services, or has not told of them.\n".to_owned();
    }
    let mut table = listing(["SERVICE", "ADDRESSES", "PORTS", "BACKENDS", "PODS"]);
    for Service { name, addresses, ports, backends } in services {
        let (cluster, short) = name.split_once('/').unwrap_or(("", name));
        let named = backends.iter().map(|backend| short_pod(backend, cluster));
        table.add_row([
            Cell::new(short),
            Cell::new(lines(addresses)),
            Cell::new(lines(ports.iter().map(port))),
            right(backends.len()),
            Cell::new(lines(some(named, backends.len()))),
        ]);
    }
    trimmed(&table)
}

/// The first of several, and how many more there are.
fn some(all: impl Iterator<Item = String>, count: usize) -> Vec<String> {
    let mut shown: Vec<String> = all.take(SHOWN).collect();
    if count > SHOWN {
        shown.push(format!("and {} more", count - SHOWN));
    }
    shown
}

/// Pods of the Service's own cluster are named without it.
fn short_pod(Backend { pod, addresses }: &Backend, cluster: &str) -> String {
    let own = |pod: &str| pod.strip_prefix(cluster).and_then(|pod| pod.strip_prefix('/')).unwrap_or(pod).to_owned();
    pod.as_deref().map_or_else(|| lines(addresses), own)
}

fn port(ServicePort { name, protocol, port }: &ServicePort) -> String {
    format!("{}{protocol}/{port}", name.as_ref().map(|name| format!("{name} ")).unwrap_or_default())
}

/// What stands behind the destination of a connection, on lines of its card.
pub fn behind(card: &mut Card, Behind { service, port, targets, note }: &Behind) {
    let of_port = match port {
        Some(ServicePort { name: Some(name), .. }) => format!(", port {name}"),
        Some(ServicePort { name: None, .. }) | None => String::new(),
    };
    let count = if port.is_some() { format!(": {}", counted(targets.len(), "backend")) } else { String::new() };
    card.line("service", format!("{service}{of_port}{count}"));
    for line in some(targets.iter().map(target), targets.len()) {
        card.line("", format!("- {line}"));
    }
    card.line("", note.as_str());
}

fn target(Target { pod, address, port, verdicts }: &Target) -> String {
    let place = match address.is_ipv4() {
        true => format!("{address}:{port}"),
        false => format!("[{address}]:{port}"),
    };
    let place = pod.as_ref().map_or_else(|| place.clone(), |pod| format!("{pod} ({place})"));
    let said = |verdict: Option<Verdict>| verdict.map_or("not decided here", Verdict::as_str);
    format!("{place}: egress {}, ingress {}", said(verdicts.egress), said(verdicts.ingress))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::ByDirection;

    fn service(pods: usize) -> Service {
        let backend = |number: usize| Backend {
            pod: Some(format!("a/kube-system/coredns-{number}")),
            addresses: vec![format!("10.1.0.{number}").parse().expect("an address")],
        };
        let of_node = Backend { pod: None, addresses: vec!["192.168.0.1".parse().expect("an address")] };
        Service {
            name: "a/kube-system/kube-dns".to_owned(),
            addresses: ["10.96.0.10", "fd00:96::a"].map(|text| text.parse().expect("an address")).to_vec(),
            ports: vec![
                ServicePort { name: Some("dns".to_owned()), protocol: "UDP".to_owned(), port: 53 },
                ServicePort { name: None, protocol: "TCP".to_owned(), port: 53 },
            ],
            backends: (1..=pods).map(backend).chain([of_node]).collect(),
        }
    }

    #[test]
    fn a_service_names_some_of_its_backends() {
        let headless = Service { name: "a/db/pg".to_owned(), addresses: vec![], ports: vec![], backends: vec![] };
        let text = format!("\n{}", services(&[headless, service(1), service(5)]));
        let expected = "
 SERVICE                ADDRESSES    PORTS        BACKENDS   PODS
───────────────────────────────────────────────────────────────────────────────────
 db/pg                  -            -                   0   -
 kube-system/kube-dns   10.96.0.10   dns UDP/53          2   kube-system/coredns-1
                        fd00:96::a   TCP/53                  192.168.0.1
 kube-system/kube-dns   10.96.0.10   dns UDP/53          6   kube-system/coredns-1
                        fd00:96::a   TCP/53                  kube-system/coredns-2
                                                             kube-system/coredns-3
                                                             and 3 more
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_stands_behind_an_address_is_bounded() {
        let target = |number: usize| Target {
            pod: (number > 1).then(|| format!("a/kube-system/coredns-{number}")),
            address: format!("fd00:1::{number}").parse().expect("an address"),
            port: 5353,
            verdicts: ByDirection { egress: Some(Verdict::Deny), ingress: None },
        };
        let mut card = Card::new();
        let port = Some(ServicePort { name: Some("dns".to_owned()), protocol: "UDP".to_owned(), port: 53 });
        let (service, note) = ("a/kube-system/kube-dns".to_owned(), "so it is".to_owned());
        behind(&mut card, &Behind { service, port, targets: (1..=4).map(target).collect(), note });
        let expected = "
 service  a/kube-system/kube-dns, port dns: 4 backends
          - [fd00:1::1]:5353: egress deny, ingress not decided here
          - a/kube-system/coredns-2 ([fd00:1::2]:5353): egress deny, ingress not decided here
          - a/kube-system/coredns-3 ([fd00:1::3]:5353): egress deny, ingress not decided here
          - and 1 more
          so it is
";
        assert_eq!(format!("\n{}", card.text()), expected);
    }
}
