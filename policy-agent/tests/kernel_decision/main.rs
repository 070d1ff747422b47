//! The decision in the kernel is the decision on the host: on every row of the packet tables, and on random packets.

mod kernel;
mod random;
mod tables;
