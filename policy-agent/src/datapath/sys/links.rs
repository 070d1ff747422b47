//! tcx links: a program at a hook of an interface.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_link_type};

use super::{Attribute, Info, bpf, bpf_fd, info, number};

#[repr(C)]
#[derive(Clone, Copy)]
struct TcxLinkInfo {
    link_type: u32,
    id: u32,
    program: u32,
    padding: u32,
    ifindex: u32,
    attach_type: u32,
}

impl Info for TcxLinkInfo {
    const ZERO: Self = Self { link_type: 0, id: 0, program: 0, padding: 0, ifindex: 0, attach_type: 0 };
}

/// Where a tcx link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct TcxLink {
    /// The interface; 0 once it is gone.
    pub(in crate::datapath) ifindex: u32,
    /// The kernel's number of the program.
    pub(in crate::datapath) program: u32,
}

/// Where a link leads, if it is a tcx link.
pub(in crate::datapath) fn tcx_link(link: BorrowedFd<'_>) -> io::Result<Option<TcxLink>> {
    let TcxLinkInfo { link_type, program, ifindex, .. } = info(link)?;
    Ok((link_type == bpf_link_type::BPF_LINK_TYPE_TCX as u32).then_some(TcxLink { ifindex, program }))
}

#[repr(C)]
#[derive(Clone, Copy)]
struct LinkCreateAttribute {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    expected_revision: u64,
}

impl Attribute for LinkCreateAttribute {}

/// Puts a program in front of all others at a tcx hook of an interface of the thread's network namespace. Closing the
/// last descriptor of the link takes it off.
pub(in crate::datapath) fn create_tcx_link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: bpf_attach_type,
) -> io::Result<OwnedFd> {
    let mut attribute = LinkCreateAttribute {
        program: number(program),
        ifindex,
        attach_type: attach_type as u32,
        flags: aya_obj::generated::BPF_F_BEFORE,
        relative: 0,
        padding: 0,
        expected_revision: 0,
    };
    // SAFETY: there is no pointer inside.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attribute) }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct LinkUpdateAttribute {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

impl Attribute for LinkUpdateAttribute {}

/// Replaces the program of a link; each packet meets the old one or the new one.
pub(in crate::datapath) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = LinkUpdateAttribute { link: number(link), program: number(program), flags: 0, old_program: 0 };
    // SAFETY: there is no pointer inside.
    unsafe { bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attribute) }.map(drop)
}

#[repr(C)]
#[derive(Clone, Copy)]
struct LinkDetachAttribute {
    link: u32,
}

impl Attribute for LinkDetachAttribute {}

/// Takes a link off its interface, whoever else holds it.
pub(in crate::datapath) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = LinkDetachAttribute { link: number(link) };
    // SAFETY: there is no pointer inside.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut attribute) }.map(drop)
}
