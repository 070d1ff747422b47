//! The few system interfaces that have no safe wrapper: link-layer addresses, packet socket options, hooks before exec.
#![expect(unsafe_code, reason = "no crate wraps them")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};
use socket2::{SockAddr, SockAddrStorage};

/// Makes `command` start inside the network namespace that `namespace` refers to.
///
/// The mount namespace stays the caller's, so the child sees the same `/sys/fs/bpf`
/// (which `ip netns exec` would hide).
pub(crate) fn spawn_in(command: &mut Command, namespace: Arc<OwnedFd>) {
    let enter = move || setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
    // SAFETY: the hook runs between fork and exec, where only async-signal-safe work is
    // permitted (pre_exec's contract). It makes one system call, setns(2), on a descriptor
    // that the closure keeps open, and converts an errno without allocating.
    unsafe {
        command.pre_exec(enter);
    }
}

/// The address of an interface for a packet socket (packet(7)): all protocols.
pub(crate) fn link_address(ifindex: u32, protocol: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is plain old data, smaller than `sockaddr_storage` (20 of 128
    // bytes), and the storage is aligned for every socket address; it is the type that
    // the family written below says it is.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the storage was zeroed and then filled as a `sockaddr_ll`, whose size is `length`.
    unsafe { SockAddr::new(storage, length) }
}

/// Stops a packet socket from hearing what its own host sends (PACKET_IGNORE_OUTGOING,
/// net/packet/af_packet.c, Linux ≥ 4.20).
pub(crate) fn ignore_outgoing(socket: &impl AsRawFd) -> io::Result<()> {
    const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the duration of the call, and the option value
    // is an int, as af_packet.c reads it, that outlives the call.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
