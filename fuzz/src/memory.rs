//! An allocator that counts: how much memory a thread had in use at most.
//!
//! Counts are kept by thread, so that tests may run side by side; memory that one thread takes and
//! another gives back is counted wrongly.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
pub struct Counting;

// SAFETY: every call goes to the system's allocator with the arguments it came with. Counting
// neither allocates nor unwinds: the counters need no initialization and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        // SAFETY: the caller's promise; `ptr` came from the same allocator.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Both pieces may exist for a moment.
        add(new_size as isize);
        add(-(layout.size() as isize));
        // SAFETY: the caller's promise; `ptr` came from the same allocator.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

fn add(bytes: isize) {
    let _ = NOW.try_with(|now| {
        now.set(now.get().saturating_add(bytes));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

/// Runs `body` and answers with its result how many bytes more than before this thread had in use
/// at most. 0 where [`Counting`] is not the program's allocator.
pub fn peak_of<T>(body: impl FnOnce() -> T) -> (T, u64) {
    let before = NOW.get();
    PEAK.set(before);
    let result = body();
    (result, (PEAK.get() - before).max(0) as u64)
}
