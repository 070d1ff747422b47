//! Who may ask: root, and the agent's own user.

use std::io;

use tokio::net::UnixStream;

use crate::ownership;

/// Those who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    own_uid: u32,
}

impl Admitted {
    /// Root and the user of this process.
    pub fn own() -> io::Result<Self> {
        Ok(Self { own_uid: ownership::own_uid()? })
    }

    /// Whether the process at the other end may ask.
    pub fn admits(self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| self.admits_uid(peer.uid()))
    }

    fn admits_uid(self, uid: u32) -> bool {
        uid == 0 || uid == self.own_uid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_own_user_may_ask() {
        let admitted = Admitted { own_uid: 1000 };
        assert_eq!([0, 1000, 1001].map(|uid| admitted.admits_uid(uid)), [true, true, false]);
    }
}
