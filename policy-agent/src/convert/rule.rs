//! The rules of a NetworkPolicy: peers and ports. A part that cannot be read loses its rule, and no other.

use policy_core::model::{
    Allowance, Direction, IpBlock, IssueCode, Peer, Port, PortSelection, Protocol, Rule, Selector,
};

use super::cidr::parse_cidr;
use super::label::check_port_name;
use super::pod::protocol;
use super::reader::{At, Notes, Unread, collect, elements_of};
use super::selector;

/// Reads the rules of one direction. What is no list is one rule that cannot be read: it still isolates.
pub(super) fn read_all(at: &At<'_>, direction: Direction, notes: &mut Notes<'_>) -> Vec<Rule> {
    let Ok(elements) = at.elements(notes) else { return vec![Rule::Unreadable] };
    let read = |element: &At<'_>| allowance(element, direction, notes).map_or(Rule::Unreadable, Rule::Allow);
    elements.iter().map(read).collect()
}

fn allowance(at: &At<'_>, direction: Direction, notes: &mut Notes<'_>) -> Result<Allowance, Unread> {
    let peers = direction.peers_field();
    let known = at.only(&[peers, "ports"], notes);
    let peers = list(at.get(peers).as_ref(), notes, peer);
    let ports = list(at.get("ports").as_ref(), notes, port);
    known?;
    Ok(Allowance { peers: peers?, ports: ports? })
}

/// Reads a list whose absence and emptiness mean everything.
fn list<T>(
    at: Option<&At<'_>>,
    notes: &mut Notes<'_>,
    read: fn(&At<'_>, &mut Notes<'_>) -> Result<T, Unread>,
) -> Result<Option<Vec<T>>, Unread> {
    let Some(at) = at else { return Ok(None) };
    let mut list = Ok(Vec::new());
    for element in at.elements(notes)? {
        collect(&mut list, read(&element, notes));
    }
    Ok(Some(list?).filter(|list| !list.is_empty()))
}

fn peer(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Peer, Unread> {
    let known = at.only(&["podSelector", "namespaceSelector", "ipBlock"], notes);
    let selector = |name, notes: &mut Notes<'_>| -> Result<Option<Selector>, Unread> {
        at.get(name).map(|place| selector::read(&place, notes)).transpose()
    };
    let namespaces = selector("namespaceSelector", notes);
    let pods = selector("podSelector", notes);
    let block = at.get("ipBlock").map(|place| ip_block(&place, notes)).transpose();
    known?;
    match (namespaces?, pods?, block?) {
        (None, None, Some(block)) => Ok(Peer::Block(block)),
        (None, None, None) => Err(notes.unreadable(
            at,
            "names nobody: give it a podSelector, a namespaceSelector or an ipBlock (everybody is a rule without peers)",
        )),
        (namespaces, pods, None) => Ok(Peer::Pods { namespaces, pods }),
        (_, _, Some(_)) => Err(notes.unreadable(
            &at.member("ipBlock"),
            "cannot stand beside a podSelector or a namespaceSelector; make it a peer of its own",
        )),
    }
}

fn ip_block(at: &At<'_>, notes: &mut Notes<'_>) -> Result<IpBlock, Unread> {
    let known = at.only(&["cidr", "except"], notes);
    let cidr = range(&at.member("cidr"), notes);
    let place = at.get("except");
    let mut holes = Ok(Vec::new());
    for element in elements_of(place.as_ref(), notes)? {
        collect(&mut holes, range(&element, notes).map(|hole| (element, hole)));
    }
    known?;
    let (cidr, holes) = (cidr?, holes?);
    let mut except = Ok(Vec::new());
    for (place, hole) in holes {
        let inside = cidr.contains(&hole) && hole.prefix_len() > cidr.prefix_len();
        let read = match inside {
            true => Ok(hole),
            false => Err(notes.unreadable(&place, format_args!("{hole} is not strictly inside {cidr}"))),
        };
        collect(&mut except, read);
    }
    Ok(IpBlock { cidr, except: except? })
}

fn range(at: &At<'_>, notes: &mut Notes<'_>) -> Result<ipnet::IpNet, Unread> {
    let text = at.string(notes)?;
    let cidr = parse_cidr(text).map_err(|why| notes.unreadable(at, format_args!("{text:?} {why}")))?;
    if cidr.masked {
        let message = format_args!("{text} has host bits, which are ignored; write {}", cidr.net);
        notes.warn(IssueCode::MaskedHostBits, at, message);
    }
    Ok(cidr.net)
}

fn port(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Port, Unread> {
    let known = at.only(&["protocol", "port", "endPort"], notes);
    let protocol = at.get("protocol").map_or(Ok(Protocol::Tcp), |place| protocol(&place, notes));
    let selection = selection(at, notes);
    known?;
    Ok(Port { protocol: protocol?, selection: selection? })
}

fn selection(at: &At<'_>, notes: &mut Notes<'_>) -> Result<PortSelection, Unread> {
    let end = at.get("endPort");
    let Some(place) = at.get("port") else {
        return match end {
            None => Ok(PortSelection::All),
            Some(end) => Err(notes.unreadable(&end, "needs a port to begin with")),
        };
    };
    if let Some(name) = place.value().as_str() {
        check_port_name(name).map_err(|why| notes.unreadable(&place, format_args!("{name:?} is no port: {why}")))?;
        return match end {
            None => Ok(PortSelection::Named(name.into())),
            Some(end) => Err(notes.unreadable(&end, "needs a port that is a number, not a name")),
        };
    }
    let first = place.port_number(notes);
    let last = end.map(|end| end.port_number(notes)).transpose();
    let (first, last) = (first?, last?);
    match last {
        Some(last) if last < first => Err(notes.unreadable(
            &at.member("endPort"),
            format_args!("{last} is less than the port {first}; the range is empty"),
        )),
        last => Ok(PortSelection::Range(first, last.unwrap_or(first))),
    }
}
