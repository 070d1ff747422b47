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

    /// Somebody does not hold these ports any more: if nobody else does, they are forgotten.
    pub fn release_ports(&mut self, ports: &Arc<[ContainerPort]>) {
        // One more reference is the caller's.
        if Arc::strong_count(ports) <= 2 && self.ports.remove(ports) {
            self.release(ports.iter().filter_map(|port| port.name.as_ref()));
        }
    }

    /// Somebody does not hold these any more: those that nobody else holds are forgotten.
    pub fn release<'a>(&mut self, texts: impl IntoIterator<Item = &'a Text>) {
        for text in texts {
            // One more reference is the caller's.
            if Text::strong_count(text) <= 2 {
                self.texts.remove(text);
            }
        }
    }
}
