//! Who looks for an element while the agent writes may miss it, or find another's: then, and only then, it is looked for
//! once more.

use std::cell::{Cell, RefCell};

use policy_common::reason::Reason;
use policy_common::table::{Endpoint, PortEntry, PortKey, RuleEntry, RuleKey, Tagged};
use policy_common::tables::{Direction, Tables, find};

/// Tables of which only the counter of writes is read: these values, one after the other.
struct Writing(RefCell<Vec<u32>>);

impl Tables for Writing {
    type Endpoint = Endpoint;

    fn writes(&self) -> u32 {
        self.0.borrow_mut().remove(0)
    }

    fn commit(&self) -> u64 {
        unreachable!("nobody asks")
    }

    fn endpoint(&self, _: &u32) -> Option<Endpoint> {
        unreachable!("nobody asks")
    }

    fn policy(&self, _: &u32, _: usize, _: Direction) -> Option<Tagged> {
        unreachable!("nobody asks")
    }

    fn rule(&self, _: &RuleKey) -> Option<RuleEntry> {
        unreachable!("nobody asks")
    }

    fn port(&self, _: &PortKey) -> Option<PortEntry> {
        unreachable!("nobody asks")
    }

    fn may_be_local(&self, _tag: u32) -> bool {
        true
    }

    fn now_s(&self) -> u32 {
        unreachable!("nobody asks")
    }

    fn count(&self, _: u32, _: Direction, _: Reason, _: u32) {
        unreachable!("nobody asks")
    }
}

#[track_caller]
fn check(writes: [u32; 2], looks: &[Option<char>], found: Option<char>) {
    let looked = Cell::new(0);
    let look = || {
        looked.set(looked.get() + 1);
        looks[looked.get() - 1]
    };
    assert_eq!(find(&Writing(RefCell::new(writes.into())), look, |found| *found == 'x'), found);
    assert_eq!(looked.get(), looks.len());
}

#[test]
fn what_is_found_is_looked_for_again_only_if_it_is_anothers() {
    check([2, 2], &[Some('x')], Some('x'));
    check([3, 3], &[Some('x')], Some('x'));
    check([2, 2], &[Some('y'), Some('x')], Some('x'));
    check([2, 2], &[Some('y'), None], None);
}

#[test]
fn what_is_missed_is_looked_for_again_only_if_the_agent_was_writing() {
    check([2, 2], &[None], None);
    check([3, 3], &[None, Some('x')], Some('x'));
    check([2, 3], &[None, Some('x')], Some('x'));
    check([3, 4], &[None, None], None);
    check([2, 4], &[None, Some('x')], Some('x'));
}
