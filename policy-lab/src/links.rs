//! Waits until fresh interfaces carry traffic.
//!
//! A veth's carrier is announced by the kernel's link watch (net/core/link_watch.c), some
//! time after both ends are up. Until then its queue drops what is sent (`dev_activate`)
//! and IPv6 has no link-local address with which to ask for neighbours.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::netns::NetNs;

/// Link watch works within a second, later only on a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until every interface of a namespace that can be up is up.
pub(crate) fn wait_until_up(namespace: &NetNs) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let waiting = not_yet_up(&list(namespace)?);
        if waiting.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::Timeout {
                what: format!("the carrier of {} in {}", waiting.join(", "), namespace.name()),
                within_ms: PATIENCE.as_millis(),
                detail: String::new(),
            });
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// `ip -o link`: an interface a line.
fn list(namespace: &NetNs) -> Result<String> {
    let output = namespace
        .command("ip")
        .args(["-o", "link", "show"])
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io(format!("cannot run ip in {}", namespace.name())))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The names of interfaces that are not up; bridges without ports never are, nor is `lo`.
fn not_yet_up(listing: &str) -> Vec<String> {
    let links: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().collect()).collect();
    let masters: Vec<&str> = links.iter().filter_map(|words| after(words, "master")).collect();
    let is_up = |words: &[&str]| after(words, "state") == Some("UP");
    let name = |words: &[&str]| -> Option<String> {
        let name = words.get(1)?.trim_end_matches(':');
        Some(name.split_once('@').map_or(name, |(name, _)| name).to_owned())
    };
    links
        .iter()
        .filter(|words| !is_up(words))
        .filter(|words| {
            words.iter().any(|word| word.contains('@'))
                || name(words).is_some_and(|name| masters.contains(&name.as_str()))
        })
        .filter_map(|words| name(words))
        .collect()
}

fn after<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == key)?;
    words.get(at + 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn veths_and_bridges_with_ports_are_waited_for() {
        let listing = "\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT\n\
2: eth0@if7: <BROADCAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT\n\
3: cni0: <NO-CARRIER,BROADCAST,UP> mtu 1500 qdisc noqueue state DOWN mode DEFAULT\n\
4: empty0: <NO-CARRIER,BROADCAST,UP> mtu 1500 qdisc noqueue state DOWN mode DEFAULT\n\
5: veth1@if2: <NO-CARRIER,BROADCAST,UP> mtu 1500 qdisc noqueue master cni0 state LOWERLAYERDOWN mode DEFAULT\n";
        assert_eq!(not_yet_up(listing), ["cni0", "veth1"]);
    }
}
