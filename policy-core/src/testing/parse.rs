//! Reads the short forms in which tests write labels, selectors, ports and keys; panics with the text on a typo.

use crate::model::{
    ClusterId, Labels, Operator, Port, PortSelection, Protocol, Requirement, Selector, Text, Transport,
};

/// `app=web, tier=front`, or nothing.
pub fn labels(text: &str) -> Labels {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or_else(|| panic!("no key=value: {part:?}"));
        (key.trim().into(), value.trim().into())
    };
    parts(text).into_iter().map(|part| pair(&part)).collect()
}

/// As `kubectl get -l` has it: `app=web, tier!=x, env in (a, b), team notin (c), owner, !old`. Empty: everything.
pub fn selector(text: &str) -> Selector {
    Selector { requirements: parts(text).iter().map(|part| requirement(part)).collect() }
}

fn requirement(text: &str) -> Requirement {
    let values = |list: &str| -> Vec<Text> {
        let inner = list.trim().strip_prefix('(').and_then(|list| list.strip_suffix(')'));
        let inner = inner.unwrap_or_else(|| panic!("no (list): {text:?}"));
        inner.split(',').map(|value| value.trim().into()).collect()
    };
    let (key, operator) = if let Some((key, list)) = text.split_once(" notin ") {
        (key, Operator::NotIn(values(list)))
    } else if let Some((key, list)) = text.split_once(" in ") {
        (key, Operator::In(values(list)))
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Operator::NotIn(vec![value.trim().into()]))
    } else if let Some((key, value)) = text.split_once('=') {
        (key, Operator::In(vec![value.trim().into()]))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Operator::DoesNotExist)
    } else {
        (text, Operator::Exists)
    };
    Requirement { key: key.trim().into(), operator }
}

/// The parts between commas that stand in no parentheses.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_usize;
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        match parts.last_mut() {
            Some(part) if character != ',' || depth > 0 => part.push(character),
            _ => parts.push(String::new()),
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// `TCP/80 UDP/53-60 TCP/http SCTP`.
pub(super) fn ports(text: &str) -> Vec<Port> {
    text.split_whitespace().map(port).collect()
}

fn port(text: &str) -> Port {
    let (protocol_name, selection) = text.split_once('/').map_or((text, None), |(name, rest)| (name, Some(rest)));
    let selection = match selection {
        None => PortSelection::All,
        Some(rest) => {
            let (first, last) = rest.split_once('-').unwrap_or((rest, rest));
            match (first.parse(), last.parse()) {
                (Ok(first), Ok(last)) => PortSelection::Range(first, last),
                _ => PortSelection::Named(rest.into()),
            }
        }
    };
    Port { protocol: protocol(protocol_name), selection }
}

/// `TCP`, `UDP` or `SCTP`.
pub(super) fn protocol(text: &str) -> Protocol {
    let known = Protocol::ALL.into_iter().find(|protocol| protocol.as_str() == text);
    known.unwrap_or_else(|| panic!("no protocol: {text:?}"))
}

/// `TCP/80`, `ICMP`, or `IP/47` for another protocol.
pub(super) fn transport(text: &str) -> Transport {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("no port: {text:?}"));
    match text.split_once('/') {
        None if text == "ICMP" => Transport::Icmp,
        None => panic!("no transport: {text:?}"),
        Some(("IP", other)) => Transport::Other(other.parse().unwrap_or_else(|_| panic!("no protocol: {text:?}"))),
        Some((name, port)) => Transport::Port(protocol(name), number(port)),
    }
}

/// The parts of `cluster/name` or `cluster/namespace/name`.
pub(super) fn key<const N: usize>(text: &str) -> [&str; N] {
    let parts: Vec<&str> = text.split('/').collect();
    parts.try_into().unwrap_or_else(|_| panic!("not {N} parts: {text:?}"))
}

pub(super) fn cluster(text: &str) -> ClusterId {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}
