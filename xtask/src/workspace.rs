//! Where things are in the checkout.

use std::path::{Path, PathBuf};

/// An object that `policy-ebpf` builds and that is committed.
#[derive(Clone, Copy)]
pub struct EbpfObject {
    /// The binary target.
    pub binary: &'static str,
    /// Where it is committed, relative to the checkout.
    pub path: &'static str,
}

/// The programs of the datapath, and those that benchmarks compare with.
pub const EBPF_OBJECTS: [EbpfObject; 2] = [
    EbpfObject { binary: "policy-ebpf", path: "policy-agent/bpf/crosswall.bpf.o" },
    EbpfObject { binary: "policy-bench", path: "policy-agent/bpf/bench.bpf.o" },
];

/// The checkout: the parent of this crate.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate's directory is in the checkout")
}

/// The crate with the kernel programs: a workspace of its own.
pub fn ebpf_crate() -> PathBuf {
    root().join("policy-ebpf")
}

/// Cargo's target directory of [`ebpf_crate`].
pub fn ebpf_target() -> PathBuf {
    ebpf_crate().join("target")
}
