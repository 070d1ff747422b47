//! A datagram as plain numbers that are always all there: what kernel programs hand from one function to another. Their
//! verifier wants every byte written that is read, which compilers do not promise of enums with fields.

use super::{Content, Datagram, Neighbour, Phase, Segment};

/// An `Option<Datagram>`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Plain<A> {
    source: A,
    destination: A,
    at: u32,
    length: u32,
    source_port: u16,
    destination_port: u16,
    what: What,
    phase: Phase,
    protocol: u8,
    kind: u8,
}

/// What a [`Plain`] is of: nothing, where the addresses cannot be read, or a kind of [`Content`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing.
    Nothing,
    /// [`Content::Segment`].
    Segment,
    /// [`Content::Neighbour`].
    Neighbour,
    /// [`Content::Error`].
    Error,
    /// [`Content::Fragment`].
    Fragment,
    /// [`Content::Unparsable`].
    Unparsable,
}

impl<A: Copy> Plain<A> {
    /// Nothing; `nobody` stands where addresses would.
    #[inline(always)]
    pub fn nothing(nobody: A) -> Self {
        Self {
            source: nobody,
            destination: nobody,
            at: 0,
            length: 0,
            source_port: 0,
            destination_port: 0,
            what: What::Nothing,
            phase: Phase::MayOpen,
            protocol: 0,
            kind: 0,
        }
    }

    /// Takes in what was read, if anything was.
    #[inline(always)]
    pub fn hold(&mut self, datagram: Option<&Datagram<A>>) {
        let Some(Datagram { source, destination, content }) = datagram else { return };
        self.source = *source;
        self.destination = *destination;
        match content {
            Content::Segment(Segment { protocol, phase, source_port, destination_port }) => {
                self.what = What::Segment;
                self.protocol = *protocol;
                self.phase = *phase;
                self.source_port = *source_port;
                self.destination_port = *destination_port;
            }
            Content::Neighbour(Neighbour { kind, at, length }) => {
                self.what = What::Neighbour;
                self.kind = *kind;
                self.at = *at;
                self.length = *length;
            }
            Content::Error { quoted_at } => {
                self.what = What::Error;
                self.at = *quoted_at;
            }
            Content::Fragment => self.what = What::Fragment,
            Content::Unparsable => self.what = What::Unparsable,
        }
    }

    /// Which of the others mean something.
    #[inline(always)]
    pub fn what(&self) -> What {
        self.what
    }

    /// The source address.
    #[inline(always)]
    pub fn source(&self) -> A {
        self.source
    }

    /// The destination address.
    #[inline(always)]
    pub fn destination(&self) -> A {
        self.destination
    }

    /// Of [`What::Segment`].
    #[inline(always)]
    pub fn segment(&self) -> Segment {
        let Self { protocol, phase, source_port, destination_port, .. } = *self;
        Segment { protocol, phase, source_port, destination_port }
    }

    /// Of [`What::Neighbour`].
    #[inline(always)]
    pub fn neighbour(&self) -> Neighbour {
        Neighbour { kind: self.kind, at: self.at, length: self.length }
    }

    /// Of [`What::Error`]: where the packet that it quotes starts.
    #[inline(always)]
    pub fn quoted_at(&self) -> u32 {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_held_comes_back() {
        let held = |content| {
            let mut plain = Plain::nothing([0; 4]);
            plain.hold(Some(&Datagram { source: [10, 0, 0, 1], destination: [10, 0, 0, 2], content }));
            assert_eq!((plain.source(), plain.destination()), ([10, 0, 0, 1], [10, 0, 0, 2]));
            plain
        };
        let segment = Segment { protocol: 6, phase: Phase::Opens, source_port: 4000, destination_port: 80 };
        let plain = held(Content::Segment(segment));
        assert_eq!((plain.what(), plain.segment()), (What::Segment, segment));
        let message = Neighbour { kind: 135, at: 54, length: 32 };
        let plain = held(Content::Neighbour(message));
        assert_eq!((plain.what(), plain.neighbour()), (What::Neighbour, message));
        let plain = held(Content::Error { quoted_at: 42 });
        assert_eq!((plain.what(), plain.quoted_at()), (What::Error, 42));
        assert_eq!(held(Content::Fragment).what(), What::Fragment);
        assert_eq!(held(Content::Unparsable).what(), What::Unparsable);
        let mut nothing = Plain::nothing([0; 4]);
        nothing.hold(None);
        assert_eq!(nothing.what(), What::Nothing);
    }
}
