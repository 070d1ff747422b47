//! ClusterSets out of network namespaces, for the demo, the tests and the benches.
//!
//! A [`Lab`] is a set of clusters whose nodes and pods are network namespaces on this
//! machine, joined to one flat pod network in IPv4 and IPv6, with the manifests that agents
//! read. Agents are run by the path of their binary; the lab knows nothing else of them.
//! Everything is removed on drop, on signals ([`remove_labs_on_signals`]) and, after a crash, by
//! the next lab on the machine.
//!
//! ```no_run
//! use policy_lab::{ClusterSpec, Lab, NodeSpec, PodSpec, traffic::probe::{Probe, Timing}};
//!
//! let lab = Lab::builder("demo")
//!     .cluster(ClusterSpec::new("cluster-a").node(
//!         NodeSpec::new("node-1").pod(PodSpec::new("shop/web-1").label("app", "web").tcp(80)),
//!     ))
//!     .cluster(ClusterSpec::new("cluster-b").node(
//!         NodeSpec::new("node-1").pod(PodSpec::new("db/pg-0").label("app", "pg").tcp(5432)),
//!     ))
//!     .build()?;
//! let probe = Probe::tcp("cluster-a/shop/web-1", "cluster-b/db/pg-0", 5432).v6();
//! assert!(lab.probe_one(&probe, Timing::default())?.is_allowed());
//! # Ok::<(), policy_lab::Error>(())
//! ```

mod address;
mod agent;
mod bpffs;
mod cleanup;
pub mod control_plane;
mod error;
mod host;
mod ip;
mod lab;
mod links;
mod manifests;
mod netns;
mod preflight;
mod spec;
mod sys;
pub mod traffic;
mod wiring;

pub use address::{Addresses, Family, Mac};
pub use agent::{Agent, AgentOptions};
pub use bpffs::BpfFs;
pub use cleanup::{RunId, on_signal, remove_labs_on_signals, sweep_dead_runs};
pub use error::{Error, Result};
pub use host::Host;
pub use lab::{Lab, LabBuilder};
pub use manifests::{ClusterSetSettings, Manifests, MemberRecord, MemberSource};
pub use netns::NetNs;
pub use preflight::can_run;
pub use spec::{ClusterLabels, ClusterSpec, Labels, NamespaceSpec, NodeSpec, PeerScope, PodSpec, PortProtocol, Wiring};
