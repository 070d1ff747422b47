//! A ClusterSet of three clusters, and the manifests that change while it is soaked.
//!
//! With every change the friend and the stranger exchange their colours, and the policies that admit one colour change
//! with them, in one file: the friend is always admitted and the stranger never, whichever change is in force. So do many
//! address blocks and pods of another cluster, which make commits long, and the port that the marker may ask.

use std::fmt::Write as _;

use policy_lab::traffic::probe::Probe;
use policy_lab::{ClusterSpec, Family, Lab, NamespaceSpec, NodeSpec, PodSpec, Wiring};

/// The node whose agent is killed.
pub const NODE: &str = "cluster-a/a1";
/// The pod that all policies are about.
pub const WEB: &str = "cluster-a/shop/web";
/// A pod of the same node that is always admitted.
pub const FRIEND: &str = "cluster-a/shop/friend";
/// A pod of the same node that never is.
pub const STRANGER: &str = "cluster-a/shop/stranger";
/// A pod of another cluster that is always admitted.
pub const API: &str = "cluster-b/shop/api";
/// A pod of another cluster that never is.
pub const ROGUE: &str = "cluster-b/shop/rogue";
/// A pod that may ask another port after every change.
pub const MARKER: &str = "cluster-c/shop/marker";
/// The UDP port that all pods serve.
pub const UDP: u16 = 53;
/// The TCP port that all pods serve.
pub const TCP: u16 = 80;

const FIRST_MARKED: u16 = 3000;
const MARKED: u16 = 16;
/// How many blocks there are, and how many pods that nobody runs.
const BLOCKS: u32 = 120;
const GHOSTS: u32 = 60;

/// The lab, without any policy. The friend and the stranger are in no manifest yet.
pub fn lab() -> Lab {
    let pod = |name: &str| PodSpec::new(&format!("shop/{name}")).label("app", name).tcp(TCP).udp(UDP);
    let web = (FIRST_MARKED..FIRST_MARKED + MARKED).fold(pod("web"), PodSpec::udp);
    let shop = || NamespaceSpec::new("shop");
    let here = NodeSpec::new("a1").pod(web);
    let here = here.pod(pod("friend").without_manifest()).pod(pod("stranger").without_manifest());
    let there = NodeSpec::new("b1").pod(pod("api")).pod(pod("rogue"));
    Lab::builder("soak")
        .wiring(Wiring::Ptp)
        .cluster(ClusterSpec::new("cluster-a").namespace(shop()).node(here))
        .cluster(ClusterSpec::new("cluster-b").namespace(shop()).node(there))
        .cluster(ClusterSpec::new("cluster-c").namespace(shop()).node(NodeSpec::new("c1").pod(pod("marker"))))
        .build()
        .expect("the lab comes up")
}

/// The manifests' state.
#[derive(Debug, Default)]
pub struct World {
    /// How many changes there were.
    pub changes: u32,
}

impl World {
    /// Makes a change. Every third one is of pods of another cluster alone, in two files.
    pub fn change(&mut self, lab: &Lab) {
        self.changes += 1;
        if self.changes.is_multiple_of(3) {
            lab.manifests().write("cluster-b", "ghosts.yaml", &ghosts(self.changes)).expect("written");
        }
        lab.manifests().write("cluster-a", "soak.yaml", &self.manifest(lab)).expect("written");
    }

    /// A probe that passes once the last change is in force, and did not before, for a while.
    pub fn mark(&self) -> Probe {
        let probe = Probe::udp(MARKER, WEB, marked(self.changes));
        if self.changes.is_multiple_of(2) { probe } else { probe.v6() }
    }

    fn manifest(&self, lab: &Lab) -> String {
        let colours = if self.changes.is_multiple_of(2) { ["red", "blue"] } else { ["blue", "red"] };
        let [friends, strangers] = colours;
        let mut text = pod(lab, FRIEND, friends) + &pod(lab, STRANGER, strangers);
        let (port, shade) = (marked(self.changes), self.changes % 2);
        write!(
            text,
            "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: web, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  policyTypes: [Ingress, Egress]
  egress:
  - to: [{{podSelector: {{matchLabels: {{colour: {friends}}}}}}}]
  ingress:
  - from:
    - podSelector: {{matchLabels: {{colour: {friends}}}}}
    - namespaceSelector: {{matchLabels: {{cluster.clusterset.k8s.io: cluster-b}}}}
      podSelector: {{matchLabels: {{app: api}}}}
  - from:
    - namespaceSelector: {{matchLabels: {{cluster.clusterset.k8s.io: cluster-b}}}}
      podSelector: {{matchLabels: {{shade: s{shade}}}}}
    ports: [{{port: 443}}]
  - from:
    - namespaceSelector: {{matchLabels: {{cluster.clusterset.k8s.io: cluster-c}}}}
    ports: [{{port: {port}, protocol: UDP}}]
  - from:
{}",
            blocks(self.changes)
        )
        .expect("text can be written");
        text
    }
}

fn marked(changes: u32) -> u16 {
    FIRST_MARKED + (changes % u32::from(MARKED)) as u16
}

/// The manifest of a pod that runs here.
fn pod(lab: &Lab, name: &str, colour: &str) -> String {
    let host = lab.host(name).expect("a pod");
    let [v4, v6] = Family::BOTH.map(|family| host.address(family).expect("an address"));
    let short = name.rsplit('/').next().expect("a name");
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {short}, namespace: shop, labels: {{colour: {colour}}}}}, spec: \
         {{nodeName: a1}}, status: {{phase: Running, podIPs: [{{ip: '{v4}'}}, {{ip: '{v6}'}}]}}}}\n---\n"
    )
}

/// Address blocks in which nobody lives, always others.
fn blocks(changes: u32) -> String {
    (0..BLOCKS / 2)
        .map(|block| {
            let number = (changes * 7 + block * 3) % 4096;
            let (high, low) = (number / 256, number % 256);
            format!(
                "    - ipBlock: {{cidr: 198.18.{low}.{}/28}}\n    - ipBlock: {{cidr: 'fd99:{high:x}:{low:x}::/48'}}\n",
                high * 16
            )
        })
        .collect()
}

/// Pods that nobody runs, whose shades change.
fn ghosts(changes: u32) -> String {
    (0..GHOSTS)
        .map(|ghost| {
            let shade = (ghost + changes / 3) % 2;
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: ghost-{ghost}, namespace: shop, labels: {{shade: s{shade}}}}}, \
                 spec: {{nodeName: b9}}, status: {{phase: Running, podIPs: [{{ip: 10.2.200.{ghost}}}, \
                 {{ip: 'fd00:2:0:200::{ghost:x}'}}]}}}}\n---\n"
            )
        })
        .collect()
}
