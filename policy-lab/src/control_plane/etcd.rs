//! etcd of a control plane, and the few questions that it is asked over its JSON gateway.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::netns::NetNs;

/// Where it listens: reached only from inside its namespace.
pub(super) const CLIENTS: u16 = 2379;
const PEERS: u16 = 2380;

/// Under this key an API server notes what it has compacted, and every other one learns it
/// (k8s.io/apiserver, pkg/storage/etcd3/compact.go).
const COMPACTED: &str = "compact_rev_key";

/// How many operations a transaction may have (`--max-txn-ops` is 128 if nothing else is said).
const TRANSACTION: usize = 100;

/// Beyond the default of 2 GiB there is room for tests with 100,000 pods.
const QUOTA_BYTES: u64 = 6 << 30;

/// The arguments of a lone etcd without fsync: what a crash of the machine would lose is not missed.
pub(super) fn arguments(data: &Path) -> Vec<OsString> {
    let clients = url(CLIENTS);
    let peers = url(PEERS);
    [
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        format!("--quota-backend-bytes={QUOTA_BYTES}"),
        "--unsafe-no-fsync".into(),
        "--logger=zap".into(),
        "--log-level=warn".into(),
    ]
    .map(OsString::from)
    .into()
}

pub(super) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Whether it answers.
pub(super) fn is_ready(netns: &NetNs) -> bool {
    revision(netns).is_ok()
}

/// The revision of the last write.
pub(super) fn revision(netns: &NetNs) -> Result<u64> {
    let answer = ask(netns, "/v3/kv/range", &json!({"key": BASE64_STANDARD.encode(COMPACTED)}))?;
    // 64-bit numbers are strings in protobuf's JSON.
    let revision = answer.pointer("/header/revision").and_then(Value::as_str).and_then(|number| number.parse().ok());
    revision.ok_or_else(|| Error::Invalid { what: format!("etcd told no revision: {answer}") })
}

/// Forgets all history up to now, as an API server's own compactor does it; gives the revision that is kept.
pub(super) fn compact(netns: &NetNs) -> Result<u64> {
    // A write of its own: the revision that is named to a compaction stays, and the last one may be an object's.
    note_compacted(netns, revision(netns)?)?;
    let kept = revision(netns)?;
    note_compacted(netns, kept)?;
    ask(netns, "/v3/kv/compaction", &json!({"revision": kept.to_string(), "physical": true}))?;
    Ok(kept)
}

/// Puts values under keys, many in one transaction, then something else: an API server that has heard of one object of a
/// revision takes the revision for known, and a list that is made then would lack the others for good.
pub(super) fn put(netns: &NetNs, pairs: impl IntoIterator<Item = (String, String)>) -> Result<()> {
    let put = |(key, value): (String, String)| json!({"requestPut": {"key": BASE64_STANDARD.encode(key), "value": BASE64_STANDARD.encode(value)}});
    let mut puts = pairs.into_iter().map(put);
    loop {
        let transaction: Vec<Value> = puts.by_ref().take(TRANSACTION).collect();
        if transaction.is_empty() {
            break;
        }
        ask(netns, "/v3/kv/txn", &json!({"success": transaction}))?;
    }
    ask(netns, "/v3/kv/put", &json!({"key": BASE64_STANDARD.encode("stored"), "value": ""})).map(drop)
}

fn note_compacted(netns: &NetNs, revision: u64) -> Result<()> {
    let note = json!({
        "key": BASE64_STANDARD.encode(COMPACTED),
        "value": BASE64_STANDARD.encode(revision.to_string()),
    });
    ask(netns, "/v3/kv/put", &note).map(drop)
}

fn ask(netns: &NetNs, path: &str, body: &Value) -> Result<Value> {
    let answer = netns.enter(|| post(path, &body.to_string()))?;
    let answer = answer.map_err(Error::io(format!("cannot ask etcd in {} for {path}", netns.name())))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let value = serde_json::from_str(body).ok().filter(|_| head.starts_with("HTTP/1.0 200"));
    value.ok_or_else(|| Error::Invalid { what: format!("etcd refused {path}: {answer}") })
}

/// HTTP/1.0, so that the answer comes in one piece and ends with the connection.
fn post(path: &str, body: &str) -> io::Result<String> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, CLIENTS))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: etcd\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
