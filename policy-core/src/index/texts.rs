//! Texts that many objects share, kept once.

use hashbrown::HashSet;

use crate::model::{ContainerPort, Labels, Text};

/// The texts of all groups.
#[derive(Debug, Default)]
pub struct Texts(HashSet<Text>);

impl Texts {
    /// The same text, shared with all who have it.
    pub fn share(&mut self, text: &Text) -> Text {
        self.0.get_or_insert_with(text, Text::clone).clone()
    }

    /// The same labels in shared texts.
    pub fn share_labels(&mut self, labels: &Labels) -> Labels {
        labels.iter().map(|(key, value)| (self.share(key), self.share(value))).collect()
    }

    /// The same ports in shared texts.
    pub fn share_ports(&mut self, ports: &[ContainerPort]) -> Box<[ContainerPort]> {
        let share =
            |port: &ContainerPort| ContainerPort { name: port.name.as_ref().map(|name| self.share(name)), ..*port };
        ports.iter().map(share).collect()
    }

    /// Somebody does not hold these any more: those that nobody else holds are forgotten.
    pub fn release<'a>(&mut self, texts: impl IntoIterator<Item = &'a Text>) {
        for text in texts {
            // One more reference is the caller's.
            if Text::strong_count(text) <= 2 {
                self.0.remove(text);
            }
        }
    }
}
