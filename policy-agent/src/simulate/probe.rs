//! One probe of `policyctl simulate`: a JSON object whose fields come back as they were written.

use std::fmt;
use std::net::IpAddr;

use policy_core::index::PodEntry;
use policy_core::model::{ClusterId, Connection, PodKey, Protocol, Transport};
use policy_core::simulate::{Party, Simulation};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The fields of a JSON object, verbatim and in order.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// Adds a field that is not there yet.
    pub fn add(&mut self, name: &str, value: &impl Serialize) -> serde_json::Result<()> {
        self.0.push((name.to_owned(), serde_json::value::to_raw_value(value)?));
        Ok(())
    }

    /// Takes these fields away, however often they are there.
    pub fn remove(&mut self, names: &[&str]) {
        self.0.retain(|(known, _)| !names.contains(&known.as_str()));
    }

    fn get<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<Result<T, serde_json::Error>> {
        let (_, raw) = self.0.iter().rfind(|(known, _)| known == name)?;
        if raw.get() == "null" {
            return None;
        }
        Some(serde_json::from_str(raw.get()))
    }

    /// A field for people: strings without quotes; empty where there is none.
    pub fn display(&self, name: &str) -> String {
        let raw = self.0.iter().rfind(|(known, _)| known == name).map_or("", |(_, raw)| raw.get());
        serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned())
    }

    /// The text of a field, or why there is none.
    fn text(&self, name: &'static str) -> Result<Option<String>, ProbeError> {
        let wrong = |_| ProbeError::Field { name, expected: "a string" };
        self.get::<String>(name).transpose().map_err(wrong)
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Why a probe cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// A field is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field has a wrong type or value.
    #[error("{name} is not {expected}")]
    Field {
        /// The field.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A pod reference is neither.
    #[error("{0:?} is neither CLUSTER/NAMESPACE/POD nor an address")]
    Reference(String),
    /// The cluster is no member.
    #[error("{0} is no member of the ClusterSet")]
    UnknownCluster(String),
    /// There is no such pod.
    #[error("{0} is not known: no manifest of its cluster has a pod of that name")]
    UnknownPod(String),
    /// The two ends have no address of one family.
    #[error("{from} and {to} have no common address family{asked}")]
    NoCommonFamily {
        /// The source.
        from: String,
        /// The destination.
        to: String,
        /// Which family was asked for.
        asked: &'static str,
    },
    /// TCP, UDP and SCTP need a port.
    #[error("{0} needs a port from 1 to 65535")]
    NoPort(&'static str),
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeFamily {
    /// `IPv4`.
    V4,
    /// `IPv6`.
    V6,
}

impl ProbeFamily {
    fn holds(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// A probe that can be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who opens the connection.
    pub from: Party,
    /// Who is asked.
    pub to: Party,
    /// The connection.
    pub connection: Connection,
}

/// What a probe should come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// `allow`.
    Allow,
    /// `deny`.
    Deny,
}

impl Expectation {
    /// What the probe's author expects, if anything.
    pub fn of(fields: &Fields) -> Result<Option<Self>, ProbeError> {
        match fields.text("expect")?.as_deref() {
            None => Ok(None),
            Some("allow") => Ok(Some(Self::Allow)),
            Some("deny") => Ok(Some(Self::Deny)),
            Some(_) => Err(ProbeError::Field { name: "expect", expected: "\"allow\" or \"deny\"" }),
        }
    }
}

impl Probe {
    /// Resolves a probe's fields in a ClusterSet.
    pub fn resolve(fields: &Fields, simulation: &Simulation) -> Result<Self, ProbeError> {
        let from_text = fields.text("from")?.ok_or(ProbeError::Missing("from"))?;
        let to_text = fields.text("to")?.ok_or(ProbeError::Missing("to"))?;
        let transport = transport(fields)?;
        let family = family(fields)?;
        let (from, to) = (Place::find(&from_text, simulation)?, Place::find(&to_text, simulation)?);
        let (source, destination) = common(&from, &to, family).ok_or(ProbeError::NoCommonFamily {
            from: from_text,
            to: to_text,
            asked: match family {
                None => "",
                Some(ProbeFamily::V4) => " IPv4",
                Some(ProbeFamily::V6) => " IPv6",
            },
        })?;
        let party = |place: Place, address| Party { pod: place.workload, address };
        let connection = Connection { source, destination, transport };
        Ok(Self { from: party(from, source), to: party(to, destination), connection })
    }
}

/// What a reference means: a workload or not, and its addresses.
struct Place {
    workload: Option<PodKey>,
    addresses: Vec<IpAddr>,
}

impl Place {
    fn find(reference: &str, simulation: &Simulation) -> Result<Self, ProbeError> {
        if let Ok(address) = reference.parse::<IpAddr>() {
            let address = address.to_canonical();
            let workload = simulation.workload_at(address).map(PodEntry::key);
            return Ok(Self { workload, addresses: vec![address] });
        }
        let parts: Vec<&str> = reference.split('/').collect();
        let [cluster, namespace, name] = parts[..] else { return Err(ProbeError::Reference(reference.to_owned())) };
        let unknown = || ProbeError::UnknownCluster(cluster.to_owned());
        let cluster: ClusterId = cluster.parse().map_err(|_| unknown())?;
        simulation.member(&cluster).ok_or_else(unknown)?;
        let key = PodKey { cluster, namespace: namespace.into(), name: name.into() };
        let pod = simulation.pod(&key).ok_or_else(|| ProbeError::UnknownPod(reference.to_owned()))?;
        Ok(Self { workload: pod.is_workload().then(|| key.clone()), addresses: pod.addresses().into_vec() })
    }

    fn address(&self, family: ProbeFamily) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| family.holds(*address))
    }
}

/// An address of each end, of the family asked for, else of IPv4 where both have it, else of IPv6.
fn common(from: &Place, to: &Place, family: Option<ProbeFamily>) -> Option<(IpAddr, IpAddr)> {
    let families = match family {
        Some(family) => vec![family],
        None => vec![ProbeFamily::V4, ProbeFamily::V6],
    };
    families.into_iter().find_map(|family| Some((from.address(family)?, to.address(family)?)))
}

fn family(fields: &Fields) -> Result<Option<ProbeFamily>, ProbeError> {
    match fields.text("family")?.as_deref() {
        None => Ok(None),
        Some("IPv4") => Ok(Some(ProbeFamily::V4)),
        Some("IPv6") => Ok(Some(ProbeFamily::V6)),
        Some(_) => Err(ProbeError::Field { name: "family", expected: "\"IPv4\" or \"IPv6\"" }),
    }
}

fn transport(fields: &Fields) -> Result<Transport, ProbeError> {
    let protocol = match fields.text("protocol")?.as_deref() {
        None => return Err(ProbeError::Missing("protocol")),
        Some("ICMP") => return Ok(Transport::Icmp),
        Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => return Err(ProbeError::Field { name: "protocol", expected: "TCP, UDP, SCTP or ICMP" }),
    };
    match fields.get::<u16>("port") {
        Some(Ok(port)) if port > 0 => Ok(Transport::Port(protocol, port)),
        _ => Err(ProbeError::NoPort(protocol.as_str())),
    }
}
