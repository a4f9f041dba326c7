//! Plain memory that maps: [`MappedMem`].
//!
//! The store reads through a mapping without copying where a platform offers one. This platform
//! offers one without an operating system, so that this path runs under Miri and on machines
//! without files. It does not grow past the capacity it was made with, and gives nothing back.

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;

use allod_core::platform::{Capabilities, Mapping, Platform, check_range};
use allod_core::{PlatformError, PlatformErrorKind};

use crate::locks::{self, Mutex, RawMutex, RawRwLock, RwLock};
use crate::mem::unique;
use crate::pages::PAGE_SIZE;
use crate::prng::Prng;

/// One allocation of zeros with a fixed capacity. Where the allocator takes zeros from the machine
/// lazily, the parts that nobody touched cost nothing.
///
/// As with [`MemPlatform`](crate::MemPlatform), a value is a handle: a clone is another handle to
/// the same bytes. The memory lives as long as any handle or mapping of it.
///
/// Punching gives nothing back and changes nothing, and says so.
///
/// ```
/// use allod_core::platform::{Mapping, Platform};
/// use allod_mem::MappedMem;
///
/// let memory = MappedMem::new(1 << 20)?;
/// memory.write(100, b"allod")?;
/// let view = memory.map(105)?.expect("it fits");
/// assert_eq!(view.len(), 1 << 20);
/// // SAFETY: the bytes lie below the length, and nobody writes to them any more.
/// let bytes = unsafe { core::slice::from_raw_parts(view.as_ptr().add(100), 5) };
/// memory.write(200, b"elsewhere")?;
/// assert_eq!(bytes, b"allod");
/// # Ok::<(), allod_core::PlatformError>(())
/// ```
#[derive(Clone)]
pub struct MappedMem {
    shared: Arc<Shared>,
}

struct Shared {
    memory: Arc<Memory>,
    /// The length, and the right to touch the bytes: who copies out of the memory holds it shared,
    /// who copies into it holds it alone. Readers of a mapping hold nothing; see [`MappedView`].
    len: RwLock<usize>,
    entropy: Mutex<Prng>,
}

/// What [`MappedMem`] maps: its whole capacity, for as long as the value lives.
pub struct MappedView {
    memory: Arc<Memory>,
}

struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory belongs to this value alone and is freed when it is dropped, on whatever
// thread. Access is ordered by `Shared::len`, or by the user of a mapping.
unsafe impl Send for Memory {}
// SAFETY: as above; the type itself offers no access but the address.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: `start` came from `alloc_zeroed` with this layout, and no handle or mapping
            // is left, since each holds a reference to this value.
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
        }
    }
}

// SAFETY: the address is that of one allocation which `memory` keeps alive and which never moves,
// whatever is written, grown or mapped. All of its bytes are initialised from the start (zeros) and
// stay so. `MappedMem` writes through raw pointers only and makes no references, so a `&[u8]` that
// the store makes stays valid as long as nobody writes to those very bytes: that is I11, and for
// the zeros that a cut writes I10, on the store's side of the contract of `Mapping`.
unsafe impl Mapping for MappedView {
    fn as_ptr(&self) -> *const u8 {
        self.memory.start.as_ptr()
    }

    fn len(&self) -> usize {
        self.memory.layout.size()
    }
}

