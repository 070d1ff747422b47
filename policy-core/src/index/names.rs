//! The names of pods, one after the other.

/// Where a name stands in [`Names`].
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub struct Name {
    at: u32,
    length: u16,
}

/// Many short texts in one piece of memory.
#[derive(Debug, Default)]
pub struct Names {
    text: String,
    /// How many bytes of it are nobody's any more.
    dead: usize,
}

/// Below this many dead bytes nothing is moved.
const WORTH_MOVING: usize = 1 << 16;

impl Names {
    /// Adds a name.
    pub fn add(&mut self, name: &str) -> Name {
        let at = u32::try_from(self.text.len()).expect("the names of 2^32 bytes do not fit into an agent's memory");
        let length =
            u16::try_from(name.len()).expect("names have 253 bytes at most, and whoever reads objects sees to it");
        // A text that doubled would mostly have room for half as many names again.
        if self.text.capacity() - self.text.len() < name.len() {
            self.text.reserve_exact(self.text.len() / 8 + name.len());
        }
        self.text.push_str(name);
        Name { at, length }
    }

    /// A name.
    pub fn get(&self, name: Name) -> &str {
        let at = name.at as usize;
        &self.text[at..at + usize::from(name.length)]
    }

    /// Somebody does not have this name any more.
    pub fn remove(&mut self, name: Name) {
        self.dead += usize::from(name.length);
    }

    /// Moves the living names together, if enough are dead.
    pub fn tidy<'a>(&mut self, living: impl Iterator<Item = &'a mut Name>) {
        if self.dead < WORTH_MOVING || self.dead < self.text.len() / 2 {
            return;
        }
        let mut text = String::with_capacity(self.text.len() - self.dead);
        for name in living {
            let at = text.len();
            text.push_str(self.get(*name));
            name.at = u32::try_from(at).unwrap_or(u32::MAX);
        }
        *self = Self { text, dead: 0 };
    }
}
