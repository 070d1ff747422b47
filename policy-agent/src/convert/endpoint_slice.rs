//! EndpointSlices: who answers for a Service, read as a Service's proxy reads them (pkg/proxy/endpointslicecache.go of
//! Kubernetes).

use std::net::IpAddr;

use policy_core::model::{Backend, BackendState, EndpointSlice, EndpointSliceKey, TargetPort, Text};

use super::pod;
use super::reader::{At, Notes, Unread, collect, elements_of};
use super::service::name_and_protocol;

/// The label by which a slice says which Service it is about.
const SERVICE_NAME_KEY: &str = "kubernetes.io/service-name";

/// Reads an EndpointSlice; one that is about no Service, or whose backends are names, says nothing. Others are read as a
/// whole or not at all: some of a Service's backends are not its backends.
pub(super) fn read(key: &EndpointSliceKey, object: &At<'_>, notes: &mut Notes<'_>) -> Result<EndpointSlice, Unread> {
    let is_v4 = match object.member("addressType").string(notes)? {
        "IPv4" => Some(true),
        "IPv6" => Some(false),
        "FQDN" => None,
        other => {
            let place = object.member("addressType");
            return Err(notes.unreadable(&place, format_args!("{other:?} is no type of addresses: IPv4, IPv6 or FQDN")));
        }
    };
    let service = service(object, notes)?;
    let (Some(is_v4), Some(service)) = (is_v4, service) else {
        return Ok(EndpointSlice { key: key.clone(), service: None, ports: Vec::new(), backends: Vec::new() });
    };
    let list = object.get("ports");
    let mut ports = Ok(Vec::new());
    for place in elements_of(list.as_ref(), notes)? {
        if let Some(port) = port(&place, notes).transpose() {
            collect(&mut ports, port);
        }
    }
    let list = object.get("endpoints");
    let mut backends = Ok(Vec::new());
    for place in elements_of(list.as_ref(), notes)? {
        if let Some(backend) = backend(&place, is_v4, notes).transpose() {
            collect(&mut backends, backend);
        }
    }
    Ok(EndpointSlice { key: key.clone(), service: Some(service), ports: ports?, backends: backends? })
}

fn service(object: &At<'_>, notes: &mut Notes<'_>) -> Result<Option<Text>, Unread> {
    let metadata = object.member("metadata");
    let Some(labels) = metadata.get("labels") else { return Ok(None) };
    labels.map(notes)?;
    let Some(place) = labels.get(SERVICE_NAME_KEY) else { return Ok(None) };
    let name = place.string(notes)?;
    Ok((!name.is_empty()).then(|| name.into()))
}

/// A port without a number stands for all of them, by which a proxy sends nothing.
fn port(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Option<TargetPort>, Unread> {
    at.map(notes)?;
    let (name, protocol) = name_and_protocol(at, notes)?;
    let Some(number) = at.get("port") else { return Ok(None) };
    Ok(Some(TargetPort { name, protocol, number: number.port_number(notes)? }))
}

/// Reads a backend by the first of its addresses, which stands for all; `None`: it gets no traffic.
fn backend(at: &At<'_>, is_v4: bool, notes: &mut Notes<'_>) -> Result<Option<Backend>, Unread> {
    at.map(notes)?;
    let list = at.member("addresses");
    let addresses = list.elements(notes)?;
    let Some(first) = addresses.first() else { return Err(notes.unreadable(&list, "a backend needs an address")) };
    let address: IpAddr = pod::address(first, notes)?;
    if address.is_ipv4() != is_v4 {
        let family = if is_v4 { "IPv4" } else { "IPv6" };
        return Err(notes.unreadable(first, format_args!("{address} is none of addressType {family}")));
    }
    let conditions = at.member("conditions");
    if !conditions.value().is_null() {
        conditions.map(notes)?;
    }
    let mut is = |name: &str, unsaid: bool| conditions.get(name).map_or(Ok(unsaid), |place| place.boolean(notes));
    let state = match (is("ready", true)?, is("serving", true)?, is("terminating", false)?) {
        (true, _, _) => BackendState::Ready,
        (false, true, true) => BackendState::Draining,
        (false, _, _) => return Ok(None),
    };
    Ok(Some(Backend { address, state }))
}
