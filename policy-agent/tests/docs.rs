//! What the documents list is what there is.

use policy_common::reason::Reason;

#[test]
fn the_reference_tells_every_reason() {
    let reference = include_str!("../../docs/reference.md");
    for reason in Reason::ALL {
        let row = format!("| `{}` |", reason.as_str());
        assert!(reference.contains(&row), "docs/reference.md has no row for {}", reason.as_str());
    }
}
