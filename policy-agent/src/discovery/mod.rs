//! Finds the interface behind which a pod is, by its address: route → interface, and behind a bridge neighbour →
//! forwarding database → port. Only looks; never attaches, never changes a route.

mod error;
mod lookups;
mod netlink;
mod watch;

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_core::node::Attachment;

pub use error::{DiscoveryError, Obstacle};

use lookups::{Link, Lookups, Route};
use watch::Watch;

/// The host side of a pod's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Where it is.
    pub attachment: Attachment,
    /// Its name.
    pub name: String,
}

/// Where an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// Behind an interface of this node.
    At(Interface),
    /// Behind none, as far as can be told now; [`Discovery::changed`] tells when to look again.
    Nowhere(Obstacle),
}

/// The network of the namespace that it was opened in.
pub struct Discovery {
    lookups: Lookups,
    watch: Watch,
}

impl Discovery {
    /// In the network namespace of the thread; needs a tokio runtime.
    pub fn open() -> Result<Self, DiscoveryError> {
        // Listening begins first, so that what changes between two looks is told.
        let watch = Watch::open()?;
        Ok(Self { lookups: Lookups::open()?, watch })
    }

    /// Begins a look at many addresses. What is the same for all of them, the forwarding database of a bridge and the ways
    /// to other nodes, is listed once a look.
    pub fn refresh(&mut self) {
        self.lookups.forget();
    }

    /// The interface behind which a pod with these addresses is. One that can be found is enough, but those that can be
    /// found must be behind the same one.
    ///
    /// Behind a bridge, a neighbour that has not answered yet is asked, and not waited for.
    ///
    /// # Errors
    ///
    /// If the addresses are behind different interfaces, or the kernel refuses to tell.
    pub fn locate(&mut self, addresses: &[IpAddr]) -> Result<Located, DiscoveryError> {
        let mut found: Option<(IpAddr, Interface)> = None;
        let mut obstacle = Obstacle::NoRoute;
        for &address in addresses {
            match (self.locate_one(address)?, &found) {
                (Located::At(interface), None) => found = Some((address, interface)),
                (Located::At(interface), Some(one)) if interface != one.1 => {
                    return Err(DiscoveryError::Disagreement {
                        address: one.0,
                        interface: one.1.name.clone(),
                        other: address,
                        other_interface: interface.name,
                    });
                }
                (Located::Nowhere(other), _) => obstacle = more_telling(obstacle, other),
                (Located::At(_), Some(_)) => {}
            }
        }
        Ok(found.map_or(Located::Nowhere(obstacle), |(_, interface)| Located::At(interface)))
    }

    fn locate_one(&mut self, address: IpAddr) -> Result<Located, DiscoveryError> {
        let nowhere = |obstacle| Ok(Located::Nowhere(obstacle));
        let ifindex = match self.lookups.route(address)? {
            Route::Link(ifindex) => ifindex,
            Route::Gateway(gateway) => return nowhere(Obstacle::Gateway(gateway)),
            Route::Own => return nowhere(Obstacle::OwnAddress),
            Route::None => return nowhere(Obstacle::NoRoute),
        };
        let Some(link) = self.lookups.link(ifindex)? else { return nowhere(Obstacle::Gone) };
        if link.kind.as_deref() == Some("bridge") {
            return self.behind(&link, address);
        }
        if self.lookups.is_uplink(ifindex)? {
            return nowhere(Obstacle::Uplink(link.name));
        }
        Ok(endpoint(link, None))
    }

    /// The port of a bridge behind which an address is.
    fn behind(&mut self, bridge: &Link, address: IpAddr) -> Result<Located, DiscoveryError> {
        let neighbour = self.lookups.neighbour(bridge.ifindex, address)?;
        let port = match &neighbour {
            Some(neighbour) => {
                self.watch.seek(address, &neighbour.mac);
                self.lookups.port(bridge.ifindex, &neighbour.mac)?
            }
            None => None,
        };
        let Some(port) = port else {
            self.lookups.provoke(bridge.ifindex, address, neighbour.as_ref())?;
            return Ok(Located::Nowhere(Obstacle::Asked { bridge: bridge.name.clone() }));
        };
        Ok(match self.lookups.link(port)? {
            Some(link) => endpoint(link, Some(bridge.ifindex)),
            None => Located::Nowhere(Obstacle::Gone),
        })
    }

    /// An interface by its number, whatever is behind it; `None`: it is gone.
    pub fn interface(&mut self, ifindex: u32) -> Result<Option<Interface>, DiscoveryError> {
        let Some(link) = self.lookups.link(ifindex)? else { return Ok(None) };
        let master = match link.master {
            Some(master) => self.lookups.link(master)?,
            None => None,
        };
        let bridge = master.filter(|master| master.kind.as_deref() == Some("bridge")).map(|master| master.ifindex);
        Ok(Some(Interface { attachment: Attachment { ifindex, bridge }, name: link.name }))
    }

    /// The addresses of the node itself.
    pub fn host_addresses(&mut self) -> Result<BTreeSet<IpAddr>, DiscoveryError> {
        self.lookups.own_addresses()
    }

    /// Waits until interfaces, routes, neighbours or addresses may have changed. Loses nothing when it is dropped.
    pub async fn changed(&mut self) {
        self.watch.changed().await;
    }
}

/// A pod's interface is a veth: what is not could be the way to other nodes.
fn endpoint(link: Link, bridge: Option<u32>) -> Located {
    if link.kind.as_deref() == Some("veth") {
        let attachment = Attachment { ifindex: link.ifindex, bridge };
        Located::At(Interface { attachment, name: link.name })
    } else {
        Located::Nowhere(Obstacle::Kind { name: link.name, kind: link.kind })
    }
}

/// Of two addresses' obstacles, the one that says more: that there is no route is usual for a family not in use.
fn more_telling(one: Obstacle, other: Obstacle) -> Obstacle {
    if one == Obstacle::NoRoute { other } else { one }
}
