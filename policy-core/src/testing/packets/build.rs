//! Frames in a few words: `Frame::v4(CLIENT, WEB).tcp(40000, 80, SYN)`.

/// A family's addresses by role: the endpoint, another endpoint of its node, a client elsewhere, the node, the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The endpoint under test.
    Web,
    /// Another endpoint of the same node.
    Db,
    /// A pod of another cluster, which policies admit.
    Client,
    /// The node itself.
    Host,
    /// An address outside the ClusterSet.
    World,
    /// No address at all.
    Nobody,
    /// A link-local address (IPv4: 169.254.0.9).
    LinkLocal,
    /// A link-local address of the node (IPv4: 169.254.0.1).
    HostLinkLocal,
    /// All nodes on the link (IPv4: the broadcast address).
    Everyone,
}

impl Who {
    fn v4(self) -> [u8; 4] {
        match self {
            Self::Web => [10, 1, 0, 1],
            Self::Db => [10, 1, 0, 2],
            Self::Client => [10, 2, 0, 1],
            Self::Host => [10, 1, 255, 254],
            Self::World => [203, 0, 113, 9],
            Self::Nobody => [0; 4],
            Self::LinkLocal => [169, 254, 0, 9],
            Self::HostLinkLocal => [169, 254, 0, 1],
            Self::Everyone => [255; 4],
        }
    }

    fn v6(self) -> [u8; 16] {
        let text = match self {
            Self::Web => "fd00:1::1",
            Self::Db => "fd00:1::2",
            Self::Client => "fd00:2::1",
            Self::Host => "fd00:1:ff::1",
            Self::World => "2001:db8::9",
            Self::Nobody => "::",
            Self::LinkLocal => "fe80::9",
            Self::HostLinkLocal => "fe80::1",
            Self::Everyone => "ff02::1",
        };
        text.parse::<std::net::Ipv6Addr>().expect("an address").octets()
    }
}

/// An address family of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// TCP flags.
pub mod flags {
    /// A connection is opened.
    pub const SYN: u8 = 0x02;
    /// It is accepted.
    pub const SYN_ACK: u8 = 0x12;
    /// It goes on.
    pub const ACK: u8 = 0x10;
    /// It ends.
    pub const FIN: u8 = 0x11;
    /// It is broken off.
    pub const RST: u8 = 0x04;
}

/// SCTP chunk types.
pub mod chunk {
    /// Data.
    pub const DATA: u8 = 0;
    /// An association is opened.
    pub const INIT: u8 = 1;
    /// It is accepted.
    pub const INIT_ACK: u8 = 2;
    /// It is broken off.
    pub const ABORT: u8 = 6;
}

/// An IP packet in the making.
#[derive(Clone, Debug)]
pub struct Frame {
    ip: Ip,
    from: Who,
    to: Who,
    hop_limit: u8,
    /// IPv4: the fragment field; IPv6: a fragment header, where not zero.
    fragment: u16,
    /// IPv6 extension headers, each with its number; their first bytes are filled in.
    before: Vec<(u8, Vec<u8>)>,
    /// IPv4 options.
    options: Vec<u8>,
}

/// More fragments follow.
pub const MORE: u16 = 0x2000;

impl Frame {
    /// A packet between two.
    pub fn new(ip: Ip, from: Who, to: Who) -> Self {
        Self { ip, from, to, hop_limit: 64, fragment: 0, before: Vec::new(), options: Vec::new() }
    }

    /// With this hop limit.
    pub fn hop_limit(mut self, hop_limit: u8) -> Self {
        self.hop_limit = hop_limit;
        self
    }

    /// A fragment: offset in units of eight bytes, or [`MORE`].
    pub fn fragment(mut self, field: u16) -> Self {
        self.fragment = field;
        self
    }

    /// With an IPv6 extension header.
    pub fn header(mut self, number: u8, bytes: &[u8]) -> Self {
        self.before.push((number, bytes.to_vec()));
        self
    }

    /// With IPv4 options, a multiple of four bytes.
    pub fn options(mut self, bytes: &[u8]) -> Self {
        self.options = bytes.to_vec();
        self
    }

