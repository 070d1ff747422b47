//! What else can stand on a road: rules of the kernel's own firewall, a program that does nothing.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use aya::programs::tc::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use policy_lab::{Family, NetNs};

use super::road::Road;
use super::traffic::{FIRST_PORT, LAST_PORT};

/// How many addresses are admitted: the client's, and those that follow this one.
pub const ADDRESSES: u32 = 1_000;
/// See [`ADDRESSES`].
pub const FIRST_PEER: Ipv4Addr = Ipv4Addr::new(10, 2, 16, 0);

/// Rules that make the node track connections, and drop nothing.
pub fn track(road: &Road) -> Result<()> {
    nft(
        road.node.netns(),
        "table inet path {
            chain forward { type filter hook forward priority 0; policy accept; ct state established,related accept; }
        }",
    )
}

/// Rules that admit to the pod what comes from an address of a set, to a range of ports, and what answers it.
pub fn admit_set(road: &Road) -> Result<()> {
    let pod = road.pod.address(Family::V4)?;
    let client = road.client.address(Family::V4)?;
    let others = (1..ADDRESSES).map(|number| Ipv4Addr::from(u32::from(FIRST_PEER) + number));
    let peers: Vec<String> = others.map(|address| address.to_string()).chain([client.to_string()]).collect();
    let peers = peers.join(", ");
    let rules = format!(
        "table inet path {{
            set peers {{ type ipv4_addr; elements = {{ {peers} }} }}
            chain forward {{
                type filter hook forward priority 0; policy accept;
                ct state established,related accept
                ip daddr {pod} ip saddr @peers tcp dport {FIRST_PORT}-{LAST_PORT} accept
                ip daddr {pod} ip saddr @peers udp dport {FIRST_PORT}-{LAST_PORT} accept
                ip saddr {pod} ip daddr @peers accept
                ip daddr {pod} drop
                ip saddr {pod} drop
            }}
        }}"
    );
    nft(road.node.netns(), &rules)
}

fn nft(netns: &NetNs, rules: &str) -> Result<()> {
    command(netns, "nft", &["-f", "-"], rules).context("needs nftables (`cargo xtask setup` installs it)")
}

/// Runs a command in a namespace; what it says of an error is the error.
pub fn command(netns: &NetNs, program: &str, arguments: &[&str], input: &str) -> Result<()> {
    let mut child = netns
        .command(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Its message says more than a broken pipe.
        let _its_answer_counts = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("wait for {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program}: {}", said.lines().next().unwrap_or("failed"));
    }
    Ok(())
}

/// Puts an empty program where Crosswall has its own. It is there as long as what is returned.
pub fn do_nothing(road: &Road) -> Result<Ebpf> {
    let mut ebpf = EbpfLoader::new()
        .load(aya::include_bytes_aligned!("../../../bpf/bench.bpf.o"))
        .context("load the benchmark's object")?;
    let empty: &mut SchedClassifier = ebpf.program_mut("empty").context("no program empty")?.try_into()?;
    empty.load()?;
    for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
        road.node.netns().enter(|| empty.attach(&road.interface, hook))?.context("attach the empty program")?;
    }
    Ok(ebpf)
}
