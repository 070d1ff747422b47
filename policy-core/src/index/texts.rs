//! Texts and ports that many objects share, kept once.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::model::{ContainerPort, Labels, Text};

/// The texts of all groups.
#[derive(Debug, Default)]
pub struct Texts {
    texts: HashSet<Text>,
    ports: HashSet<Arc<[ContainerPort]>>,
}

impl Texts {
    /// The same text, shared with all who have it.
    pub fn share(&mut self, text: &Text) -> Text {
        self.texts.get_or_insert_with(text, Text::clone).clone()
    }

    /// The same labels in shared texts.
    pub fn share_labels(&mut self, labels: &Labels) -> Labels {
        labels.iter().map(|(key, value)| (self.share(key), self.share(value))).collect()
    }

    /// The same ports, shared with all who have them.
    pub fn share_ports(&mut self, ports: &[ContainerPort]) -> Arc<[ContainerPort]> {
        if let Some(known) = self.ports.get(ports) {
            return known.clone();
        }
        let share =
            |port: &ContainerPort| ContainerPort { name: port.name.as_ref().map(|name| self.share(name)), ..*port };
        let shared: Arc<[ContainerPort]> = ports.iter().map(share).collect();
        self.ports.insert(shared.clone());
        shared
    }

    /// Somebody does not hold these labels any more: texts that nobody else holds are forgotten.
    pub fn release_labels(&mut self, labels: Labels) {
        let held = labels.iter().flat_map(|(key, value)| [key, value]).cloned().collect();
        drop(labels);
        self.release(held);
    }

    /// Somebody does not hold these ports any more: if nobody else does, they are forgotten.
    pub fn release_ports(&mut self, ports: Arc<[ContainerPort]>) {
        // One more reference is the caller's.
        if Arc::strong_count(&ports) <= 2 && self.ports.remove(&ports) {
            let held = ports.iter().filter_map(|port| port.name.clone()).collect();
            drop(ports);
            self.release(held);
        }
    }

    /// Somebody does not hold these any more, of whom only this set has references left: those that nobody else holds are
    /// forgotten. A set, since one object may say a text several times.
    pub fn release(&mut self, held: HashSet<Text>) {
        for text in held {
            if Text::strong_count(&text) <= 2 {
                self.texts.remove(&text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{labels, pod};

    #[test]
    fn what_one_object_says_twice_is_forgotten_with_it() {
        let mut texts = Texts::default();
        let said = [labels("name=dns,instance=dns,app=web"), labels("app=web")].map(|it| texts.share_labels(&it));
        let pod = pod("a/shop/dns").protocol_port("TCP", "dns", 53).protocol_port("UDP", "dns", 53).build();
        let [ports, again] = [(); 2].map(|()| texts.share_ports(&pod.ports));
        let [all, some] = said;
        texts.release_labels(all);
        texts.release_ports(ports);
        assert_eq!((texts.texts.len(), texts.ports.len()), (3, 1), "app, web and the ports' name are still held");
        texts.release_labels(some);
        texts.release_ports(again);
        assert_eq!((texts.texts.len(), texts.ports.len()), (0, 0));
    }
}
