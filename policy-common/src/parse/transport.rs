//! TCP, UDP, SCTP, ICMP and everything else above IP.

use super::{
    Content, IcmpKind, Neighbour, Network, icmp,
    protocol::{SCTP, TCP, UDP},
};
use crate::packet::Packet;

/// Stands for the port of the side that answers echo requests.
pub const ECHO_PORT: u16 = 8;

const TCP_FIN: u8 = 1;
const TCP_SYN: u8 = 2;
const TCP_RST: u8 = 4;
const TCP_ACK: u8 = 16;

/// The part that a packet plays in its connection.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It always opens a connection, even if one is known: a SYN without ACK, an INIT, an echo request.
    Opens,
    /// It opens a connection if none is known.
    MayOpen,
    /// It answers an opening: the other end opened. A SYN with ACK, an INIT ACK.
    Accepts,
    /// It belongs to a connection that was opened before.
    Continues,
    /// Likewise, and says that nothing follows: FIN, SHUTDOWN.
    Finishes,
    /// Likewise, and ends it: RST, ABORT.
    Resets,
}

/// What a packet says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The IP protocol number.
    pub protocol: u8,
    /// The part it plays.
    pub phase: Phase,
    /// The port of its source; for ICMP echo as [`crate::table::FlowKey::own_port`] says.
    pub source_port: u16,
    /// The port of its destination.
    pub destination_port: u16,
}

/// What stands behind the IP headers.
pub(super) struct Payload {
    pub(super) protocol: u8,
    pub(super) at: u32,
    pub(super) length: u32,
    /// Not a first fragment.
    pub(super) whole: bool,
    pub(super) hop_limit: u8,
}

#[inline(always)]
pub(super) fn parse<F: Network, P: Packet + ?Sized>(packet: &P, payload: &Payload) -> Content {
    let protocol = payload.protocol;
    if !matches!(protocol, TCP | UDP | SCTP) && protocol != F::ICMP {
        return Content::Segment(Segment { protocol, phase: Phase::MayOpen, source_port: 0, destination_port: 0 });
    }
    // Eight bytes are the least that any of these has.
    if payload.length < 8 {
        return Content::Unparsable;
    }
    let Some(start) = packet.load::<8>(payload.at) else {
        return Content::Unparsable;
    };
    if protocol == F::ICMP {
        return icmp::<F>(&start, payload);
    }
    let phase = match protocol {
        TCP => tcp_phase(packet, payload),
        UDP => udp_phase(&start, payload),
        SCTP => sctp_phase(packet, payload),
        _ => None,
    };
    let Some(phase) = phase else {
        return Content::Unparsable;
    };
    let (source_port, destination_port) = ports(&start);
    Content::Segment(Segment { protocol, phase, source_port, destination_port })
}

#[inline(always)]
fn ports(start: &[u8; 8]) -> (u16, u16) {
    (u16::from_be_bytes([start[0], start[1]]), u16::from_be_bytes([start[2], start[3]]))
}

#[inline(always)]
fn tcp_phase<P: Packet + ?Sized>(packet: &P, payload: &Payload) -> Option<Phase> {
    let [offset, flags] = packet.load(payload.at + 12)?;
    let header_length = u32::from(offset >> 4) * 4;
    if header_length < 20 || header_length > payload.length {
        return None;
    }
    Some(if flags & TCP_RST != 0 {
        Phase::Resets
    } else if flags & TCP_SYN != 0 {
        // Whatever else it says: some systems take a SYN with FIN for a SYN.
        if flags & TCP_ACK != 0 { Phase::Accepts } else { Phase::Opens }
    } else if flags & TCP_FIN != 0 {
        Phase::Finishes
    } else {
        Phase::Continues
    })
}

/// By the first chunk (RFC 9260 §3.2): INIT and INIT ACK stand alone in their packets.
#[inline(always)]
fn sctp_phase<P: Packet + ?Sized>(packet: &P, payload: &Payload) -> Option<Phase> {
    // A common header and a chunk's.
    if payload.length < 16 {
        return None;
    }
    let [chunk] = packet.load(payload.at + 12)?;
    Some(match chunk {
        1 => Phase::Opens,
        2 => Phase::Accepts,
        // ABORT and SHUTDOWN COMPLETE.
        6 | 14 => Phase::Resets,
        // SHUTDOWN and SHUTDOWN ACK.
        7 | 8 => Phase::Finishes,
        _ => Phase::Continues,
    })
}

#[inline(always)]
fn udp_phase(start: &[u8; 8], payload: &Payload) -> Option<Phase> {
    let length = u32::from(u16::from_be_bytes([start[4], start[5]]));
    let plausible = if length == 0 {
        // The kernel's own segments may be longer than the field can say.
        payload.length > u32::from(u16::MAX)
    } else {
        length >= 8 && (length <= payload.length || !payload.whole)
    };
    plausible.then_some(Phase::MayOpen)
}

#[inline(always)]
fn icmp<F: Network>(start: &[u8; 8], payload: &Payload) -> Content {
    let kind = start[0];
    match F::icmp_kind(kind, start[1], payload.hop_limit) {
        IcmpKind::Error => Content::Error { quoted_at: payload.at + 8 },
        IcmpKind::Neighbour => {
            let has_target = matches!(kind, icmp::NEIGHBOUR_SOLICITATION | icmp::NEIGHBOUR_ADVERTISEMENT);
            if has_target && payload.length < 24 {
                return Content::Unparsable;
            }
            Content::Neighbour(Neighbour { kind, at: payload.at, length: payload.length })
        }
        kind => Content::Segment(Segment::of_icmp(kind, start, F::ICMP)),
    }
}

impl Segment {
    #[inline(always)]
    fn of_icmp(kind: IcmpKind, start: &[u8; 8], protocol: u8) -> Self {
        let identifier = u16::from_be_bytes([start[4], start[5]]);
        let (phase, source_port, destination_port) = match kind {
            IcmpKind::EchoRequest => (Phase::Opens, identifier, ECHO_PORT),
            IcmpKind::EchoReply => (Phase::Continues, ECHO_PORT, identifier),
            _ => return Self::of_other_icmp(protocol),
        };
        Self { protocol, phase, source_port, destination_port }
    }

    /// ICMP that is neither an echo nor an error: a connection by address pair.
    #[inline(always)]
    pub fn of_other_icmp(protocol: u8) -> Self {
        Self { protocol, phase: Phase::MayOpen, source_port: 0, destination_port: 0 }
    }

    /// Reads the first eight bytes above IP of a packet that an ICMP error quotes (RFC 792 promises no more).
    #[inline(always)]
    pub(super) fn parse_quoted<P: Packet + ?Sized>(
        packet: &P,
        protocol: u8,
        at: u32,
        icmp_protocol: u8,
        icmp_kind: impl Fn(u8, u8, u8) -> IcmpKind,
    ) -> Option<Self> {
        if protocol == icmp_protocol {
            let start = packet.load(at)?;
            // No error is sent about an error (RFC 1122 §3.2.2).
            return match icmp_kind(start[0], start[1], 0) {
                IcmpKind::Error => None,
                kind => Some(Self::of_icmp(kind, &start, protocol)),
            };
        }
        let (source_port, destination_port) = match protocol {
            TCP | UDP | SCTP => ports(&packet.load(at)?),
            _ => (0, 0),
        };
        Some(Self { protocol, phase: Phase::Continues, source_port, destination_port })
    }
}
