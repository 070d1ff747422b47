//! How rows and tests write what happens, and what the hooks say of it.

use policy_common::reason::Reason;

use super::Who::{Client, Web};
use super::{Frame, Hook, Ip, Sight, Step, UPLINK, WEB};

/// A verdict as rows write it.
pub type Word = (bool, Reason);

/// It passes, for this reason.
pub const fn pass(reason: Reason) -> Word {
    (true, reason)
}

/// It is dropped, for this reason.
pub const fn drop(reason: Reason) -> Word {
    (false, reason)
}

/// The endpoint sends a packet.
pub fn sends(frame: Vec<u8>, (allow, reason): Word) -> Step {
    Step::Packet(Sight { hook: Hook::FromPod, frame, arrival: WEB, has_socket: true, allow, reason })
}

/// A packet reaches the endpoint by an interface.
pub fn arrives(frame: Vec<u8>, arrival: u32, (allow, reason): Word) -> Step {
    Step::Packet(Sight { hook: Hook::ToPod, frame, arrival, has_socket: true, allow, reason })
}

/// A packet from elsewhere reaches the endpoint.
pub fn gets(frame: Vec<u8>, word: Word) -> Step {
    arrives(frame, UPLINK, word)
}

/// A packet of the client to the endpoint.
pub fn from_client(ip: Ip) -> Frame {
    Frame::new(ip, Client, Web)
}

/// A packet of the endpoint to the client.
pub fn to_client(ip: Ip) -> Frame {
    Frame::new(ip, Web, Client)
}
