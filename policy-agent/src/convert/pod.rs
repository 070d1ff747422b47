//! Pods: labels, addresses, ports, and where they stand in their life.

use std::collections::HashSet;
use std::net::IpAddr;

use policy_core::model::{ContainerPort, IssueCode, Lifecycle, Pod, PodKey, Protocol, Text, Timestamp};

use super::cidr::parse_address;
use super::label::check_port_name;
use super::meta::{self, optional};
use super::reader::{At, Notes, Unread, elements_of};
use super::time;

/// Reads a Pod. Only what decides whose it is must be readable: labels and whether it has a network of its own.
pub(super) fn read(key: &PodKey, object: &At<'_>, notes: &mut Notes<'_>) -> Result<Pod, Unread> {
    let (metadata, spec, status) = (object.member("metadata"), object.member("spec"), object.member("status"));
    let labels = meta::labels(object, notes);
    let has_spec = if spec.value().is_null() { Ok(()) } else { spec.map(notes).map(drop) };
    let host_network = spec.get("hostNetwork").map_or(Ok(false), |place| place.boolean(notes));
    optional(metadata.get("uid").as_ref(), notes, |at, notes| at.string(notes).map(drop));
    let node = optional(spec.get("nodeName").as_ref(), notes, |at, notes| at.string(notes).map(Text::from));
    let lifecycle = lifecycle(&metadata, &status, notes);
    let created = optional(metadata.get("creationTimestamp").as_ref(), notes, timestamp);
    let addresses = addresses(&status, notes);
    let ports = ports(&spec, notes);
    has_spec?;
    Ok(Pod {
        key: key.clone(),
        uid: uid(key, object),
        labels: labels?,
        addresses,
        ports,
        node: node.filter(|node| !node.is_empty()),
        host_network: host_network?,
        lifecycle,
        created,
    })
}

/// A pod's uid; one that has none, as in manifests, is known by its name.
pub(super) fn uid(key: &PodKey, object: &At<'_>) -> Text {
    let metadata = object.member("metadata");
    let uid = metadata.member("uid").value().as_str().filter(|uid| !uid.is_empty());
    uid.map_or_else(|| key.to_string().into(), Text::from)
}

/// Reads one address.
pub(super) fn address(at: &At<'_>, notes: &mut Notes<'_>) -> Result<IpAddr, Unread> {
    let text = at.string(notes)?;
    parse_address(text).map_err(|why| notes.unreadable(at, format_args!("{text:?} {why}")))
}

fn lifecycle(metadata: &At<'_>, status: &At<'_>, notes: &mut Notes<'_>) -> Lifecycle {
    let phase = optional(status.get("phase").as_ref(), notes, |at, notes| at.string(notes).map(str::to_owned));
    // Whatever its value, the member's presence says that the pod is being deleted.
    let deleting = metadata.get("deletionTimestamp");
    optional(deleting.as_ref(), notes, timestamp);
    match phase.as_deref() {
        Some("Succeeded" | "Failed") => Lifecycle::Finished,
        _ if deleting.is_some() => Lifecycle::Terminating,
        _ => Lifecycle::Live,
    }
}

fn timestamp(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Timestamp, Unread> {
    let text = at.string(notes)?;
    time::parse(text)
        .ok_or_else(|| notes.unreadable(at, format_args!("{text:?} is no RFC 3339 timestamp, as 2024-01-31T12:00:00Z")))
}

/// `podIPs` where there are any, else `podIP`; the first of each family.
fn addresses(status: &At<'_>, notes: &mut Notes<'_>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    if !status.value().is_null() {
        optional(Some(status), notes, |status, notes| status.map(notes).map(drop));
    }
    let list = status.get("podIPs");
    let elements = optional(list.as_ref(), notes, |_, notes| elements_of(list.as_ref(), notes)).unwrap_or_default();
    for element in &elements {
        let place = element.member("ip");
        if let Some(address) = optional(Some(&place), notes, address) {
            match addresses.iter().find(|kept| kept.is_ipv4() == address.is_ipv4()) {
                None => addresses.push(address),
                Some(kept) if *kept == address => (),
                Some(kept) => notes.warn(
                    IssueCode::ExtraAddress,
                    &place,
                    format_args!("{address} is a second address of one family; {kept} counts"),
                ),
            }
        }
    }
    let single = status.get("podIP").filter(|place| place.value() != "");
    if elements.is_empty() {
        addresses.extend(optional(single.as_ref(), notes, address));
    }
    addresses
}

fn ports(spec: &At<'_>, notes: &mut Notes<'_>) -> Vec<ContainerPort> {
    let mut ports = Vec::new();
    let mut names = HashSet::new();
    for list in ["containers", "initContainers"] {
        let list = spec.get(list);
        let containers = optional(list.as_ref(), notes, |_, notes| elements_of(list.as_ref(), notes));
        for container in containers.unwrap_or_default() {
            let list = container.get("ports");
            let declared = optional(list.as_ref(), notes, |_, notes| elements_of(list.as_ref(), notes));
            for place in declared.unwrap_or_default() {
                let Some(port) = optional(Some(&place), notes, port) else { continue };
                if let Some(name) = &port.name
                    && !names.insert((name.clone(), port.protocol))
                {
                    notes.warn(
                        IssueCode::RepeatedPortName,
                        &place.member("name"),
                        format_args!("{name:?} names a {} port twice; the first counts", port.protocol.as_str()),
                    );
                }
                ports.push(port);
            }
        }
    }
    ports
}

fn port(at: &At<'_>, notes: &mut Notes<'_>) -> Result<ContainerPort, Unread> {
    at.map(notes)?;
    let number = at.member("containerPort").port_number(notes)?;
    let protocol = at.get("protocol").map_or(Ok(Protocol::Tcp), |place| protocol(&place, notes))?;
    let place = at.get("name").filter(|place| place.value() != "");
    let name = optional(place.as_ref(), notes, |at, notes| {
        let name = at.string(notes)?;
        check_port_name(name).map_err(|why| notes.unreadable(at, format_args!("{name:?} is no port name: {why}")))?;
        Ok(Text::from(name))
    });
    Ok(ContainerPort { name, protocol, number })
}

/// Reads a protocol's name.
pub(super) fn protocol(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Protocol, Unread> {
    let name = at.string(notes)?;
    Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.as_str() == name)
        .ok_or_else(|| notes.unreadable(at, format_args!("{name:?} is no protocol: TCP, UDP or SCTP, in capitals")))
}
