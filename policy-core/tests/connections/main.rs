//! Connections, packet by packet: who opened them, and what stays cut (docs/semantics.md §8, §11).

mod cuts;
mod openers;
mod settled;

use policy_common::decide::{Context, from_pod, to_pod};
use policy_core::modelled::{Flows, Modelled};
use policy_core::testing::packets::Step::{Forget, Packet};
use policy_core::testing::packets::{Hook, Ip, Policies, Stage, Step, WEB};

const V4: Ip = Ip::V4;

/// Plays steps; returns what is remembered in the end.
fn play(policies: Policies, steps: impl IntoIterator<Item = Step>) -> Flows {
    let mut stage = Stage::new(policies);
    let mut flows = Flows::default();
    for (number, step) in steps.into_iter().enumerate() {
        stage.act(&step);
        let tables = Modelled::with_flows(stage.node().tables(), flows);
        if let Packet(sight) = &step {
            let context = Context { ifindex: WEB, ingress_ifindex: sight.arrival, has_socket: sight.has_socket };
            let verdict = match sight.hook {
                Hook::FromPod => from_pod(sight.frame.as_slice(), &context, &tables),
                Hook::ToPod => to_pod(sight.frame.as_slice(), &context, &tables),
            };
            assert_eq!((verdict.allow, verdict.reason), (sight.allow, sight.reason), "step {number}");
        }
        if matches!(step, Forget) {
            tables.forget_flows();
        }
        flows = tables.into_flows();
    }
    flows
}
