//! The packet tables in the kernel: the committed object says of every packet what the table says.

use crate::kernel::Kernel;
use policy_common::reason::Reason;
use policy_core::testing::packets::{Hook, Row, Sight, Stage, Step, WEB, rows};

/// Plays a row; returns what is wrong, empty: nothing.
fn play(kernel: &mut Kernel, row: &Row) -> String {
    let mut stage = Stage::new(row.policies);
    kernel.begin(stage.node().tables());
    for (number, step) in row.steps.iter().enumerate() {
        stage.act(step);
        match step {
            Step::Packet(sight) => {
                let element = stage.node().tables().endpoints[&WEB].counters;
                if let Some(told) = differs(kernel, sight, element) {
                    return format!("\n{:?}: {}\n  step {number}: {told}\n  expected {sight:?}", row.ip, row.claim);
                }
            }
            Step::Forget => kernel.forget_flows(),
            Step::Commit(_) | Step::OtherCommit | Step::Replace => kernel.hold(stage.node().tables()),
        }
    }
    String::new()
}

/// What the kernel says of a packet, if that is not what the row says.
fn differs(kernel: &mut Kernel, sight: &Sight, element: u32) -> Option<String> {
    let before = kernel.counts(element);
    let allow = kernel.judge(sight.hook, &sight.frame, sight.arrival);
    let after = kernel.counts(element);
    let hook = match sight.hook {
        Hook::FromPod => 0,
        Hook::ToPod => 1,
    };
    let counted = |reason: &&Reason| after[hook][**reason as usize] > before[hook][**reason as usize];
    let reasons: Vec<Reason> = Reason::ALL.iter().filter(counted).copied().collect();
    ((allow, reasons.as_slice()) != (sight.allow, &[sight.reason]))
        .then(|| format!("allow {allow}, counted {reasons:?}"))
}

#[test]
fn every_row_of_the_packet_tables_that_the_kernel_can_show_holds_there() {
    let (fitting, others): (Vec<Row>, Vec<Row>) = rows().into_iter().partition(Row::fits_the_kernel);
    assert!(fitting.len() >= 120 && others.len() <= 4, "{} rows fit, {} do not", fitting.len(), others.len());
    let mut kernel = Kernel::load(Stage::new(fitting[0].policies).node().tables());
    let wrong: String = fitting.iter().map(|row| play(&mut kernel, row)).collect();
    assert!(wrong.is_empty(), "{wrong}");
}
