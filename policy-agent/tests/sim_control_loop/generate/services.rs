//! Services and slices that scripts come up with, at addresses that pods and policies have too: no verdict rests on them.

use policy_core::model::Event;
use policy_core::testing::services;

use super::{Maker, SLOTS, slot_addresses};

impl Maker {
    /// A Service or a slice comes, changes or goes.
    pub(super) fn service(&mut self) {
        let own = slot_addresses(self.dice.below(SLOTS));
        let event = match self.dice.below(6) {
            0..2 => {
                let mut service = self.draw(&services::services());
                if self.dice.percent(50) {
                    service.addresses = own;
                }
                Event::ServiceApplied(service)
            }
            2..4 => {
                let mut slice = self.draw(&services::slices());
                slice.backends.iter_mut().zip(own).for_each(|(backend, address)| backend.address = address);
                Event::EndpointSliceApplied(slice)
            }
            4 => Event::ServiceDeleted(self.draw(&services::services()).key),
            _ => Event::EndpointSliceDeleted(self.draw(&services::slices()).key),
        };
        self.change(vec![event]);
    }
}
