//! Giving memory back: a list of all pods of a large cluster is freed as soon as it is indexed, but glibc keeps what is
//! freed below the top of its heap. Measured with 100,000 pods of an API server: 111 MB stayed, 37 MB of them in use.
#![cfg_attr(target_env = "gnu", allow(unsafe_code, reason = "glibc has no safe way to be asked"))]

/// Batches of at least so many events leave enough behind to be worth the walk through the heap.
const MANY: usize = 10_000;

/// Gives back what a batch of so many events, which has been dropped, leaves behind.
pub fn give_back(events: usize) {
    if events >= MANY {
        trim();
    }
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: it may be called at any time; it moves nothing that is in use.
    let _released = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
