//! rtnetlink (rtnetlink(7)): questions and answers as bytes, and the attributes that Crosswall looks at.
//!
//! Only what is asked for is decoded, so attributes of newer kernels are passed over whatever their form.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// `struct rtattr`.
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// The bits of an attribute's type that are its number (`NLA_TYPE_MASK`).
const ATTRIBUTE_TYPE: u16 = 0x3fff;
/// How often a listing is begun anew because what it lists has changed.
const ATTEMPTS: usize = 8;

/// A question or a command.
#[derive(Clone, Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A message of a type, with the fixed part that belongs to the type. It is answered by an acknowledgement too.
    pub(super) fn new(message_type: u16, fixed: &[u8]) -> Self {
        Self::flagged(message_type, libc::NLM_F_ACK, fixed)
    }

    /// The question for all objects of a type.
    pub(super) fn list(message_type: u16, fixed: &[u8]) -> Self {
        Self::flagged(message_type, libc::NLM_F_DUMP, fixed)
    }

    /// The command to make an object, or to change the one that is there.
    pub(super) fn replace(message_type: u16, fixed: &[u8]) -> Self {
        Self::flagged(message_type, libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE, fixed)
    }

    fn flagged(message_type: u16, flags: libc::c_int, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&message_type.to_ne_bytes());
        bytes[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        bytes.extend(fixed);
        Self { bytes }
    }

    /// Adds an attribute.
    pub(super) fn with(mut self, attribute_type: u16, value: &[u8]) -> Self {
        let length = (ATTRIBUTE_HEADER_BYTES + value.len()) as u16;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(attribute_type.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A message of the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// What it is about, `RTM_…` or `NLMSG_…`.
    pub(super) message_type: u16,
    flags: u16,
    sequence: u32,
    /// What follows the header.
    body: &'a [u8],
}

/// The messages of a datagram; what is cut off is left out.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let message = Message {
            message_type: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            body: bytes.get(HEADER_BYTES..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes of a message or of an attribute.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16_at(bytes, 0)? as usize;
        let attribute_type = u16_at(bytes, 2)? & ATTRIBUTE_TYPE;
        let value = bytes.get(ATTRIBUTE_HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((attribute_type, value))
    })
}

/// The attribute of a type among those that are in `bytes`.
pub(super) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(attribute_type, _)| *attribute_type == wanted).map(|(_, value)| value)
}

impl<'a> Message<'a> {
    /// A byte of the fixed part.
    pub(super) fn u8_at(&self, offset: usize) -> Option<u8> {
        self.body.get(offset).copied()
    }

    /// Two bytes of the fixed part.
    pub(super) fn u16_at(&self, offset: usize) -> Option<u16> {
        u16_at(self.body, offset)
    }

    /// Four bytes of the fixed part.
    pub(super) fn u32_at(&self, offset: usize) -> Option<u32> {
        u32_at(self.body, offset)
    }

    /// An attribute behind a fixed part of so many bytes.
    pub(super) fn attribute(&self, fixed: usize, wanted: u16) -> Option<&'a [u8]> {
        attribute(self.body.get(fixed.next_multiple_of(4)..)?, wanted)
    }

    /// How an answer ends, if it does with this. A listing that fails on its way says so in its last message
    /// (`netlink_dump_done` in net/netlink/af_netlink.c).
    fn outcome(&self) -> Option<io::Result<()>> {
        if ![libc::NLMSG_ERROR, libc::NLMSG_DONE].contains(&i32::from(self.message_type)) {
            return None;
        }
        Some(match self.u32_at(0).map(u32::cast_signed) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
            None => Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// A number that is the value of an attribute.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    u32_at(value, 0)
}

/// A text that is the value of an attribute.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A socket for questions. The kernel answers each within the call that asks, so nothing here waits for others.
pub(super) struct Questions {
    socket: Socket,
    sequence: u32,
}

impl Questions {
    /// In the network namespace of the thread.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Listings are filtered by the kernel then, not only listed.
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks, and takes the messages of the answer.
    pub(super) fn ask(&mut self, request: &Request, mut take: impl FnMut(Message<'_>)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request.clone().finish(self.sequence), 0)?;
        let mut whole = true;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in messages(&datagram).filter(|message| message.sequence == self.sequence) {
                whole &= i32::from(message.flags) & libc::NLM_F_DUMP_INTR == 0;
                match message.outcome() {
                    None => take(message),
                    Some(Ok(())) if !whole => return Err(io::ErrorKind::Interrupted.into()),
                    Some(outcome) => return outcome,
                }
            }
        }
    }

    /// Gives a command.
    pub(super) fn tell(&mut self, request: &Request) -> io::Result<()> {
        self.ask(request, |_| {})
    }

    /// Asks for something that may not be there, told by one of `missing`.
    pub(super) fn find<T>(
        &mut self,
        request: &Request,
        missing: &[libc::c_int],
        mut read: impl FnMut(Message<'_>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut found = None;
        match self.ask(request, |message| found = read(message)) {
            Err(error) if error.raw_os_error().is_some_and(|code| missing.contains(&code)) => Ok(None),
            outcome => outcome.map(|()| found),
        }
    }

    /// Asks for a list; begins anew if it changes meanwhile.
    pub(super) fn collect<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut attempt = 1;
        loop {
            let mut list = Vec::new();
            match self.ask(request, |message| list.extend(read(message))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted && attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome.map(|()| list),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_as_a_message_with_its_attributes() {
        let bytes =
            Request::new(libc::RTM_GETLINK, &[7; 16]).with(3, b"veth0\0").with(10, &9u32.to_ne_bytes()).finish(5);
        let found: Vec<_> = messages(&bytes).collect();
        let [message] = found[..] else { panic!("{found:?}") };
        assert_eq!((message.message_type, message.sequence), (libc::RTM_GETLINK, 5));
        assert_eq!(message.u32_at(0), Some(0x0707_0707));
        assert_eq!(message.attribute(16, 3).map(text), Some("veth0".to_owned()));
        assert_eq!(message.attribute(16, 10).and_then(number), Some(9));
        assert_eq!(message.attribute(16, 11), None);
    }

    #[test]
    fn a_listing_that_fails_on_its_way_is_no_short_one() {
        let outcome = |message_type: libc::c_int, code: i32| {
            let bytes = Request::new(message_type as u16, &code.to_ne_bytes()).finish(5);
            let ended = messages(&bytes).next().expect("a message").outcome();
            ended.map(|outcome| outcome.map_err(|error| error.raw_os_error()))
        };
        for message_type in [libc::NLMSG_ERROR, libc::NLMSG_DONE] {
            assert_eq!(outcome(message_type, 0), Some(Ok(())));
            assert_eq!(outcome(message_type, -libc::ENOBUFS), Some(Err(Some(libc::ENOBUFS))));
        }
        assert_eq!(outcome(i32::from(libc::RTM_NEWADDR), 0), None);
    }

    #[test]
    fn bytes_that_are_cut_off_anywhere_are_left_out() {
        let bytes = Request::new(libc::RTM_GETLINK, &[0; 16]).with(3, b"veth0\0").finish(5);
        for length in 0..bytes.len() {
            assert_eq!(messages(&bytes[..length]).count(), 0, "{length} bytes");
            let body =
                Message { message_type: 0, flags: 0, sequence: 0, body: &bytes[HEADER_BYTES.min(length)..length] };
            assert_eq!(body.attribute(16, 3).is_some(), length >= 16 + 16 + 4 + 6, "{length} bytes");
        }
    }

    #[test]
    fn a_length_of_zero_ends_the_reading() {
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }
}
