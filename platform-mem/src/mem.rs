//! Plain memory as a platform: [`MemPlatform`].
//!
//! For stores that live as long as the process, for machines without a file system, and for tests.
//! It is not a disk: every byte is durable at once, and `sync` does nothing. For crashes and faults
//! see [`SimDisk`](crate::SimDisk); for zero-copy reading see [`MappedMem`](crate::MappedMem).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use allod_core::platform::{Capabilities, NoMapping, Platform, check_range};
use allod_core::{PlatformError, PlatformErrorKind};

use crate::locks::{self, Mutex, RawMutex, RawRwLock, RwLock};
use crate::pages::{MAX_LEN, PAGE_SIZE, Pages};
use crate::prng::Prng;

/// Plain memory in pages of 4 KiB, taken when they are first written to.
///
/// A value is a *handle*: [`Clone`] gives another handle to the same bytes, so that a test can keep
/// one while a store owns the other, and open "the same disk" again later. [`snapshot`] gives
/// independent bytes.
///
/// One store at a time should use the bytes, as with a file; nothing here enforces it.
///
/// ```
/// use allod_core::platform::Platform;
/// use allod_mem::MemPlatform;
///
/// let memory = MemPlatform::new();
/// memory.write(10_000, b"allod")?;
/// let before = memory.snapshot();
/// memory.clone().write(10_000, b"other")?;
///
/// let mut bytes = [0; 5];
/// memory.read(10_000, &mut bytes)?;
/// assert_eq!(&bytes, b"other");
/// before.read(10_000, &mut bytes)?;
/// assert_eq!(&bytes, b"allod");
/// assert_eq!(memory.allocated()?, Some(4096));
/// # Ok::<(), allod_core::PlatformError>(())
/// ```
///
/// [`snapshot`]: Self::snapshot
#[derive(Clone)]
pub struct MemPlatform {
    shared: Arc<Shared>,
}

struct Shared {
    bytes: RwLock<Bytes>,
    /// Page limit of the capacity, for life.
    capacity: Option<u64>,
    entropy: Mutex<Prng>,
}

#[derive(Clone, Default)]
struct Bytes {
    pages: Pages,
    len: u64,
}

impl MemPlatform {
    /// Empty memory without a limit but the machine's.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Bytes::default(), None, Prng::new(unique()))
    }

    /// Empty memory that holds at most `bytes` bytes, rounded down to whole pages. Calls that would
    /// take more fail with [`PlatformErrorKind::NoSpace`] and change nothing. Length costs nothing:
    /// only pages that were written to count.
    #[must_use]
    pub fn with_capacity_limit(bytes: u64) -> Self {
        let pages = bytes / u64::from(PAGE_SIZE);
        Self::with(Bytes::default(), Some(pages), Prng::new(unique()))
    }

    /// Memory that holds a copy of `bytes`, without a limit.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut content = Bytes { len: bytes.len() as u64, ..Bytes::default() };
        content.pages.write(0, bytes);
        Self::with(content, None, Prng::new(unique()))
    }

    /// Fixes what [`Platform::entropy`] answers from now on, for all handles to these bytes: a
    /// sequence that depends on `seed` alone. So the same calls give the same bytes.
    #[must_use]
    pub fn with_entropy(self, seed: u64) -> Self {
        *self.shared.entropy.lock() = Prng::new(seed);
        self
    }

    /// An independent copy of the bytes as they are now, with the same limit. Costs nothing at
    /// first, and a copy of each page that either side changes later.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let bytes = self.shared.bytes.read().clone();
        Self::with(bytes, self.shared.capacity, Prng::new(unique()))
    }

    /// All bytes, holes as zeros.
    ///
    /// # Errors
    ///
    /// [`PlatformErrorKind::NoSpace`] when the machine has no memory for so many.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PlatformError> {
        let bytes = self.shared.bytes.read();
        collect(&bytes.pages, bytes.len)
    }

    fn with(bytes: Bytes, capacity: Option<u64>, entropy: Prng) -> Self {
        let shared = Shared { bytes: RwLock::new(bytes), capacity, entropy: Mutex::new(entropy) };
        Self { shared: Arc::new(shared) }
    }
}

impl Default for MemPlatform {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.shared.bytes.read();
        f.debug_struct("MemPlatform")
            .field("len", &bytes.len)
            .field("pages", &bytes.pages.allocated())
            .finish_non_exhaustive()
    }
}

