//! What the kernel programs and the host share: table layouts, packet parsing, the decision function.
#![no_std]