impl fmt::Debug for MappedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedView").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl MappedMem {
    /// Empty memory that can grow to `capacity` bytes, which are reserved at once.
    ///
    /// # Errors
    ///
    /// [`PlatformErrorKind::NoSpace`] when the allocator does not have so many.
    pub fn new(capacity: usize) -> Result<Self, PlatformError> {
        let no_space =
            || PlatformError::new(PlatformErrorKind::NoSpace, "allocate").at(0, capacity as u64);
        let layout =
            Layout::from_size_align(capacity, PAGE_SIZE as usize).map_err(|_| no_space())?;
        let start = if capacity == 0 {
            NonNull::<u8>::dangling()
        } else {
            // SAFETY: the layout's size is not 0.
            NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(no_space)?
        };
        let shared = Shared {
            memory: Arc::new(Memory { start, layout }),
            len: RwLock::new(0),
            entropy: Mutex::new(Prng::new(unique())),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Fixes what [`Platform::entropy`] answers from now on, for all handles to these bytes: a
    /// sequence that depends on `seed` alone.
    #[must_use]
    pub fn with_entropy(self, seed: u64) -> Self {
        *self.shared.entropy.lock() = Prng::new(seed);
        self
    }

    /// How many bytes fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.memory.layout.size()
    }

    /// A copy of all bytes.
    ///
    /// # Errors
    ///
    /// [`PlatformErrorKind::NoSpace`] when the machine has no memory for so many.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PlatformError> {
        let len = self.shared.len.read();
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(*len).map_err(|_| {
            PlatformError::new(PlatformErrorKind::NoSpace, "to_bytes").at(0, *len as u64)
        })?;
        bytes.resize(*len, 0);
        self.copy_out(0, &mut bytes);
        Ok(bytes)
    }

    fn start(&self) -> *mut u8 {
        self.shared.memory.start.as_ptr()
    }

    /// Copies bytes out. The caller holds the length shared and has checked the range against it.
    fn copy_out(&self, offset: usize, buf: &mut [u8]) {
        assert!(buf.len() <= self.capacity() && offset <= self.capacity() - buf.len());
        // SAFETY: the range lies in the allocation (just asserted), all of it is initialised, and
        // `buf` cannot overlap it, since nobody has a mutable reference into the allocation. No
        // write is under way, since writers hold the length alone.
        unsafe { self.start().add(offset).copy_to_nonoverlapping(buf.as_mut_ptr(), buf.len()) };
    }

    /// The end of a range, if it fits the capacity.
    fn end(&self, operation: &'static str, at: u64, len: usize) -> Result<usize, PlatformError> {
        let end = at.checked_add(len as u64).and_then(|end| usize::try_from(end).ok());
        end.filter(|&end| end <= self.capacity()).ok_or_else(|| {
            PlatformError::new(PlatformErrorKind::NoSpace, operation)
                .at(at, len as u64)
                .detail(alloc::format!("the capacity is {} bytes", self.capacity()))
        })
    }
}

impl fmt::Debug for MappedMem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedMem")
            .field("len", &*self.shared.len.read())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl Platform for MappedMem {
    type RawMutex = RawMutex;
    type RawRwLock = RawRwLock;
    type Mapping = MappedView;

    fn capabilities(&self) -> Capabilities {
        Capabilities { punch: false, ..Capabilities::default() }
    }

    fn len(&self) -> Result<u64, PlatformError> {
        Ok(*self.shared.len.read() as u64)
    }

    fn grow(&self, len: u64) -> Result<(), PlatformError> {
        let end = self.end("grow", len, 0)?;
        let mut now = self.shared.len.write();
        *now = end.max(*now);
        Ok(())
    }

    fn cut(&self, len: u64) -> Result<(), PlatformError> {
        let mut now = self.shared.len.write();
        if let Ok(len) = usize::try_from(len) {
            if len < *now {
                // SAFETY: both lengths are at most the capacity. No other write and no copy is
                // under way, since the length is held alone, and no reader maps what is cut (I10).
                unsafe { self.start().add(len).write_bytes(0, *now - len) };
                *now = len;
            }
        }
        Ok(())
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), PlatformError> {
        let len = self.shared.len.read();
        check_range(offset, buf.len(), *len as u64)?;
        // Lossless: not more than the length.
        self.copy_out(offset as usize, buf);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = self.end("write", offset, bytes.len())?;
        let mut len = self.shared.len.write();
        let place = end - bytes.len();
        // SAFETY: the range ends within the capacity. No other write and no copy is under way,
        // since the length is held alone, and no reader maps what is written (I11); so the bytes
        // that come from a mapping of this very memory do not overlap it either, and `copy_from`
        // would be right if they did.
        unsafe { self.start().add(place).copy_from(bytes.as_ptr(), bytes.len()) };
        *len = end.max(*len);
        Ok(())
    }

    fn write_sync(&self, offset: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        self.write(offset, bytes)
    }

    fn sync(&self) -> Result<(), PlatformError> {
        Ok(())
    }

    fn punch(&self, _offset: u64, _len: u64) -> Result<bool, PlatformError> {
        Ok(false)
    }

    fn map(&self, len: u64) -> Result<Option<MappedView>, PlatformError> {
        if len > self.capacity() as u64 {
            return Ok(None);
        }
        Ok(Some(MappedView { memory: Arc::clone(&self.shared.memory) }))
    }

    /// Unknown: how much of the allocation was touched, only the allocator can tell.
    fn allocated(&self) -> Result<Option<u64>, PlatformError> {
        Ok(None)
    }

    /// As for [`MemPlatform`](crate::MemPlatform).
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
