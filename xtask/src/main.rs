//! Every command a developer of Crosswall runs: `cargo xtask …`.
fn main() {}
