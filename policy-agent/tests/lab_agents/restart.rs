//! The agent dies under traffic and comes back: nothing forbidden passes, nothing allowed is cut.

use std::time::Duration;

use policy_lab::traffic::probe::Probe;
use policy_lab::traffic::prober::Flow;
use policy_lab::{Family, Wiring};

use crate::clusters::{Enforced, SOON, START, three_clusters};

const ADMIT_C: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{namespaceSelector: {matchLabels: {cluster.clusterset.k8s.io: cluster-c}}}]
";
const WEB: &str = "cluster-a/shop/web-1";
const FRIEND: &str = "cluster-c/shop/web-1";
const STRANGER: &str = "cluster-b/shop/web-1";
const KILLS: u32 = 12;

fn admitting(name: &str) -> Enforced {
    let enforced = Enforced::start(three_clusters(name, Wiring::Ptp));
    enforced.write("cluster-a", "web.yaml", ADMIT_C);
    enforced.becomes_allowed(&Probe::udp(STRANGER, WEB, 53), false, SOON);
    enforced.becomes_allowed(&Probe::udp(FRIEND, WEB, 53), true, SOON);
    enforced
}

#[test]
fn nothing_forbidden_passes_and_nothing_allowed_is_cut_while_the_agent_is_killed() {
    let mut enforced = admitting("kills");
    let mut connection = enforced.lab.establish_tcp(FRIEND, WEB, 80, Family::V6, SOON).expect("established");
    let flows = [
        Flow::steady(FRIEND, WEB, 53),
        Flow::fresh(FRIEND, WEB, 53).v6(),
        Flow::steady(STRANGER, WEB, 53).v6(),
        Flow::fresh(STRANGER, WEB, 53),
        Flow::fresh("cluster-a/shop/api-1", WEB, 53),
    ];
    let prober = enforced.lab.probe_continuously(&flows, Duration::from_millis(1)).expect("probing");
    let agent = enforced.agents.iter_mut().find(|agent| agent.node() == "cluster-a/a1").expect("its agent");
    for kill in 0..KILLS {
        // Before, during and after the first commit of a run.
        std::thread::sleep(Duration::from_millis(u64::from(kill * 23 % 190)));
        agent.kill().expect("killed");
        agent.spawn().expect("started again");
    }
    agent.wait_ready("the socket", START, |agent| agent.socket().exists()).expect("ready");
    assert!(connection.exchange(SOON).is_allowed(), "the connection outlives {KILLS} kills");
    let reports = prober.stop();
    for report in &reports {
        assert!(report.sent > 200, "{report:?}");
        if report.flow.from == FRIEND {
            assert_eq!(report.sent, report.echoed, "allowed packets were cut: {report:?}");
        } else {
            assert_eq!(report.arrived, 0, "forbidden packets passed: {report:?}");
        }
    }
    enforced.becomes_simulated(START);
}

#[test]
fn what_was_enforced_stays_enforced_when_the_agent_has_ended_and_goes_with_uninstall() {
    let mut enforced = admitting("uninstall");
    for agent in &mut enforced.agents {
        agent.stop(START).expect("stopped");
    }
    enforced.becomes_allowed(&Probe::udp(STRANGER, WEB, 53), false, SOON);
    enforced.becomes_allowed(&Probe::udp(FRIEND, WEB, 53), true, SOON);
    for agent in &enforced.agents {
        let mut uninstall = agent.netns().command(env!("CARGO_BIN_EXE_policy-agent"));
        let output = uninstall.arg("uninstall").arg("--bpffs").arg(agent.bpffs()).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!agent.bpffs().join("crosswall").exists(), "no pin is left");
    }
    enforced.becomes_allowed(&Probe::udp(STRANGER, WEB, 53), true, SOON);
}
