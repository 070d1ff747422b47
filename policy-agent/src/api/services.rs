//! What the local API says of Services.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::types::{ByDirection, Verdict};

/// A Service of the local cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// As `cluster-a/kube-system/kube-dns`.
    pub name: String,
    /// Its addresses in the cluster; a headless Service has none.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Who gets its traffic, pods first.
    pub backends: Vec<Backend>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Its name; absent: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Its number at the Service's addresses.
    pub port: u16,
}

/// Who gets traffic of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The pod; absent: the addresses are no pod's that selectors can find, as those of a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// What stands behind the address of a Service to which a connection is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// As `cluster-a/kube-system/kube-dns`.
    pub service: String,
    /// The port that is asked for; absent: the Service has none such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<ServicePort>,
    /// Where packets to that port are sent.
    pub targets: Vec<Target>,
    /// What their verdicts mean beside that of the connection, for a person.
    pub note: String,
}

/// Where packets to a Service are sent, and what this node decides of a connection straight there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The pod; absent: the address is no pod's that selectors can find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The address of the backend.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The verdict of each end; absent where it is not decided here.
    pub verdicts: ByDirection<Option<Verdict>>,
}
