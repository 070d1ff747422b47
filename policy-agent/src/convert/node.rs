//! Nodes: their addresses.

use std::net::IpAddr;

use policy_core::model::{Node, NodeKey};

use super::meta::optional;
use super::pod::address;
use super::reader::{At, Notes, Unread};

/// Reads a Node; host names among its addresses are passed over.
pub(super) fn read(key: &NodeKey, object: &At<'_>, notes: &mut Notes<'_>) -> Node {
    let status = object.member("status");
    let list = status.get("addresses");
    let mut addresses = Vec::new();
    for element in
        optional(list.as_ref(), notes, |_, notes| super::reader::elements_of(list.as_ref(), notes)).unwrap_or_default()
    {
        if let Some(Some(address)) = optional(Some(&element), notes, node_address)
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    Node { key: key.clone(), addresses }
}

fn node_address(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Option<IpAddr>, Unread> {
    match at.member("type").string(notes)? {
        "InternalIP" | "ExternalIP" => address(&at.member("address"), notes).map(Some),
        _ => Ok(None),
    }
}
