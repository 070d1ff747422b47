//! The steps of the decision that the verifier looks at once each, as global functions: what it knows of their callers it
//! forgets at the call, so the paths through a program add up there instead of multiplying
//! (kernel/bpf/verifier.c, `do_check_subprogs`; Linux 5.6).

use policy_common::{
    decide::{Case, Found, Question, Sight, Verdict},
    family::{Family, FlowKeyOf, V4, V6},
    parse::Phase,
    reason::Reason,
    table::Flow,
    tables::{Direction, Steps},
};

use crate::maps::Kernel;

/// A verdict in the one register in which functions answer.
#[inline(always)]
fn word(verdict: Verdict) -> u64 {
    // SAFETY: eight bytes, all of which are written.
    unsafe { core::mem::transmute(verdict) }
}

/// # Safety
///
/// The word must come from [`word`].
#[inline(always)]
unsafe fn verdict(word: u64) -> Verdict {
    // SAFETY: passed on to the caller.
    unsafe { core::mem::transmute(word) }
}

macro_rules! steps {
    ($family:ty, $unsettled:ident, $answer:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $unsettled(
            sight: *const Sight,
            key: *const FlowKeyOf<$family>,
            flow: *const Flow,
            found: Found,
            phase: Phase,
        ) -> u64 {
            // SAFETY: each is null, or what `Steps::unsettled` was given, on its caller's stack.
            let (sight, key, flow) = unsafe { (sight.as_ref(), key.as_ref(), flow.as_ref()) };
            word(match (sight, key, flow) {
                (Some(sight), Some(key), Some(flow)) => {
                    Case { sight, key, flow, found, phase }.judge::<$family, _>(&Kernel)
                }
                _ => Verdict::deny(Reason::Unparsable),
            })
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $answer(key: *const FlowKeyOf<$family>, ifindex: u32, slot: u32, judged_as: Direction) -> u64 {
            // SAFETY: as above.
            word(match unsafe { key.as_ref() } {
                Some(key) => Question { ifindex, slot, judged_as }.answer::<$family, _>(key, &Kernel),
                None => Verdict::deny(Reason::Unparsable),
            })
        }

        impl Steps<$family> for Kernel {
            #[inline(always)]
            fn unsettled(&self, case: Case<'_, <$family as Family>::Addr>) -> Verdict {
                let Case { sight, key, flow, found, phase } = case;
                // SAFETY: the function answers with a verdict's word.
                unsafe { verdict($unsettled(sight, key, flow, found, phase)) }
            }

            #[inline(always)]
            fn answer(&self, key: &FlowKeyOf<$family>, question: Question) -> Verdict {
                let Question { ifindex, slot, judged_as } = question;
                // SAFETY: as above.
                unsafe { verdict($answer(key, ifindex, slot, judged_as)) }
            }
        }
    };
}

steps!(V4, unsettled_v4, answer_v4);
steps!(V6, unsettled_v6, answer_v6);
