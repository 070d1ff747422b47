//! Giving memory back: what the listing of a large cluster leaves behind is free, but glibc keeps what is free below the top of
//! its heap. Measured with 100,000 pods of an API server: 44 MB of heap, 13 MB of it in use; 18 MB less once it was asked.
#![cfg_attr(target_env = "gnu", allow(unsafe_code, reason = "glibc has no safe way to be asked"))]

use policy_core::model::Event;

/// So many objects leave enough behind to be worth the walk through the heap.
const MANY: usize = 10_000;

/// The heap, as far as it is known what events have left in it.
#[derive(Debug, Default)]
pub struct Heap {
    /// How many objects they named since it was last gone through.
    objects: usize,
}

impl Heap {
    /// Drops events, and gives back what many of them leave behind.
    pub fn drop(&mut self, events: Vec<Event>) {
        let objects = |event: &Event| if let Event::Relisted(_, names) = event { names.len() } else { 1 };
        self.objects += events.iter().map(objects).sum::<usize>();
        drop(events);
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
