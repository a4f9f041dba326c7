//! What readers and the store share: the platform, the size of a page, the map, and the count of
//! memory in use. A reader keeps this alive, and with it the lock on the file, but not the store.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use lock_api::Mutex;

use crate::error::{Error, Result};
use crate::platform::{Mapping, Platform};
use crate::run::Run;

pub(crate) struct Base<P: Platform> {
    pub(crate) platform: P,
    shift: u32,
    /// The newest, largest map. Older ones live as long as their readers.
    map: Mutex<P::RawMutex, Option<Arc<P::Mapping>>>,
    memory: AtomicUsize,
}

impl<P: Platform> Base<P> {
    pub(crate) fn new(platform: P, page_size: u32) -> Arc<Self> {
        Arc::new(Self {
            platform,
            shift: page_size.trailing_zeros(),
            map: Mutex::new(None),
            memory: AtomicUsize::new(0),
        })
    }

    /// The size of a page in bytes.
    pub(crate) fn page_size(&self) -> u64 {
        1 << self.shift
    }

    /// The page that holds a byte.
    pub(crate) fn page_of(&self, offset: u64) -> u64 {
        offset >> self.shift
    }

    /// The first byte of a page.
    pub(crate) fn page_offset(&self, page: u64) -> u64 {
        page << self.shift
    }

    /// The length rounded up to whole pages.
    pub(crate) fn page_up(&self, len: u64) -> u64 {
        (len + (self.page_size() - 1)) & !(self.page_size() - 1)
    }

    /// How many pages hold `len` bytes.
    pub(crate) fn pages(&self, len: u64) -> u64 {
        self.page_of(self.page_up(len))
    }

    /// A page of zeros.
    pub(crate) fn page_buffer(&self) -> Result<Box<[u8]>> {
        self.buffer(self.page_size() as usize)
    }

    /// `len` zeros, or an error where memory is short.
    pub(crate) fn buffer(&self, len: usize) -> Result<Box<[u8]>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { requested: len as u64 })?;
        bytes.resize(len, 0);
        Ok(bytes.into_boxed_slice())
    }

    /// A page that starts with `bytes` and goes on with zeros.
    pub(crate) fn page_from(&self, bytes: &[u8]) -> Arc<[u8]> {
        let size = self.page_size() as usize;
        if bytes.len() == size {
            return Arc::from(bytes);
        }
        let mut page = Vec::with_capacity(size);
        page.extend_from_slice(bytes);
        page.resize(size, 0);
        Arc::from(page)
    }

    /// Reads the bytes at `offset` of the region that lives in `run` from their place.
    pub(crate) fn read(&self, run: Run, offset: u64, buf: &mut [u8]) -> Result<()> {
        Ok(self.platform.read(self.page_offset(run.start) + offset, buf)?)
    }

    /// A map of at least the first `len` bytes, where the platform maps.
    pub(crate) fn map(&self, len: u64) -> Option<Arc<P::Mapping>> {
        let mut current = self.map.lock();
        if let Some(map) = current.as_ref().filter(|map| map.len() as u64 >= len) {
            return Some(map.clone());
        }
        // Room ahead, so that a growing file needs a handful of maps in its life.
        let ahead = len.saturating_mul(4).max(64 << 20);
        let made = match self.platform.map(ahead) {
            Ok(Some(map)) => Some(map),
            _ => self.platform.map(len).ok().flatten(),
        };
        let made = made.filter(|map| map.len() as u64 >= len).map(Arc::new)?;
        *current = Some(made.clone());
        Some(made)
    }

    /// Bytes held in memory for regions: tails and pages.
    pub(crate) fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    pub(crate) fn add_memory(&self, bytes: usize) {
        self.memory.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub_memory(&self, bytes: usize) {
        self.memory.fetch_sub(bytes, Ordering::Relaxed);
    }
}
