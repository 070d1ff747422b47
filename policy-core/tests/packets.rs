//! The packet tables on the host.

use policy_common::decide::{Context, from_pod, to_pod};
use policy_core::modelled::{Flows, Modelled};
use policy_core::testing::packets::{Hook, Row, Stage, Step, WEB, rows};

/// Plays a row; returns what is wrong, empty: nothing.
fn play(row: &Row) -> String {
    let mut stage = Stage::new(row.policies);
    let mut flows = Flows::default();
    for (number, step) in row.steps.iter().enumerate() {
        stage.act(step);
        let tables = Modelled::with_flows(stage.node().tables(), flows);
        let mut wrong = String::new();
        if let Step::Packet(sight) = step {
            let context = Context { ifindex: WEB, ingress_ifindex: sight.arrival, has_socket: sight.has_socket };
            let verdict = match sight.hook {
                Hook::FromPod => from_pod(sight.frame.as_slice(), &context, &tables),
                Hook::ToPod => to_pod(sight.frame.as_slice(), &context, &tables),
            };
            if (verdict.allow, verdict.reason) != (sight.allow, sight.reason) {
                wrong = format!("\n{:?}: {}\n  step {number}: {verdict:?}\n  expected {sight:?}", row.ip, row.claim);
            }
        }
        if matches!(step, Step::Forget) {
            tables.forget_flows();
        }
        flows = tables.into_flows();
        if !wrong.is_empty() {
            return wrong;
        }
    }
    String::new()
}

#[test]
fn every_row_of_the_packet_tables_holds_on_the_host() {
    let rows = rows();
    let packets = rows.iter().flat_map(|row| &row.steps).filter(|step| matches!(step, Step::Packet(_))).count();
    assert!(rows.len() >= 120 && packets >= 300, "{} rows with {packets} packets", rows.len());
    let wrong: String = rows.iter().map(play).collect();
    assert!(wrong.is_empty(), "{wrong}");
}
