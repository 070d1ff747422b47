//! Every unsafe call of the datapath: bpf(2) where aya lacks the operation, the mapped arrays, two look-ups
//! in libc.
#![expect(unsafe_code, reason = "system calls that no crate wraps")]

mod batches;
mod control_page;
mod grace;
mod links;
mod local_bits_page;
mod mapped;
mod nearby_page;

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya_obj::generated::bpf_cmd;

pub(super) use batches::{BatchError, Cursor, TypedMap};
pub(super) use control_page::ControlPage;
pub(super) use grace::GracePeriod;
pub(super) use links::{TcxLink, create_tcx_link, detach_link, tcx_link, update_link};
pub(super) use local_bits_page::LocalBitsPage;
pub(super) use nearby_page::NearbyPage;

/// The beginning of `union bpf_attr` (include/uapi/linux/bpf.h) as one command reads it: `repr(C)`, of integers, with
/// padding written out. The kernel takes what lies beyond as zero.
trait Attribute: Copy {}

/// Makes one bpf(2) call.
///
/// # Safety
///
/// Every pointer in `attribute` must be valid for what `command` reads and writes through it.
unsafe fn bpf<A: Attribute>(command: bpf_cmd, attribute: &mut A) -> io::Result<RawFd> {
    // SAFETY: the kernel reads, and for some commands writes, `size` bytes at the pointer, which is an exclusive
    // borrow of that many; what the caller vouches for covers the pointers inside.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, attribute, size_of::<A>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer as RawFd) }
}

/// As [`bpf`], for commands that answer with a new descriptor.
///
/// # Safety
///
/// As for [`bpf`]; `command` must be one that answers with a descriptor.
unsafe fn bpf_fd<A: Attribute>(command: bpf_cmd, attribute: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: passed on to the caller.
    let fd = unsafe { bpf(command, attribute) }?;
    // SAFETY: the kernel has just made this descriptor for us (bpf_map_new_fd, bpf_link_settle, …).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn pointer<T>(place: *const T) -> u64 {
    place as u64
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ElementAttribute {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Attribute for ElementAttribute {}

#[repr(C)]
#[derive(Clone, Copy)]
struct ObjectAttribute {
    path: u64,
    fd: u32,
    file_flags: u32,
}

impl Attribute for ObjectAttribute {}

/// Opens what is pinned at a path.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attribute = ObjectAttribute { path: pointer(path.as_ptr()), fd: 0, file_flags: 0 };
    // SAFETY: the path is a terminated string that outlives the call.
    unsafe { bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attribute) }
}

/// Pins a map, program or link at a path.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attribute = ObjectAttribute { path: pointer(path.as_ptr()), fd: number(object), file_flags: 0 };
    // SAFETY: the path is a terminated string that outlives the call.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut attribute) }.map(drop)
}

#[repr(C)]
#[derive(Clone, Copy)]
struct InfoAttribute {
    fd: u32,
    length: u32,
    info: u64,
}

impl Attribute for InfoAttribute {}

/// The beginning of a `struct bpf_…_info`: nothing but integers, so all zero is a value.
trait Info: Copy {
    const ZERO: Self;
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ProgramInfo {
    program_type: u32,
    id: u32,
}

impl Info for ProgramInfo {
    const ZERO: Self = Self { program_type: 0, id: 0 };
}

fn info<I: Info>(fd: BorrowedFd<'_>) -> io::Result<I> {
    let mut info = I::ZERO;
    let mut attribute = InfoAttribute { fd: number(fd), length: size_of::<I>() as u32, info: pointer(&raw mut info) };
    // SAFETY: the kernel writes at most `length` bytes to `info` (bpf_*_get_info_by_fd clamp to it), which is that
    // long, outlives the call and takes any bytes.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attribute) }?;
    Ok(info)
}

/// The kernel's number of a program.
pub(super) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(info::<ProgramInfo>(program)?.id)
}

/// Whether a directory is on a BPF file system.
pub(super) fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = c_path(path)?;
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a terminated string and room for the answer, both outliving the call.
    if unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled by the call, which succeeded.
    Ok(unsafe { found.assume_init() }.f_type == libc::BPF_FS_MAGIC)
}