impl Platform for MemPlatform {
    type RawMutex = RawMutex;
    type RawRwLock = RawRwLock;
    type Mapping = NoMapping;

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn len(&self) -> Result<u64, PlatformError> {
        Ok(self.shared.bytes.read().len)
    }

    fn grow(&self, len: u64) -> Result<(), PlatformError> {
        end_of("grow", len, 0)?;
        let mut bytes = self.shared.bytes.write();
        bytes.len = bytes.len.max(len);
        Ok(())
    }

    fn cut(&self, len: u64) -> Result<(), PlatformError> {
        let mut bytes = self.shared.bytes.write();
        if len < bytes.len {
            bytes.len = len;
            bytes.pages.trim(len);
        }
        Ok(())
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), PlatformError> {
        let bytes = self.shared.bytes.read();
        check_range(offset, buf.len(), bytes.len)?;
        bytes.pages.read(offset, buf);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), PlatformError> {
        if data.is_empty() {
            return Ok(());
        }
        let end = end_of("write", offset, data.len())?;
        let mut bytes = self.shared.bytes.write();
        check_capacity(&bytes.pages, self.shared.capacity, "write", offset, data.len())?;
        bytes.pages.write(offset, data);
        bytes.len = bytes.len.max(end);
        Ok(())
    }

    fn write_sync(&self, offset: u64, data: &[u8]) -> Result<(), PlatformError> {
        self.write(offset, data)
    }

    fn sync(&self) -> Result<(), PlatformError> {
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> Result<bool, PlatformError> {
        let mut bytes = self.shared.bytes.write();
        let (from, to) = whole_pages(offset, len);
        Ok(bytes.pages.remove(from, to) > 0)
    }

    fn map(&self, _len: u64) -> Result<Option<NoMapping>, PlatformError> {
        Ok(None)
    }

    fn allocated(&self) -> Result<Option<u64>, PlatformError> {
        let pages = self.shared.bytes.read().pages.allocated();
        Ok(Some(pages.saturating_mul(u64::from(PAGE_SIZE))))
    }

    /// With the feature `std`, bits that the machine's randomness seeds; without it, bits that
    /// differ between the values of one process only. See [`MemPlatform::with_entropy`].
    fn entropy(&self) -> Result<u128, PlatformError> {
        Ok(self.shared.entropy.lock().wide())
    }

    fn yield_now(&self) {
        locks::yield_now();
    }

    fn thread(&self) -> u64 {
        locks::thread()
    }
}

/// A number that differs between calls, and with `std` between processes.
pub(crate) fn unique() -> u64 {
    use core::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) as u64;
    #[cfg(feature = "std")]
    let number = {
        use core::hash::BuildHasher;
        std::hash::RandomState::new().hash_one(number)
    };
    number
}

/// Where a write of `len` bytes at `offset` ends.
pub(crate) fn end_of(
    operation: &'static str,
    offset: u64,
    len: usize,
) -> Result<u64, PlatformError> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= MAX_LEN => Ok(end),
        _ => Err(PlatformError::new(PlatformErrorKind::NoSpace, operation)
            .at(offset, len as u64)
            .detail("past the largest length there can be")),
    }
}

/// Whether the pages under a write are there or still fit.
pub(crate) fn check_capacity(
    pages: &Pages,
    capacity: Option<u64>,
    operation: &'static str,
    offset: u64,
    len: usize,
) -> Result<(), PlatformError> {
    let Some(capacity) = capacity else { return Ok(()) };
    let page = u64::from(PAGE_SIZE);
    let missing = pages.missing(offset / page, (offset + len as u64).div_ceil(page));
    if pages.allocated().saturating_add(missing) <= capacity {
        return Ok(());
    }
    Err(PlatformError::new(PlatformErrorKind::NoSpace, operation).at(offset, len as u64).detail(
        alloc::format!("{missing} pages more than {} of at most {capacity}", pages.allocated()),
    ))
}

/// The pages that lie wholly in a range.
pub(crate) fn whole_pages(offset: u64, len: u64) -> (u64, u64) {
    let page = u64::from(PAGE_SIZE);
    (offset.div_ceil(page), offset.saturating_add(len) / page)
}

/// All bytes below `len` in one piece.
pub(crate) fn collect(pages: &Pages, len: u64) -> Result<Vec<u8>, PlatformError> {
    let too_large = || PlatformError::new(PlatformErrorKind::NoSpace, "to_bytes").at(0, len);
    let size = usize::try_from(len).map_err(|_| too_large())?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| too_large())?;
    bytes.resize(size, 0);
    pages.read(0, &mut bytes);
    Ok(bytes)
}
