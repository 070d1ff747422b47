//! Rules that admit the pods behind a Service, where no rule admits the Service's own address: in this version a packet is
//! judged by that when it leaves its pod.
//!
//! Only what is certain is said. A few backends stand for all of a Service's, so one whose backends differ may be missed.

use std::net::IpAddr;

use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::backed::{Backed, Entry};
use super::dns::{Subjects, subjects};
use super::groups::Groups;
use super::peers::{Place, rules};
use crate::compile::Compiler;
use crate::model::{
    Allowance, Direction, Issue, IssueCode, NamespaceKey, NetworkPolicy, Peer, Port, PortSelection, Text,
};

/// How many Services, and of each how many ports, a warning names.
const NAMED: usize = 3;
/// How often all that is looked at may be compared with a rule: far more than clusters have need of, and some tens of
/// milliseconds. Beyond it nothing is said.
const COMPARISONS: usize = 400_000;

/// Policies that isolate egress and have a rule that admits pods which answer for a Service, while some of their pods may
/// not open connections to the Service's address.
pub fn addresses_not_allowed(compiler: &Compiler, issues: &mut Vec<Issue>) {
    let index = compiler.index();
    let names_pods = |place: &Place<'_>| {
        place.direction == Direction::Egress && place.peers().iter().any(|peer| matches!(peer, Peer::Pods { .. }))
    };
    let mut places = compiler.policies().flat_map(rules).filter(names_pods).peekable();
    if index.services().is_empty() || places.peek().is_none() {
        return;
    }
    let backed = Backed::new(index);
    let mut groups = Groups::new(index);
    let egress = Egress::of(compiler, &mut groups);
    let mut finder = backed.finder();
    let mut comparisons = COMPARISONS;
    for place in places {
        let Some(isolated) = egress.find(place.policy) else { continue };
        if isolated.subjects.is_empty() || isolated.admits_all(&backed) {
            continue;
        }
        let answering = finder.entries(place.peers(), &place.policy.key.namespace);
        let mut found = Found::default();
        for entry in answering.iter().map(|id| backed.entry(id)) {
            let Some(left) = comparisons.checked_sub(1) else { return };
            comparisons = left;
            if found.knows(entry) || !admits_backend(place.allowance, entry, &backed) {
                continue;
            }
            let others = egress.of_namespace(&place.policy.key.namespace);
            comparisons = comparisons.saturating_sub(others.len());
            if is_cut(isolated, others, entry) && !found.take(entry) {
                break;
            }
        }
        if !found.services.is_empty() {
            issues.push(warning(&place, &found));
        }
    }
}

/// Whether some subject of a policy may not open connections to the address of a Service.
fn is_cut(isolated: &Isolated<'_>, others: &[Isolated<'_>], entry: &Entry<'_>) -> bool {
    if isolated.admits(entry) {
        return false;
    }
    let mut left = isolated.subjects.clone();
    for other in others.iter().filter(|other| other.admits(entry)) {
        left -= &other.subjects;
    }
    !left.is_empty()
}

fn warning(place: &Place<'_>, Found { services, are_more }: &Found<'_>) -> Issue {
    let named: Vec<String> = services.iter().map(FoundService::to_text).collect();
    let more = if *are_more { " and others" } else { "" };
    let example = services.first().map_or_else(String::new, |found| ipnet::IpNet::from(found.address).to_string());
    let message = format!(
        "admits pods that answer for {}{more}, but no rule of any policy that selects the same pods admits the Service's own address, by which this version judges a packet when it leaves its pod; if these pods are to use the Service, allow its address: to: [{{ipBlock: {{cidr: {example}}}}}]",
        named.join(", ")
    );
    place.warning(IssueCode::ServiceAddressNotAllowed, format!("spec.egress[{}]", place.item), message)
}

/// What a rule admits only behind their addresses.
#[derive(Default)]
struct Found<'a> {
    services: Vec<FoundService<'a>>,
    are_more: bool,
}

/// A Service, and those of its ports at one address.
struct FoundService<'a> {
    namespace: &'a Text,
    name: &'a Text,
    address: IpAddr,
    ports: Vec<(&'static str, u16)>,
}

impl FoundService<'_> {
    fn is(&self, entry: &Entry<'_>) -> bool {
        (self.namespace, self.name) == (entry.namespace, entry.name)
    }

    fn to_text(&self) -> String {
        let ports: Vec<String> =
            self.ports.iter().take(NAMED).map(|(protocol, port)| format!("{protocol}/{port}")).collect();
        format!("{}/{} ({}, {})", self.namespace, self.name, self.address, ports.join(", "))
    }
}

impl<'a> Found<'a> {
    /// Whether this adds nothing to what was found.
    fn knows(&self, entry: &Entry<'_>) -> bool {
        self.services.iter().filter(|found| found.is(entry)).any(|found| {
            found.address != entry.address
                || found.ports.contains(&(entry.protocol.as_str(), entry.port))
                || found.ports.len() == NAMED
        })
    }

