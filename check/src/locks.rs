//! Locks for a store that one thread uses: waiting for one would be waiting for ever, so they panic
//! instead, and the checker reports a deadlock where other locks would hang.

use std::sync::atomic::{AtomicU32, Ordering};

use lock_api::GuardSend;

/// A mutex that panics where another would wait.
#[derive(Debug)]
pub struct RawMutex(RawRwLock);

/// A reader-writer lock that panics where another would wait.
#[derive(Debug)]
pub struct RawRwLock(AtomicU32);

/// What the panic of a lock that would wait says.
pub(crate) const WOULD_WAIT: &str = "deadlock: waiting for a lock";

/// The count of an exclusive holder; below it, the count of the shared ones.
const EXCLUSIVE: u32 = u32::MAX;

// SAFETY: `try_lock_exclusive` succeeds only by moving the count from 0 to EXCLUSIVE, and
// `try_lock_shared` only by moving it from below EXCLUSIVE - 1 up by one, both atomically; so that an
// exclusive holder is alone. `lock_*` return only if the corresponding `try_lock_*` did succeed.
unsafe impl lock_api::RawRwLock for RawRwLock {
    const INIT: Self = Self(AtomicU32::new(0));
    type GuardMarker = GuardSend;

    fn lock_shared(&self) {
        assert!(self.try_lock_shared(), "{WOULD_WAIT} that is held exclusively");
    }

    fn try_lock_shared(&self) -> bool {
        let more = |count: u32| (count < EXCLUSIVE - 1).then(|| count + 1);
        self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).is_ok()
    }

    unsafe fn unlock_shared(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    fn lock_exclusive(&self) {
        assert!(self.try_lock_exclusive(), "{WOULD_WAIT} that is held");
    }

    fn try_lock_exclusive(&self) -> bool {
        self.0.compare_exchange(0, EXCLUSIVE, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock_exclusive(&self) {
        self.0.store(0, Ordering::Release);
    }
}

// SAFETY: it is the exclusive half of the lock above.
unsafe impl lock_api::RawMutex for RawMutex {
    const INIT: Self = Self(<RawRwLock as lock_api::RawRwLock>::INIT);
    type GuardMarker = GuardSend;

    fn lock(&self) {
        lock_api::RawRwLock::lock_exclusive(&self.0);
    }

    fn try_lock(&self) -> bool {
        lock_api::RawRwLock::try_lock_exclusive(&self.0)
    }

    unsafe fn unlock(&self) {
        // SAFETY: the caller holds the mutex, which is the exclusive half.
        unsafe { lock_api::RawRwLock::unlock_exclusive(&self.0) }
    }
}