    /// A TCP segment.
    pub fn tcp(self, source: u16, destination: u16, flags: u8) -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[..2].copy_from_slice(&source.to_be_bytes());
        segment[2..4].copy_from_slice(&destination.to_be_bytes());
        segment[12] = 5 << 4;
        segment[13] = flags;
        self.carrying(6, &segment)
    }

    /// A UDP datagram of eight bytes.
    pub fn udp(self, source: u16, destination: u16) -> Vec<u8> {
        let mut segment = vec![0; 16];
        segment[..2].copy_from_slice(&source.to_be_bytes());
        segment[2..4].copy_from_slice(&destination.to_be_bytes());
        segment[5] = 16;
        self.carrying(17, &segment)
    }

    /// An SCTP packet that opens an association.
    pub fn sctp(self, source: u16, destination: u16) -> Vec<u8> {
        self.sctp_chunk(source, destination, chunk::INIT)
    }

    /// An SCTP packet with one chunk.
    pub fn sctp_chunk(self, source: u16, destination: u16, chunk: u8) -> Vec<u8> {
        let mut segment = vec![0; 32];
        segment[..2].copy_from_slice(&source.to_be_bytes());
        segment[2..4].copy_from_slice(&destination.to_be_bytes());
        segment[12] = chunk;
        segment[15] = 20;
        self.carrying(132, &segment)
    }

    /// An ICMP message of the family, `rest` behind the checksum.
    pub fn icmp(self, kind: u8, rest: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, 0, 0, 0];
        message.extend_from_slice(rest);
        let protocol = match self.ip {
            Ip::V4 => 1,
            Ip::V6 => 58,
        };
        self.carrying(protocol, &message)
    }

    /// An echo request with this identifier.
    pub fn ping(self, identifier: u8) -> Vec<u8> {
        let kind = match self.ip {
            Ip::V4 => 8,
            Ip::V6 => 128,
        };
        self.icmp(kind, &[0, identifier, 0, 1])
    }

    /// The answer to it.
    pub fn pong(self, identifier: u8) -> Vec<u8> {
        let kind = match self.ip {
            Ip::V4 => 0,
            Ip::V6 => 129,
        };
        self.icmp(kind, &[0, identifier, 0, 1])
    }

    /// "Destination unreachable" about a packet, of which it quotes the IP header and eight bytes.
    pub fn unreachable(self, quoted: &[u8]) -> Vec<u8> {
        let kind = match self.ip {
            Ip::V4 => 3,
            Ip::V6 => 1,
        };
        let mut rest = vec![0; 4];
        rest.extend_from_slice(&quoted[14..]);
        self.icmp(kind, &rest)
    }

    /// A neighbour discovery message about a target.
    pub fn neighbour(self, kind: u8, target: Who) -> Vec<u8> {
        let mut rest = vec![0; 4];
        rest.extend_from_slice(&target.v6());
        self.icmp(kind, &rest)
    }

    /// Any payload of any protocol.
    pub fn carrying(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        match self.ip {
            Ip::V4 => self.v4(protocol, payload, &mut frame),
            Ip::V6 => self.v6(protocol, payload, &mut frame),
        }
        frame
    }

    fn v4(&self, protocol: u8, payload: &[u8], frame: &mut Vec<u8>) {
        let header = 20 + self.options.len();
        let total = u16::try_from(header + payload.len()).expect("a small packet");
        frame.extend_from_slice(&[0x08, 0x00]);
        frame.extend_from_slice(&[0x40 | u8::try_from(header / 4).expect("few options"), 0]);
        frame.extend_from_slice(&total.to_be_bytes());
        frame.extend_from_slice(&[0, 7]);
        frame.extend_from_slice(&self.fragment.to_be_bytes());
        frame.extend_from_slice(&[self.hop_limit, protocol, 0, 0]);
        frame.extend_from_slice(&self.from.v4());
        frame.extend_from_slice(&self.to.v4());
        frame.extend_from_slice(&self.options);
        frame.extend_from_slice(payload);
    }

    fn v6(&self, protocol: u8, payload: &[u8], frame: &mut Vec<u8>) {
        let mut headers = self.before.clone();
        if self.fragment != 0 {
            let more = u16::from(self.fragment & MORE != 0);
            let field = ((self.fragment & !MORE) << 3 | more).to_be_bytes();
            headers.push((44, vec![0, 0, field[0], field[1], 0, 0, 0, 7]));
        }
        let numbers: Vec<u8> = headers.iter().map(|(number, _)| *number).chain([protocol]).collect();
        let mut body = Vec::new();
        for ((_, bytes), next) in headers.iter().zip(&numbers[1..]) {
            body.push(*next);
            body.extend_from_slice(&bytes[1..]);
        }
        body.extend_from_slice(payload);
        frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend_from_slice(&u16::try_from(body.len()).expect("a small packet").to_be_bytes());
        frame.extend_from_slice(&[numbers[0], self.hop_limit]);
        frame.extend_from_slice(&self.from.v6());
        frame.extend_from_slice(&self.to.v6());
        frame.extend_from_slice(&body);
    }
}

/// An ARP request or reply in which `sender` claims an IPv4 address.
pub fn arp(sender: Who, target: Who) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1]);
    frame.extend_from_slice(&sender.v4());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&target.v4());
    frame
}
