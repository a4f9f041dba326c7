//! What the store asks of the machine below it: one growable sequence of bytes that can be read,
//! written, made durable, cut, and (where the machine can) mapped into memory and punched.
//!
//! A platform is *not* a file system: it holds exactly one store. Opening, creating and locking the
//! file behind it happen before the store sees it (see `allod-unix`, `allod-mem`).
//!
//! # What the store assumes of every platform
//!
//! * A successful [`Platform::sync`] makes every earlier write, punch and change of length durable.
//! * A successful [`Platform::write_sync`] makes its own bytes durable, and a length that covers
//!   them. It need not make anything else durable.
//! * Without a sync, any subset of what was written may survive a crash, in any order. A sector
//!   in flight may be old, new, torn, or garbage. All sectors of a [page](Capabilities::page_size)
//!   of which one byte is written are in flight.
//! * Pages that nobody writes keep their bytes.
//!
//! Nothing else: not 4 KiB atomicity, not ordering between writes, not that a punch is durable.

use crate::error::{PlatformError, PlatformErrorKind};

/// What a platform can do, asked once when a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The smallest piece, in bytes, that the medium rewrites as a whole: a power of two between
    /// 4,096 and 65,536. A store is created with pages of this size; a store whose pages are
    /// smaller cannot be written through this platform.
    pub page_size: u32,
    /// Whether bytes that were never written take no space, so that room ahead of a region costs
    /// nothing. Where this is false, room is doubled instead of reserved generously.
    pub sparse: bool,
    /// Whether [`Platform::punch`] gives space back to the machine.
    pub punch: bool,
    /// Whether every write is refused. The store then opens read-only.
    pub read_only: bool,
}

impl Default for Capabilities {
    /// Pages of 4,096 bytes, sparse, punching, writable.
    fn default() -> Self {
        Self { page_size: 4096, sparse: true, punch: true, read_only: false }
    }
}

/// A readable view of the platform's bytes from offset 0, alive as long as the value is.
///
/// # Safety
///
/// For as long as the value lives, wherever it is moved:
///
/// * `as_ptr()` is constant, and the `len()` bytes behind it are inside one allocation or mapping.
/// * A byte at an offset below the platform's length may be read through it, and reading it gives
///   what was last written there with [`Platform::write`] or [`Platform::write_sync`]. Bytes at or
///   past the platform's length must not be touched, and the store does not.
/// * Growing the platform, or making another mapping, does not disturb it.
///
/// That the bytes behind a `&[u8]` do not change while it lives is the store's part (I11): it never
/// writes to a place that a reader maps.
pub unsafe trait Mapping: Send + Sync + 'static {
    /// The address of the byte at offset 0.
    fn as_ptr(&self) -> *const u8;
    /// How many bytes the view spans. May exceed the platform's length.
    fn len(&self) -> usize;
    /// Whether the view spans nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The mapping of a platform that has none: [`Platform::map`] answers `None`, and no value of this
/// type exists.
#[derive(Debug)]
pub enum NoMapping {}

// SAFETY: there is no value of this type.
unsafe impl Mapping for NoMapping {
    fn as_ptr(&self) -> *const u8 {
        match *self {}
    }
    fn len(&self) -> usize {
        match *self {}
    }
}

/// The machine below a store. All methods may be called from several threads at once.
///
/// Offsets and lengths are in bytes. A call that fails may have done part of its work (a part of a
/// write may be in place), and says so with an error; it never panics.
pub trait Platform: Send + Sync + Sized + 'static {
    /// The mutex that the store uses: `parking_lot::RawMutex` where there is an operating system,
    /// a spin lock where there is none, a scheduler-controlled lock in tests of schedules.
    type RawMutex: lock_api::RawMutex + Send + Sync + 'static;
    /// The reader-writer lock that the store uses.
    type RawRwLock: lock_api::RawRwLock + Send + Sync + 'static;
    /// What [`map`](Self::map) gives; [`NoMapping`] where it gives nothing.
    type Mapping: Mapping;

    /// What this platform can do. Constant for its life.
    fn capabilities(&self) -> Capabilities;

    /// The length in bytes. Every byte below it can be read; those never written read as zeros.
    fn len(&self) -> Result<u64, PlatformError>;

    /// Whether the length is 0.
    fn is_empty(&self) -> Result<bool, PlatformError> {
        Ok(self.len()? == 0)
    }

    /// Makes the length at least `len`. Bytes between the old and the new length read as zeros.
    /// Never makes it shorter.
    fn grow(&self, len: u64) -> Result<(), PlatformError>;

    /// Makes the length at most `len`; what lies behind is gone. Never makes it longer. The store
    /// calls it only for bytes that no reader maps (I10).
    fn cut(&self, len: u64) -> Result<(), PlatformError>;

    /// Fills `buf` with the bytes at `offset`. An end of the bytes inside the range is an error of
    /// the kind [`PlatformErrorKind::UnexpectedEnd`].
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), PlatformError>;

    /// Writes all of `bytes` at `offset`, growing the length where they pass it. Durable after the
    /// next successful [`sync`](Self::sync).
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError>;

    /// Writes all of `bytes` at `offset` and makes them durable, with a length that covers them,
    /// without making anything else durable where the machine can do that.
    fn write_sync(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        self.write(offset, bytes)?;
        self.sync()
    }

    /// Makes every earlier write, punch and change of length durable. The store never retries a
    /// sync that failed: it stops writing for good.
    fn sync(&self) -> Result<(), PlatformError>;

    /// Gives the space of the range back where the machine can; the range stays inside the length
    /// and its content is undefined afterwards. Answers whether space was given back. The store
    /// passes whole pages.
    fn punch(&self, offset: u64, len: u64) -> Result<bool, PlatformError>;

    /// A view of at least the first `len` bytes, or `None` where the platform cannot map, or cannot
    /// map so much. `len` may exceed the length: the platform may then give a view that later
    /// growth fills.
    fn map(&self, len: u64) -> Result<Option<Self::Mapping>, PlatformError>;

    /// The bytes really taken on the machine, where it can tell.
    fn allocated(&self) -> Result<Option<u64>, PlatformError>;

    /// 128 bits that no other store has: the id of a new store. A simulated platform may fix them.
    fn entropy(&self) -> Result<u128, PlatformError>;

    /// Lets other threads run. Called by a flush that waits for others to join it.
    fn yield_now(&self) {}

    /// A number that differs between threads that live at the same time. The default, for platforms
    /// without threads, is always 0.
    fn thread(&self) -> u64 {
        0
    }
}

/// Answers an error when `offset + len` overflows or the range does not lie inside `end`.
///
/// A helper for implementers of [`Platform::read`].
pub fn check_range(offset: u64, len: usize, end: u64) -> Result<(), PlatformError> {
    match offset.checked_add(len as u64) {
        Some(last) if last <= end => Ok(()),
        _ => Err(PlatformError::new(PlatformErrorKind::UnexpectedEnd, "read")
            .at(offset, len as u64)
            .detail(alloc::format!("the bytes end at {end}"))),
    }
}
