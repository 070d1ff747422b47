//! Where things are in the checkout.

use std::path::{Path, PathBuf};

/// The committed object, relative to the checkout.
pub const EBPF_OBJECT: &str = "policy-agent/bpf/crosswall.bpf.o";

/// The checkout: the parent of this crate.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate's directory is in the checkout")
}

/// The committed object.
pub fn ebpf_object() -> PathBuf {
    root().join(EBPF_OBJECT)
}

/// The crate with the kernel programs: a workspace of its own.
pub fn ebpf_crate() -> PathBuf {
    root().join("policy-ebpf")
}

/// Cargo's target directory of [`ebpf_crate`].
pub fn ebpf_target() -> PathBuf {
    ebpf_crate().join("target")
}
