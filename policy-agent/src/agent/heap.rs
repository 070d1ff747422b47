//! Giving memory back: what the listing of a large cluster leaves behind is free, but glibc keeps what is free below the top of
//! its heap. Measured with 100,000 pods of an API server: 44 MB of heap, 13 MB of it in use; 18 MB less once it was asked.
#![cfg_attr(target_env = "gnu", allow(unsafe_code, reason = "glibc has no safe way to be asked"))]

use policy_core::model::Event;
use policy_core::plan::Plan;

/// So many objects leave enough behind to be worth the walk through the heap.
const MANY: usize = 10_000;

/// The heap, as far as it is known what events and plans have left in it.
#[derive(Debug, Default)]
pub struct Heap {
    /// How many objects they named since it was last gone through.
    objects: usize,
}

impl Heap {
    /// Drops events that were taken in.
    pub fn drop_events(&mut self, events: Vec<Event>) {
        let objects = |event: &Event| if let Event::Relisted(_, names) = event { names.len() } else { 1 };
        self.left_behind(events.iter().map(objects).sum(), events);
    }

    /// Drops a plan that was carried out.
    pub fn drop_plan(&mut self, plan: Plan) {
        self.left_behind(plan.steps.len(), plan);
    }

    /// What many leave behind is given back.
    fn left_behind<T>(&mut self, objects: usize, of: T) {
        drop(of);
        self.objects += objects;
        if self.objects >= MANY {
            self.objects = 0;
            trim();
        }
    }
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: it may be called at any time; it moves nothing that is in use.
    let _released = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
