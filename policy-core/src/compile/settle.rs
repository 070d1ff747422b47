//! The compiler's second half: what events have touched is brought up to date, subjects first, then prefixes, then
//! addresses; whatever of it moves is noted as dirty.

use std::net::IpAddr;

use super::content::Content;
use super::{Compiler, Identity, PolicyId, Touched};
use crate::facet::{Facet, Signature};
use crate::index::{GroupId, Note, PodEntry};
use crate::intern::Effect;

impl Compiler {
    /// Brings everything that depends on what was touched up to date.
    pub(super) fn settle(&mut self, mut touched: Touched) {
        self.settle_subjects(&mut touched);
        if touched.blocks {
            self.settle_prefixes(&mut touched);
        }
        let mut addresses = std::mem::take(&mut touched.addresses);
        addresses.sort();
        addresses.dedup();
        for address in addresses {
            let left = touched.left.remove(&address);
            self.settle_address(address, left);
        }
        for group in touched.groups {
            self.settle_group(group);
        }
    }

    fn settle_subjects(&mut self, touched: &mut Touched) {
        for key in std::mem::take(&mut touched.subjects) {
            let wanted = self.subjects.wanted(&key, &self.index, |namespace| {
                let keys = self.policies_by_namespace.get(namespace).into_iter().flatten();
                keys.filter_map(|key| self.policies.get(key))
            });
            let wanted = wanted.map(|wanted| wanted.number(|content| self.acquire_policy(content, touched)));
            let (changed, outdated) = self.subjects.replace(&key, wanted.as_ref());
            for policy in outdated {
                self.release_policy(policy, touched);
            }
            if changed {
                self.dirty.subjects.insert(key);
            }
        }
    }

    fn settle_prefixes(&mut self, touched: &mut Touched) {
        let moved = self.blocks.cut();
        let covered = |address: &IpAddr| moved.iter().any(|prefix| prefix.contains(address));
        touched.addresses.extend(self.index.notes().map(|(address, _)| address).filter(covered));
        for prefix in moved {
            let identity = self.blocks.prefix(&prefix).cloned().map(|signature| self.acquire_identity(signature));
            let before = match identity {
                Some(identity) => self.prefixes.insert(prefix, identity),
                None => self.prefixes.remove(&prefix),
            };
            if before != identity {
                self.dirty.prefixes.insert(prefix);
            }
            self.release_identity(before);
        }
    }

    fn settle_address(&mut self, address: IpAddr, left: Note) {
        let identity = self.identity_of(address, self.index.owner(address).and_then(PodEntry::group));
        let before = left.or(self.index.set_note(address, identity.and_then(Identity::note)));
        self.identity_moved(address, before, identity);
    }

    /// Most addresses are of one pod alone, and those of a group mostly lie in the same blocks.
    fn settle_group(&mut self, group: GroupId) {
        let addresses: Vec<_> = self.index.addresses_of(group).collect();
        for (address, pod) in addresses {
            match pod {
                Some(pod) => {
                    let identity = self.identity_of(address, Some(group));
                    let before = self.index.set_note_of(pod, address, identity.and_then(Identity::note));
                    self.identity_moved(address, before, identity);
                }
                None => self.settle_address(address, None),
            }
        }
    }

    /// An address has an entry of its own when a group's signature says more of it than its prefix.
    fn identity_of(&mut self, address: IpAddr, group: Option<GroupId>) -> Option<Identity> {
        let mut signature = Signature::from_slice(group.map_or(&[], |group| self.facets.signature(group)));
        (!signature.is_empty()).then(|| {
            signature.extend_from_slice(self.blocks.covering(address));
            signature.sort_unstable();
            self.acquire_identity(signature)
        })
    }

    fn identity_moved(&mut self, address: IpAddr, before: Note, identity: Option<Identity>) {
        let before = before.map(Identity::noted);
        if before != identity {
            self.dirty.addresses.push((address, identity));
        }
        self.release_identity(before);
    }

    fn acquire_identity(&mut self, signature: Signature) -> Identity {
        if signature.is_empty() {
            return Identity::WORLD;
        }
        let (number, effect) = self.identities.acquire(signature);
        let identity = Identity(number);
        if effect == Effect::Changed
            && let Some(signature) = self.identities.get(number)
        {
            self.rows.add_identity(identity, signature, &self.facets, &mut self.dirty);
        }
        identity
    }

    fn release_identity(&mut self, identity: Option<Identity>) {
        if let Some(identity) = identity.filter(|identity| *identity != Identity::WORLD)
            && self.identities.release(identity.0).is_some()
        {
            self.rows.remove_identity(identity, &mut self.dirty);
        }
    }

    fn acquire_policy(&mut self, content: Content, touched: &mut Touched) -> PolicyId {
        if let Some(policy) = self.rows.share_policy(&content) {
            return policy;
        }
        let facets = content
            .facets()
            .into_iter()
            .map(|facet| {
                let id = self.facets.acquire(facet, &self.index, &mut touched.groups);
                if let Facet::Block(block) = facet {
                    self.blocks.insert(id, block.clone());
                    touched.blocks = true;
                }
                (facet.clone(), id)
            })
            .collect();
        for named in content.named_peers(&facets) {
            self.facets.acquire_name(&named, &self.index, &mut touched.groups);
        }
        let identities = self.identities.numbers();
        let signatures =
            identities.iter().filter_map(|number| Some((Identity(*number), self.identities.get(*number)?.as_slice())));
        self.rows.add_policy(content, &facets, signatures, &self.facets, &mut self.dirty)
    }

    fn release_policy(&mut self, policy: PolicyId, touched: &mut Touched) {
        let Some(gone) = self.rows.release_policy(policy, &mut self.dirty) else { return };
        // Who matches a peer is known as long as its facet is.
        for named in gone.named {
            self.facets.release_name(&named, &mut touched.groups);
        }
        for facet in gone.facets {
            if let Some(Facet::Block(_)) = self.facets.release(facet, &mut touched.groups) {
                self.blocks.remove(facet);
                touched.blocks = true;
            }
        }
    }
}
