//! A road whose new connections are judged in user space: NFQUEUE, and a thread that answers with verdicts
//! (include/uapi/linux/netfilter/nfnetlink_queue.h).

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use policy_lab::Family;
use socket2::SockRef;

use super::rivals::{ADDRESSES, FIRST_PEER, command};
use super::road::Road;
use super::traffic::{FIRST_PORT, LAST_PORT};

/// How much of a packet is copied to user space: its headers.
const COPIED_BYTES: u32 = 128;
/// How often the thread looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(100);
/// A message's header and what follows it in all of netfilter: family, version, number of the queue.
const HEADER_BYTES: usize = 16 + 4;

/// A thread that judges. It ends on drop.
#[derive(Debug)]
pub struct Verdicts {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread judges by: who may open connections to the pod.
struct Judge {
    pod: Ipv4Addr,
    peers: HashSet<Ipv4Addr>,
}

impl Verdicts {
    /// Has every first packet to and from the pod judged.
    pub fn give(road: &Road) -> Result<Self> {
        let (Some(pod), Some(client)) = (road.pod.addresses().v4, road.client.addresses().v4) else {
            bail!("the road has no IPv4 addresses");
        };
        let others = (1..ADDRESSES).map(|number| Ipv4Addr::from(u32::from(FIRST_PEER) + number));
        let judge = Judge { pod, peers: others.chain([client]).collect() };
        // A queue belongs to the namespace of its socket.
        let socket = road.node.netns().enter(|| open().context("open a queue (nfnetlink_queue)"))??;
        let netns = road.node.netns();
        for side in ["-d", "-s"] {
            let pod = road.pod.address(Family::V4)?.to_string();
            let rule = ["-A", "FORWARD", side, &pod, "-m", "conntrack", "--ctstate", "NEW", "-j", "NFQUEUE"];
            command(netns, "iptables", &rule, "").context("needs iptables with its target NFQUEUE")?;
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = thread::Builder::new()
            .name("verdicts".into())
            .spawn(move || judge.answer(&socket, &over))
            .context("start the thread that judges")?;
        Ok(Self { is_over, thread: Some(thread) })
    }
}

impl Drop for Verdicts {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// The queue 0 of the namespace of the calling thread.
fn open() -> Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    SockRef::from(&socket).set_read_timeout(Some(PATIENCE))?;
    let [high, low] = (libc::AF_INET as u16).to_be_bytes();
    configure(&socket, libc::NFQA_CFG_CMD, &[libc::NFQNL_CFG_CMD_BIND as u8, 0, high, low])?;
    let mut parameters = COPIED_BYTES.to_be_bytes().to_vec();
    parameters.push(libc::NFQNL_COPY_PACKET as u8);
    configure(&socket, libc::NFQA_CFG_PARAMS, &parameters)?;
    Ok(socket)
}

fn configure(socket: &Socket, attribute: libc::c_int, value: &[u8]) -> Result<()> {
    socket.send(&message(libc::NFQNL_MSG_CONFIG, libc::NLM_F_ACK, attribute, value), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let code = answer.get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(std::io::Error::from_raw_os_error(-code).into()),
        None => Err(anyhow!("the kernel's answer is too short")),
    }
}

/// A message to the queue with one attribute.
fn message(kind: libc::c_int, flags: libc::c_int, attribute: libc::c_int, value: &[u8]) -> Vec<u8> {
    let length = HEADER_BYTES + 4 + value.len().next_multiple_of(4);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(((libc::NFNL_SUBSYS_QUEUE << 8 | kind) as u16).to_ne_bytes());
    bytes.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    // Neither a sequence number nor an address is needed; then family, version and queue 0.
    bytes.resize(HEADER_BYTES, 0);
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend((attribute as u16).to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length, 0);
    bytes
}

impl Judge {
    fn answer(&self, socket: &Socket, is_over: &AtomicBool) {
        let mut buffer = Vec::with_capacity(4096);
        while !is_over.load(Ordering::Relaxed) {
            buffer.clear();
            match socket.recv(&mut buffer, 0) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
                // Without answers nothing passes, and the measurement ends with an error.
                Err(_) => return,
                Ok(_) => {}
            }
            let Some(number) = attribute(&buffer, libc::NFQA_PACKET_HDR).and_then(|header| header.get(..4)) else {
                continue;
            };
            let admits = attribute(&buffer, libc::NFQA_PAYLOAD).is_some_and(|packet| self.admits(packet));
            let verdict = if admits { libc::NF_ACCEPT } else { libc::NF_DROP };
            let answer = [&verdict.to_be_bytes(), number].concat();
            let answer = message(libc::NFQNL_MSG_VERDICT, 0, libc::NFQA_VERDICT_HDR, &answer);
            let _the_opener_waits_in_vain = socket.send(&answer, 0);
        }
    }

    /// Whether an IPv4 packet may open a connection.
    fn admits(&self, packet: &[u8]) -> bool {
        let address = |at: usize| -> Option<Ipv4Addr> {
            let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
            Some(octets.into())
        };
        let (Some(first), Some(from), Some(to)) = (packet.first(), address(12), address(16)) else { return false };
        if from == self.pod {
            return self.peers.contains(&to);
        }
        let ports = usize::from(first & 15) * 4;
        let port = packet.get(ports + 2..ports + 4).map(|port| u16::from_be_bytes([port[0], port[1]]));
        let is_served = port.is_some_and(|port| (FIRST_PORT..=LAST_PORT).contains(&port));
        let has_ports = matches!(packet.get(9), Some(6 | 17));
        to == self.pod && self.peers.contains(&from) && has_ports && is_served
    }
}

/// The value of an attribute of a message.
fn attribute(message: &[u8], wanted: libc::c_int) -> Option<&[u8]> {
    let mut rest = message.get(HEADER_BYTES..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let value = rest.get(4..length)?;
        if i32::from(kind & 0x3fff) == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}