    /// Takes an entry in; returns whether more are of use.
    fn take(&mut self, entry: &Entry<'a>) -> bool {
        let port = (entry.protocol.as_str(), entry.port);
        if let Some(known) = self.services.iter_mut().find(|found| found.is(entry)) {
            known.ports.push(port);
        } else if self.services.len() == NAMED {
            self.are_more = true;
        } else {
            let Entry { namespace, name, address, .. } = *entry;
            self.services.push(FoundService { namespace, name, address, ports: vec![port] });
        }
        !self.are_more
    }
}

/// The policies that isolate egress, by namespace.
struct Egress<'a>(HashMap<&'a Text, Vec<Isolated<'a>>>);

/// A policy that isolates egress.
struct Isolated<'a> {
    policy: &'a NetworkPolicy,
    /// The groups of which its rules count.
    subjects: RoaringBitmap,
    /// Those of its rules that may admit addresses which are no pod's.
    rules: Vec<&'a Allowance>,
}

impl<'a> Egress<'a> {
    fn of(compiler: &'a Compiler, groups: &mut Groups<'_>) -> Self {
        let index = compiler.index();
        let mut egress: HashMap<&Text, Vec<Isolated<'_>>> = HashMap::new();
        for policy in compiler.policies().filter(|policy| policy.egress.is_some()) {
            let namespace = NamespaceKey { cluster: index.config().local.clone(), name: policy.key.namespace.clone() };
            let Subjects::Known(subjects) = subjects(&policy.subject, &namespace, index, groups) else { continue };
            let places = rules(policy).filter(|place| place.direction == Direction::Egress);
            let is_open = |rule: &&Allowance| match &rule.peers {
                None => true,
                Some(peers) => peers.iter().any(|peer| matches!(peer, Peer::Block(_))),
            };
            let rules = places.map(|place| place.allowance).filter(is_open).collect();
            egress.entry(&policy.key.namespace).or_default().push(Isolated { policy, subjects, rules });
        }
        Self(egress)
    }

    fn of_namespace(&self, namespace: &Text) -> &[Isolated<'a>] {
        self.0.get(namespace).map_or(&[], Vec::as_slice)
    }

    fn find(&self, policy: &NetworkPolicy) -> Option<&Isolated<'a>> {
        let those = self.of_namespace(&policy.key.namespace);
        those.binary_search_by(|other| other.policy.key.cmp(&policy.key)).ok().map(|at| &those[at])
    }
}

impl Isolated<'_> {
    /// Whether it admits the address of a Service, which is no pod's, so that no selector finds it.
    fn admits(&self, entry: &Entry<'_>) -> bool {
        self.rules.iter().any(|rule| {
            let covers = |port: &Port| match port.selection {
                _ if port.protocol != entry.protocol => false,
                PortSelection::All => true,
                PortSelection::Range(first, last) => (first..=last).contains(&entry.port),
                // It is asked of a pod.
                PortSelection::Named(_) => false,
            };
            rule.ports.as_ref().is_none_or(|ports| ports.iter().any(covers)) && holds(rule, entry.address)
        })
    }

    /// Whether it plainly admits the addresses of all Services.
    fn admits_all(&self, backed: &Backed<'_>) -> bool {
        let has_no_holes = |rule: &&Allowance| {
            let whole = |peer: &Peer| matches!(peer, Peer::Block(block) if block.except.is_empty());
            rule.peers.as_ref().is_none_or(|peers| peers.iter().any(whole))
        };
        backed.spans().iter().all(|[first, last]| {
            let mut rules = self.rules.iter().copied().filter(|rule| rule.ports.is_none()).filter(has_no_holes);
            rules.any(|rule| {
                let blocks = rule.peers.iter().flatten().filter_map(|peer| match peer {
                    Peer::Block(block) if block.except.is_empty() => Some(block.cidr),
                    Peer::Block(_) | Peer::Pods { .. } => None,
                });
                rule.peers.is_none() || blocks.into_iter().any(|cidr| cidr.contains(first) && cidr.contains(last))
            })
        })
    }
}

/// Whether a rule admits an address that is no pod's.
fn holds(rule: &Allowance, address: IpAddr) -> bool {
    rule.peers.as_ref().is_none_or(|peers| {
        peers.iter().any(|peer| match peer {
            Peer::Block(block) => {
                block.cidr.contains(&address) && !block.except.iter().any(|hole| hole.contains(&address))
            }
            Peer::Pods { .. } => false,
        })
    })
}

/// Whether the ports of a rule cover the port of a backend that its peers match.
fn admits_backend(rule: &Allowance, entry: &Entry<'_>, backed: &Backed<'_>) -> bool {
    let covers = |port: &Port| match &port.selection {
        _ if port.protocol != entry.protocol => false,
        PortSelection::All => true,
        PortSelection::Range(first, last) => (*first..=*last).contains(&entry.target),
        PortSelection::Named(name) => backed.named_port(entry, name) == Some(entry.target),
    };
    rule.ports.as_ref().is_none_or(|ports| ports.iter().any(covers))
}
