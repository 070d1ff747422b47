//! A node and its pods as network namespaces, wired by hand.

use std::net::IpAddr;
use std::time::Duration;

use policy_lab::{NetNs, RunId};

/// A network namespace that is configured by `ip` commands.
pub struct Net {
    namespace: NetNs,
}

impl Net {
    pub fn new(label: &str) -> Self {
        let namespace = NetNs::create(RunId::new(), label).expect("root may make network namespaces");
        let net = Self { namespace };
        net.namespace
            .sysctls(&[
                ("net/ipv4/ip_forward", "1"),
                ("net/ipv6/conf/all/forwarding", "1"),
                ("net/ipv6/conf/all/accept_dad", "0"),
                ("net/ipv6/conf/default/accept_dad", "0"),
            ])
            .expect("sysctls of a namespace of our own");
        net.ip("link set lo up");
        net
    }

    /// Runs `ip`, the words of whose command stand in `command`.
    pub fn ip(&self, command: &str) {
        self.output("ip", command);
    }

    /// What a command says.
    pub fn output(&self, program: &str, command: &str) -> String {
        let output =
            self.namespace.command(program).args(command.split_whitespace()).output().expect("it is installed");
        assert!(output.status.success(), "{program} {command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A pod: another namespace with `addresses` on its `eth0`, whose other end is `name` here.
    pub fn pod(&self, name: &str, addresses: &[&str]) -> Net {
        let pod = Net::new(name);
        self.ip(&format!("link add {name} type veth peer name eth0 netns {}", pod.namespace.name()));
        self.ip(&format!("link set {name} up"));
        for address in addresses {
            pod.ip(&format!("address add {address} dev eth0"));
        }
        pod.ip("link set eth0 up");
        pod
    }

    /// A pod as point-to-point network plugins wire it: host routes, the node as gateway.
    pub fn routed_pod(&self, name: &str, addresses: &[&str]) -> Net {
        let pod = self.pod(name, addresses);
        for address in addresses {
            let (family, gateway) = if address.contains(':') { ("-6", "fe80::1") } else { ("-4", "169.254.1.1") };
            self.ip(&format!("{family} route add {address} dev {name}"));
            if family == "-6" {
                self.ip(&format!("address add fe80::1/64 dev {name}"));
            } else {
                self.ip(&format!("address add {gateway}/32 dev {name} scope link"));
                pod.ip(&format!("route add {gateway} dev eth0 scope link"));
            }
            pod.ip(&format!("{family} route add default via {gateway} dev eth0"));
        }
        pod
    }

    /// Runs `work` inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.enter(work).expect("the namespace exists")
    }

    /// Runs asynchronous work inside.
    pub fn run_async<T: Send, F: Future<Output = T>>(&self, work: impl FnOnce() -> F + Send) -> T {
        self.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { work().await })
        })
    }

    /// The number of an interface.
    pub fn ifindex(&self, name: &str) -> u32 {
        let text = self.output("ip", &format!("-o link show {name}"));
        text.split(':').next().and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("{text:?}"))
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(5);
