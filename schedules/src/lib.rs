//! The store under a scheduler: a platform whose locks, and whose every call, are points at which the
//! scheduler ([shuttle]) may let another thread run.
//!
//! The store takes its locks from the platform, so nothing of it has to be compiled differently for
//! this. What the scheduler does not see are the store's few atomics; they are read and written
//! next to lock operations, which it sees.
//!
//! [shuttle]: https://docs.rs/shuttle

use allod_core::{Capabilities, Platform, PlatformError};
use allod_mem::MemPlatform;
use shuttle::sync::atomic::{AtomicUsize, Ordering};

/// Memory, under the scheduler. A cheap handle, as [`MemPlatform`] is.
#[derive(Clone, Debug)]
pub struct ScheduledMem(MemPlatform);

impl ScheduledMem {
    /// An empty platform. The id of the store on it is always the same, so that a schedule can be
    /// replayed.
    pub fn new() -> Self {
        Self(MemPlatform::new().with_entropy(1))
    }

    /// The bytes as they are now: what a process that dies here leaves.
    pub fn snapshot(&self) -> MemPlatform {
        self.0.snapshot()
    }
}

impl Default for ScheduledMem {
    fn default() -> Self {
        Self::new()
    }
}

/// A mutex made of one number that the scheduler watches.
#[derive(Debug)]
pub struct ScheduledMutex(AtomicUsize);

// SAFETY: `lock` returns only after it changed 0 to 1, and only `unlock` changes it back.
unsafe impl lock_api::RawMutex for ScheduledMutex {
    #[allow(clippy::declare_interior_mutable_const)]
    const INIT: Self = Self(AtomicUsize::new(0));
    type GuardMarker = lock_api::GuardSend;

    fn lock(&self) {
        while !self.try_lock() {
            shuttle::thread::yield_now();
        }
    }

    fn try_lock(&self) -> bool {
        self.0.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    unsafe fn unlock(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

/// A reader-writer lock made of one number: how many read, or `WRITER`.
#[derive(Debug)]
pub struct ScheduledRwLock(AtomicUsize);

const WRITER: usize = usize::MAX;

// SAFETY: readers enter only while nobody writes, and a writer only while nobody is inside.
unsafe impl lock_api::RawRwLock for ScheduledRwLock {
    #[allow(clippy::declare_interior_mutable_const)]
    const INIT: Self = Self(AtomicUsize::new(0));
    type GuardMarker = lock_api::GuardSend;

    fn lock_shared(&self) {
        while !self.try_lock_shared() {
            shuttle::thread::yield_now();
        }
    }

    fn try_lock_shared(&self) -> bool {
        let now = self.0.load(Ordering::SeqCst);
        now != WRITER
            && self.0.compare_exchange(now, now + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    unsafe fn unlock_shared(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn lock_exclusive(&self) {
        while !self.try_lock_exclusive() {
            shuttle::thread::yield_now();
        }
    }

    fn try_lock_exclusive(&self) -> bool {
        self.0.compare_exchange(0, WRITER, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    unsafe fn unlock_exclusive(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

impl Platform for ScheduledMem {
    type RawMutex = ScheduledMutex;
    type RawRwLock = ScheduledRwLock;
    type Mapping = <MemPlatform as Platform>::Mapping;

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn len(&self) -> Result<u64, PlatformError> {
        self.0.len()
    }

    fn grow(&self, len: u64) -> Result<(), PlatformError> {
        shuttle::thread::yield_now();
        self.0.grow(len)
    }

    fn cut(&self, len: u64) -> Result<(), PlatformError> {
        shuttle::thread::yield_now();
        self.0.cut(len)
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), PlatformError> {
        shuttle::thread::yield_now();
        self.0.read(offset, buf)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        shuttle::thread::yield_now();
        self.0.write(offset, bytes)
    }

    fn sync(&self) -> Result<(), PlatformError> {
        shuttle::thread::yield_now();
        self.0.sync()
    }

    fn punch(&self, offset: u64, len: u64) -> Result<bool, PlatformError> {
        shuttle::thread::yield_now();
        self.0.punch(offset, len)
    }

    fn map(&self, len: u64) -> Result<Option<Self::Mapping>, PlatformError> {
        self.0.map(len)
    }

    fn allocated(&self) -> Result<Option<u64>, PlatformError> {
        self.0.allocated()
    }

    fn entropy(&self) -> Result<u128, PlatformError> {
        self.0.entropy()
    }

    fn yield_now(&self) {
        shuttle::thread::yield_now();
    }

    fn thread(&self) -> u64 {
        // The scheduler numbers its threads from 0.
        let id = format!("{:?}", shuttle::thread::current().id());
        id.bytes().filter(u8::is_ascii_digit).fold(1, |n, digit| n * 10 + u64::from(digit - b'0'))
    }
}
