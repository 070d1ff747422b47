//! Contents by number: equal contents share one number for as long as somebody refers to it.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashMap;

/// What [`Interner::acquire`] and [`Interner::release`] did beyond counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The content was or stays known.
    None,
    /// The content came into being, or is gone.
    Changed,
}

/// Contents of type `T`, counted by their users. Numbers only grow, so a number never means two contents.
#[derive(Debug)]
pub struct Interner<T> {
    numbers: HashMap<Arc<T>, u32>,
    contents: HashMap<u32, Entry<T>>,
    next: u32,
}

#[derive(Debug)]
struct Entry<T> {
    content: Arc<T>,
    users: usize,
}

impl<T: Eq + Hash> Interner<T> {
    /// An empty one whose first number is `first`.
    pub fn starting_at(first: u32) -> Self {
        Self { numbers: HashMap::new(), contents: HashMap::new(), next: first }
    }

    /// The number of `content`, with one more user.
    pub fn acquire(&mut self, content: T) -> (u32, Effect) {
        if let Some(&number) = self.numbers.get(&content) {
            self.retain(number);
            return (number, Effect::None);
        }
        let number = self.next;
        // The highest number has a meaning of its own wherever these stand, and is never given out.
        self.next = number.checked_add(1).expect("an agent does not live to see 2^32 new contents");
        let content = Arc::new(content);
        self.numbers.insert(content.clone(), number);
        self.contents.insert(number, Entry { content, users: 1 });
        (number, Effect::Changed)
    }

    /// One more user of a known number.
    pub fn retain(&mut self, number: u32) {
        if let Some(entry) = self.contents.get_mut(&number) {
            entry.users += 1;
        }
    }

    /// One user less; returns the content when that was the last.
    pub fn release(&mut self, number: u32) -> Option<Arc<T>> {
        let entry = self.contents.get_mut(&number)?;
        entry.users -= 1;
        if entry.users > 0 {
            return None;
        }
        let entry = self.contents.remove(&number)?;
        self.numbers.remove(&entry.content);
        Some(entry.content)
    }

    /// The content behind a number.
    pub fn get(&self, number: u32) -> Option<&Arc<T>> {
        self.contents.get(&number).map(|entry| &entry.content)
    }

    /// The number of a content, if it has one.
    pub fn find(&self, content: &T) -> Option<u32> {
        self.numbers.get(content).copied()
    }

    /// How many contents are known.
    pub fn len(&self) -> usize {
        self.contents.len()
    }

    /// All numbers in use, ascending.
    pub fn numbers(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.contents.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// From now on gives out numbers from `first` on, at least.
    pub fn skip_to(&mut self, first: u32) {
        self.next = self.next.max(first);
    }
}
