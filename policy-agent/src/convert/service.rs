//! Services: their addresses in the cluster, and their ports.

use std::net::IpAddr;

use policy_core::model::{Protocol, Service, ServiceKey, ServicePort, Text};

use super::pod;
use super::reader::{At, Notes, Unread, collect, elements_of};

/// What stands for the address of a headless Service.
const HEADLESS: &str = "None";

/// Reads a Service. With a part of it another Service would answer, so all of it must be readable.
pub(super) fn read(key: &ServiceKey, object: &At<'_>, notes: &mut Notes<'_>) -> Result<Service, Unread> {
    let spec = object.member("spec");
    let has_spec = if spec.value().is_null() { Ok(()) } else { spec.map(notes).map(drop) };
    let addresses = addresses(&spec, notes);
    let list = spec.get("ports");
    let mut ports = Ok(Vec::new());
    for place in elements_of(list.as_ref(), notes)? {
        collect(&mut ports, port(&place, notes));
    }
    has_spec?;
    Ok(Service { key: key.clone(), addresses: addresses?, ports: ports? })
}

/// `clusterIPs` where there are any, else `clusterIP`.
fn addresses(spec: &At<'_>, notes: &mut Notes<'_>) -> Result<Vec<IpAddr>, Unread> {
    let mut addresses = Ok(Vec::new());
    let list = spec.get("clusterIPs");
    let elements = elements_of(list.as_ref(), notes)?;
    let single = spec.get("clusterIP").filter(|_| elements.is_empty());
    for place in elements.iter().chain(&single) {
        if place.value() != "" && place.value() != HEADLESS {
            collect(&mut addresses, pod::address(place, notes));
        }
    }
    let mut addresses = addresses?;
    addresses.sort_unstable_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    Ok(addresses)
}

fn port(at: &At<'_>, notes: &mut Notes<'_>) -> Result<ServicePort, Unread> {
    at.map(notes)?;
    let (name, protocol) = name_and_protocol(at, notes)?;
    let port = at.member("port").port_number(notes)?;
    Ok(ServicePort { name, protocol, port })
}

/// Reads by what a port of a Service is found in its slices: a name that may be empty, and a protocol that is TCP where
/// nothing is said.
pub(super) fn name_and_protocol(at: &At<'_>, notes: &mut Notes<'_>) -> Result<(Option<Text>, Protocol), Unread> {
    let name = at.get("name").map_or(Ok(""), |place| place.string(notes))?;
    let protocol = at.get("protocol").map_or(Ok(Protocol::Tcp), |place| pod::protocol(&place, notes))?;
    Ok(((!name.is_empty()).then(|| name.into()), protocol))
}
