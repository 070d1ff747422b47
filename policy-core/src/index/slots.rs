//! Values by number; numbers of values that are gone are given out again.

/// How many values a piece of memory holds.
pub const PIECE: usize = 1024;

/// Values by reusable number, in pieces of memory: one that grew as a whole would have room for up to twice as many as
/// there are.
#[derive(Debug)]
pub struct Slots<T> {
    pieces: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Adds a value; returns its number.
    pub fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            let (piece, place) = split(number);
            self.pieces[piece][place] = Some(value);
            return number;
        }
        if self.pieces.last().is_none_or(|last| last.len() == PIECE) {
            // Where there are few values, the first piece grows as it needs to.
            let room = if self.pieces.is_empty() { 0 } else { PIECE };
            self.pieces.push(Vec::with_capacity(room));
        }
        let last = self.pieces.len() - 1;
        self.pieces[last].push(Some(value));
        let number = last * PIECE + self.pieces[last].len() - 1;
        u32::try_from(number).expect("fewer than 2^32 pods fit into memory")
    }

    /// Takes a value out.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        let (piece, place) = split(number);
        let value = self.pieces.get_mut(piece)?.get_mut(place)?.take()?;
        self.free.push(number);
        Some(value)
    }

    /// The value of a number.
    pub fn get(&self, number: u32) -> Option<&T> {
        let (piece, place) = split(number);
        self.pieces.get(piece)?.get(place)?.as_ref()
    }

    /// The value of a number, to be changed.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (piece, place) = split(number);
        self.pieces.get_mut(piece)?.get_mut(place)?.as_mut()
    }

    /// All values, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.pieces.iter().flatten()).filter_map(|(number, value)| Some((number, value.as_ref()?)))
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pieces.iter_mut().flatten().flatten()
    }
}

/// The piece of a number, and its place there.
pub fn split(number: u32) -> (usize, usize) {
    (number as usize / PIECE, number as usize % PIECE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_numbers_over_many_pieces() {
        let mut slots = Slots::default();
        let count = 2 * PIECE as u32 + 5;
        assert!((0..count).all(|number| slots.insert(number) == number));
        let gone = [0, PIECE as u32 - 1, PIECE as u32, count - 1];
        assert_eq!(gone.map(|number| slots.remove(number)), gone.map(Some));
        assert_eq!(slots.remove(gone[0]), None);
        assert_eq!(slots.get(count), None);
        let expected: Vec<u32> = (0..count).filter(|number| !gone.contains(number)).collect();
        assert_eq!(slots.iter().count(), expected.len());
        assert!(
            slots.iter().zip(&expected).all(|((number, value), expected)| number == *expected && value == expected)
        );
        assert_eq!(
            [(); 4].map(|()| slots.insert(7)),
            [gone[3], gone[2], gone[1], gone[0]],
            "numbers are given out again"
        );
        assert_eq!(slots.insert(7), count);
    }
}
