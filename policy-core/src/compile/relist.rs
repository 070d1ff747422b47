//! What a new list of a cluster's objects means: those that it does not hold are gone.

use super::{Compiler, Touched};
use crate::model::{ClusterId, Event, Listing};

impl Compiler {
    /// Forgets what a new list of a cluster's objects does not hold.
    pub(super) fn keep_only(&mut self, cluster: &ClusterId, listing: &Listing, touched: &mut Touched) {
        let gone: Vec<Event> = match listing {
            Listing::Namespaces(keys) => {
                let known = self.index.namespaces().map(|namespace| &namespace.key);
                let gone = known.filter(|key| key.cluster == *cluster && !keys.contains(key));
                gone.cloned().map(Event::NamespaceDeleted).collect()
            }
            Listing::Pods(keys) => {
                let known = self.index.pods().filter(|entry| entry.cluster() == cluster);
                let known = known.map(|entry| (entry.key(), entry.uid()));
                let gone = known.filter(|(key, _)| !keys.contains(key));
                gone.map(|(key, uid)| Event::PodDeleted { key, uid }).collect()
            }
            // Nothing of these is kept here.
            Listing::Nodes(_) | Listing::Services(_) | Listing::EndpointSlices(_) => return,
            Listing::Policies(keys) => {
                let gone = self.policies.keys().filter(|key| key.cluster == *cluster && !keys.contains(key));
                gone.cloned().map(Event::PolicyDeleted).collect()
            }
        };
        gone.iter().for_each(|event| self.take_in(event, touched));
    }
}
