//! The source of real clusters: their API servers.
//!
//! Each member is followed on its own: `member` gathers what its collections tell, `follow` lists and watches one
//! collection, `collection` says which there are and what is kept of their objects, `access` has the
//! credentials, some of which it finds in objects of the local cluster (`object`), `snapshot` keeps on disk what was
//! told. `marks` follows, for the controller alone, what stands on policies beside what they say.

mod access;
mod backoff;
mod collection;
mod config_map;
mod follow;
mod marks;
mod member;
mod object;
mod parts;
mod property;
mod restoring;
mod slim;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod tests;
mod trouble;

pub use access::{Access, Here, KubeconfigSecret, Means, Offers};
pub use collection::{Collection, Namespaces, Pods};
pub use config_map::{ClusterSetMap, Mirror};
pub use follow::list_once;
pub use marks::{Mark, Word, follow_marks};
pub use member::{Conduct, Role, Terms, follow_member};
pub use object::ObjectName;
pub use property::{cluster_id, confirm};
pub use trouble::Trouble;
