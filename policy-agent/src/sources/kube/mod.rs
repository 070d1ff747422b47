//! The source of real clusters: their API servers.
//!
//! Each member is followed on its own: [`member`] gathers what its collections tell, [`follow`] lists and watches one
//! collection, [`collection`] says which there are and what is kept of their objects, [`access`] has the credentials.

mod access;
mod backoff;
mod collection;
mod follow;
mod member;
mod slim;
#[cfg(test)]
mod tests;
mod trouble;

pub use access::Access;
pub use member::{Role, follow_member};
