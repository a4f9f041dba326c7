//! The locks that the platforms of this crate hand to the store and use themselves, and what they
//! know of threads: `parking_lot` and real threads with the feature `std`, spinning without.

#[cfg(feature = "std")]
mod imp {
    use core::cell::Cell;
    use core::sync::atomic::{AtomicUsize, Ordering};

    /// The mutex of the platforms in this crate: `parking_lot`'s.
    pub type RawMutex = parking_lot::RawMutex;
    /// The reader-writer lock of the platforms in this crate: `parking_lot`'s.
    pub type RawRwLock = parking_lot::RawRwLock;

    pub(crate) fn yield_now() {
        std::thread::yield_now();
    }

    /// A number that differs between threads that live at the same time.
    pub(crate) fn thread() -> u64 {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        std::thread_local!(static MINE: Cell<usize> = const { Cell::new(0) });
        // A thread that is being torn down may have lost its number: it gets a new one each time.
        let number = MINE.try_with(|mine| {
            if mine.get() == 0 {
                mine.set(NEXT.fetch_add(1, Ordering::Relaxed));
            }
            mine.get()
        });
        number.unwrap_or_else(|_| NEXT.fetch_add(1, Ordering::Relaxed)) as u64
    }
}

#[cfg(not(feature = "std"))]
mod imp {
    /// The mutex of the platforms in this crate: a spin lock (`parking_lot`'s with `std`).
    pub type RawMutex = spin::Mutex<()>;
    /// The reader-writer lock of the platforms in this crate: a spin lock (`parking_lot`'s with
    /// `std`).
    pub type RawRwLock = spin::RwLock<()>;

    pub(crate) fn yield_now() {
        core::hint::spin_loop();
    }

    pub(crate) fn thread() -> u64 {
        0
    }
}

pub use imp::{RawMutex, RawRwLock};
pub(crate) use imp::{thread, yield_now};

/// A mutex with data.
pub(crate) type Mutex<T> = lock_api::Mutex<RawMutex, T>;
/// A reader-writer lock with data.
pub(crate) type RwLock<T> = lock_api::RwLock<RawRwLock, T>;
