//! Namespaces and policies that scripts come up with: any at all, and some that tell pods that there are from others.

use std::net::IpAddr;

use ipnet::IpNet;
use policy_core::model::{CLUSTER_KEY, Event, NetworkPolicy, Rule, Text};
use policy_core::testing::{block, namespace as namespace_named, namespaces, pods, pods_in, policy, rule, strategies};

use crate::generate::{Maker, NAMESPACES};

impl Maker {
    pub fn namespace(&mut self) {
        if self.dice.percent(15) && !self.namespaces.is_empty() {
            let number = self.dice.below(self.namespaces.len());
            let key = self.namespaces.swap_remove(number);
            return self.change(vec![Event::NamespaceDeleted(key)]);
        }
        let namespace = self.draw(&strategies::namespace_objects());
        self.namespaces.push(namespace.key.clone());
        self.change(vec![Event::NamespaceApplied(namespace)]);
    }

    pub fn usual_namespace(&mut self, cluster: &str, name: &str) {
        let mut namespace = namespace_named(&format!("{cluster}/{name}")).build();
        namespace.labels = self.draw(&strategies::namespace_labels());
        namespace.labels.insert(CLUSTER_KEY.into(), cluster.into());
        self.namespaces.push(namespace.key.clone());
        self.change(vec![Event::NamespaceApplied(namespace)]);
    }

    pub fn policy(&mut self) {
        if self.dice.percent(25) && !self.policies.is_empty() {
            let number = self.dice.below(self.policies.len());
            let key = self.policies.swap_remove(number);
            return self.change(vec![Event::PolicyDeleted(key)]);
        }
        let mut policy = if self.dice.percent(40) { self.draw(&strategies::policy_objects()) } else { self.telling() };
        policy.key.cluster = self.config.local.clone();
        self.policies.push(policy.key.clone());
        self.change(vec![Event::PolicyApplied(policy)]);
    }

    /// A policy that is about pods that there are, and tells some of them from others.
    fn telling(&mut self) -> NetworkPolicy {
        let placed: Vec<Text> = self.slots.iter().flatten().map(|placed| placed.pod.key.namespace.clone()).collect();
        let namespace = if placed.is_empty() { NAMESPACES[0].into() } else { self.dice.pick(&placed).clone() };
        let subject = *self.dice.pick(&["", "", "app=web", "app=db"]);
        let name = format!("a/{namespace}/np{}", self.dice.below(4));
        let (ingress, egress) = *self.dice.pick(&[(true, false), (true, false), (false, true), (true, true)]);
        let mut policy = policy(&name).select(subject);
        if ingress {
            let rules = self.rules();
            policy = policy.ingress(rules);
        }
        if egress {
            let rules = self.rules();
            policy = policy.egress(rules);
        }
        policy.build()
    }

    fn rules(&mut self) -> Vec<Rule> {
        let remote: Vec<IpAddr> = self.remote.keys().copied().collect();
        let mut rules = Vec::new();
        for _ in 0..1 + self.dice.below(2) {
            let app = *self.dice.pick(&["app=web", "app=db"]);
            let cluster = *self.dice.pick(&["=b", "!=b", " in (b, c)", " notin (c)"]);
            let peer = match self.dice.below(8) {
                0 | 1 => pods_in(&format!("cluster.clusterset.k8s.io{cluster}"), app),
                2 => pods_in("", app),
                3 => {
                    let teams = *self.dice.pick(&["team=x", "team in (x, y)", "team!=y"]);
                    namespaces(teams)
                }
                4 => {
                    let wide = ["10.2.0.0/16", "10.0.0.0/14", "0.0.0.0/0", "fd00:2::/64", "10.2.0.2/31"];
                    let cidr = *self.dice.pick(&wide);
                    block(cidr, "")
                }
                5 | 6 if !remote.is_empty() => block(&IpNet::from(*self.dice.pick(&remote)).to_string(), ""),
                _ => pods(app),
            };
            let ports = *self.dice.pick(&["", "", "TCP/80", "UDP/53", "TCP/80 UDP/53", "TCP/80-8080"]);
            let rule = rule().peer(peer);
            rules.push(if ports.is_empty() { rule.into() } else { rule.ports(ports).into() });
        }
        rules
    }
}
