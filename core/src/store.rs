//! The store: opening, the table of regions, and what its parts share.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use lock_api::{Mutex, RwLock};

use crate::base::Base;
use crate::epoch::{Dirty, Hold};
use crate::error::{Error, PlatformError, PlatformErrorKind, Result};
use crate::flush::{Durability, FlushReport, Flusher, Request};
use crate::ground::Ground;
use crate::mutant::{self, Mutant};
use crate::options::Options;
use crate::platform::Platform;
use crate::region::Region;
use crate::slots::Slots;
use crate::state::{Changed, State};
use crate::table::{self, Table, check_name};
use crate::usage::Counters;

pub(crate) const READY: u8 = 0;
pub(crate) const UNCONFIRMED: u8 = 1;
pub(crate) const READ_ONLY: u8 = 2;
pub(crate) const POISONED: u8 = 3;

/// What all handles of a store share.
pub(crate) struct Inner<P: Platform> {
    pub(crate) base: Arc<Base<P>>,
    pub(crate) sparse: bool,
    pub(crate) inline_limit: u64,
    pub(crate) memory_budget: usize,
    pub(crate) journal_size: u64,
    pub(crate) status: AtomicU8,
    pub(crate) cause: Mutex<P::RawMutex, Option<PlatformError>>,
    pub(crate) slots: Slots<P>,
    pub(crate) table: RwLock<P::RawRwLock, Table>,
    /// The low bits of [`Dirty::epoch`].
    pub(crate) epoch: AtomicUsize,
    pub(crate) dirty: Mutex<P::RawMutex, Dirty>,
    pub(crate) hold: RwLock<P::RawRwLock, ()>,
    pub(crate) holders: Mutex<P::RawMutex, Vec<u64>>,
    pub(crate) ground: Mutex<P::RawMutex, Ground>,
    pub(crate) growing: Mutex<P::RawMutex, ()>,
    /// How many callers wait to flush.
    pub(crate) waiting: AtomicUsize,
    pub(crate) flusher: Mutex<P::RawMutex, Flusher>,
    /// Regions that have pages in memory which a flush has written.
    pub(crate) overlaid: Mutex<P::RawMutex, Vec<u32>>,
    pub(crate) counters: Counters,
}

impl<P: Platform> Inner<P> {
    /// Answers an error unless the store may be changed.
    #[inline]
    pub(crate) fn ready(&self) -> Result<()> {
        if self.is_ready() { Ok(()) } else { self.make_ready() }
    }

    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.status.load(Ordering::Acquire) == READY
    }

    #[cold]
    fn make_ready(&self) -> Result<()> {
        self.check_poison()?;
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let mut flusher = self.flusher.lock();
        let mut result = self.check_poison();
        if result.is_ok() && flusher.unconfirmed.is_some() {
            if mutant::is(Mutant::NotConfirmed) {
                let space = flusher.unconfirmed.take().map(|unconfirmed| unconfirmed.space());
                self.ground.lock().space = space.unwrap_or_default();
            } else {
                result = self.confirm(&mut flusher);
            }
        }
        if flusher.unconfirmed.is_none() {
            // Unless it is poisoned meanwhile.
            let _ = self.status.compare_exchange(
                UNCONFIRMED,
                READY,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
        }
        result?;
        drop(flusher);
        self.check_poison()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.status.load(Ordering::Acquire) == READ_ONLY
    }

    pub(crate) fn check_poison(&self) -> Result<()> {
        if self.status.load(Ordering::Acquire) != POISONED {
            return Ok(());
        }
        let cause = self.cause.lock().clone();
        let unknown = || PlatformError::new(PlatformErrorKind::Io, "sync");
        Err(Error::Poisoned { cause: cause.unwrap_or_else(unknown) })
    }

    pub(crate) fn set_poisoned(&self, cause: PlatformError) {
        self.cause.lock().get_or_insert(cause);
        self.status.store(POISONED, Ordering::Release);
    }

    pub(crate) fn over_budget(&self) -> bool {
        self.base.memory() > self.memory_budget
    }

    /// How many pages a region should have that needs `need` and has `have`.
    pub(crate) fn growth(&self, need: u64, have: u64) -> u64 {
        let first = self.base.pages(1 << 20);
        let wanted = if !self.sparse || need <= self.base.pages(64 << 10) {
            have.saturating_mul(2)
        } else if have < first {
            first
        } else {
            have.saturating_mul(4)
        };
        wanted.max(need).min(self.base.pages(crate::run::MAX_REGION_LEN))
    }

    pub(crate) fn rename(&self, index: u32, id: u64, name: &str) -> Result<()> {
        self.ready()?;
        check_name(name)?;
        let mut table = self.table.write();
        let Some(slot) = self.slots.get(index) else { return Err(Error::RegionRemoved { id }) };
        let mut state = slot.lock();
        state.check(id)?;
        if table.name(state.name) == name {
            return Ok(());
        }
        if table.find(name).is_some() {
            return Err(table::exists(name));
        }
        let new = table.intern(name)?;
        table.reserve(1, 0)?;
        self.touch(index, &mut state);
        let old = core::mem::replace(&mut state.name, new);
        state.live(&self.base).changed.add(Changed::NAME);
        table.leave(old);
        table.enter(new, index);
        Ok(())
    }

    pub(crate) fn remove(&self, index: u32, id: u64) -> Result<()> {
        self.ready()?;
        let mut table = self.table.write();
        self.remove_from(&mut table, index, id)
    }

    fn remove_from(&self, table: &mut Table, index: u32, id: u64) -> Result<()> {
        let Some(slot) = self.slots.get(index) else { return Err(Error::RegionRemoved { id }) };
        let mut state = slot.lock();
        state.check(id)?;
        if state.live(&self.base).appender {
            return Err(Error::AppenderActive { id });
        }
        self.touch(index, &mut state);
        table.leave(state.name);
        state.clear(&self.base);
        let run = core::mem::take(&mut state.run);
        state.len = 0;
        let live = state.live(&self.base);
        live.changed.add(Changed::REMOVED);
        live.removed = true;
        live.snap = None;
        live.old_snaps.clear();
        let left = live.epoch;
        if let Some(extent) = live.extent.take() {
            self.retire(run, extent, left, false);
        }
        Ok(())
    }
}

/// A store: named regions of bytes in one file, and one call that makes them durable together.
///
/// A handle: cloning it costs a count, and any number of threads may use clones of it. The store
/// is closed, and the file unlocked, when the last handle, region, appender and reader is dropped.
/// Dropping does not flush: what was not flushed is gone, as after a crash. [`close`](Self::close)
/// flushes.
///
/// ```
/// # let store = allod_core::Options::new().open(allod_mem::MemPlatform::new())?;
/// let users = store.create_region("users")?;
/// let log = store.create_region("log")?;
/// users.append(b"alice")?;
/// log.append(b"created alice")?;
/// store.flush()?; // both, or neither
/// assert_eq!(store.region("users").unwrap().read_all()?, b"alice");
/// # Ok::<(), allod_core::Error>(())
/// ```
pub struct Store<P: Platform> {
    pub(crate) inner: Arc<Inner<P>>,
}

impl<P: Platform> Clone for Store<P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<P: Platform> core::fmt::Debug for Store<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Store").field("regions", &self.len()).finish_non_exhaustive()
    }
}

/// A region in a [list](Store::regions).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// The name.
    pub name: String,
    /// The id.
    pub id: u64,
    /// The length in bytes.
    pub len: u64,
    /// The room in bytes where the region is; 0 if it has no place in the file yet.
    pub capacity: u64,
    /// Where the region starts in the file, in bytes; 0 if it has no place yet.
    pub start: u64,
}

impl<P: Platform> Store<P> {
    pub(crate) fn inner(&self) -> &Arc<Inner<P>> {
        &self.inner
    }

    /// Makes an empty region.
    ///
    /// It takes no space in the file, but for its entry in the table, until it has bytes.
    ///
    /// # Errors
    ///
    /// [`Error::RegionExists`], [`Error::InvalidName`], [`Error::ReadOnly`], [`Error::Poisoned`],
    /// [`Error::Platform`] (the first change after opening writes a checkpoint).
    pub fn create_region(&self, name: &str) -> Result<Region<P>> {
        self.create(name, false, None)
    }

    /// The region of that name, made empty if there is none.
    ///
    /// # Errors
    ///
    /// As [`create_region`](Self::create_region), but for [`Error::RegionExists`].
    pub fn region_or_create(&self, name: &str) -> Result<Region<P>> {
        match self.region(name) {
            Some(region) => Ok(region),
            None => self.create(name, true, None),
        }
    }

    /// Makes a region with an id of the caller's choice, in a store that has never used it.
    pub(crate) fn create_as(&self, name: &str, id: Option<u64>) -> Result<Region<P>> {
        self.create(name, false, id)
    }

    fn create(&self, name: &str, or_get: bool, id: Option<u64>) -> Result<Region<P>> {
        let inner = &self.inner;
        inner.ready()?;
        check_name(name)?;
        let mut table = inner.table.write();
        if let Some(index) = table.find(name) {
            return match self.handle(index) {
                Some(region) if or_get => Ok(region),
                _ => Err(table::exists(name)),
            };
        }
        table.reserve(1, name.len())?;
        let id = id.unwrap_or(table.next_id);
        let after = id.checked_add(1).filter(|next| *next < 1 << 63).ok_or(Error::TooLarge {
            what: "ids of regions",
            requested: id,
            limit: (1 << 63) - 1,
        })?;
        let index = table.take_slot()?;
        if let Err(error) = inner.slots.ensure(index) {
            table.free_slot(index);
            return Err(error);
        }
        let at = table.intern(name)?;
        table.next_id = table.next_id.max(after);
        let Some(slot) = inner.slots.get(index) else {
            return Err(Error::RegionRemoved { id });
        };
        let mut state = slot.lock();
        *state = State { id, name: at, ..State::vacant() };
        let live = state.live(&inner.base);
        inner.touch_new(index, live);
        live.changed.add(Changed::CREATED);
        table.enter(at, index);
        Ok(Region { inner: inner.clone(), index, id })
    }

    /// The region of that name, if there is one.
    pub fn region(&self, name: &str) -> Option<Region<P>> {
        // The names stay locked, so that the slot is still that region's when it is looked at.
        let table = self.inner.table.read();
        let index = table.find(name)?;
        self.handle(index)
    }

    fn handle(&self, index: u32) -> Option<Region<P>> {
        let id = self.inner.slots.get(index)?.lock().id;
        (id != 0).then(|| Region { inner: self.inner.clone(), index, id })
    }

    /// Whether there is a region of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.inner.table.read().find(name).is_some()
    }

    /// How many regions there are.
    pub fn len(&self) -> usize {
        self.inner.table.read().len()
    }

    /// Whether there are no regions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All regions, by name. Costs a lock of each and a sort.
    pub fn regions(&self) -> Vec<RegionInfo> {
        let base = &self.inner.base;
        let table = self.inner.table.read();
        let mut regions: Vec<RegionInfo> = table
            .iter()
            .filter_map(|(name, index)| {
                let state = self.inner.slots.get(index)?.lock();
                Some(RegionInfo {
                    name: String::from(name),
                    id: state.id,
                    len: state.len,
                    capacity: base.page_offset(state.run.pages),
                    start: base.page_offset(state.run.start),
                })
            })
            .collect();
        drop(table);
        regions.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        regions
    }

    /// Removes the region of that name. See [`Region::remove`].
    ///
    /// # Errors
    ///
    /// [`Error::NoRegion`], [`Error::AppenderActive`], [`Error::ReadOnly`], [`Error::Poisoned`].
    pub fn remove_region(&self, name: &str) -> Result<()> {
        self.inner.ready()?;
        let mut table = self.inner.table.write();
        let index = table.find(name).ok_or_else(|| table::missing(name))?;
        let Some(region) = self.handle(index) else { return Err(table::missing(name)) };
        self.inner.remove_from(&mut table, index, region.id)
    }

    /// Removes every region whose name `keep` does not want; answers how many.
    ///
    /// # Errors
    ///
    /// [`Error::AppenderActive`], with the regions before it gone; [`Error::ReadOnly`],
    /// [`Error::Poisoned`].
    pub fn retain_regions(&self, mut keep: impl FnMut(&str) -> bool) -> Result<usize> {
        self.inner.ready()?;
        let mut table = self.inner.table.write();
        let mut gone: Vec<u32> =
            table.iter().filter(|(name, _)| !keep(name)).map(|(_, index)| index).collect();
        gone.sort_unstable();
        for index in &gone {
            if let Some(region) = self.handle(*index) {
                self.inner.remove_from(&mut table, *index, region.id)?;
            }
        }
        Ok(gone.len())
    }

    /// Gives the region named `from` the name `to`. See [`Region::rename`].
    ///
    /// # Errors
    ///
    /// [`Error::NoRegion`]; else as [`Region::rename`].
    pub fn rename_region(&self, from: &str, to: &str) -> Result<()> {
        self.region(from).ok_or_else(|| table::missing(from))?.rename(to)
    }

    /// Makes room in memory for so many more regions, with names of `name_len` bytes on average, so
    /// that creating them does not pause to rehash.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn reserve_regions(&self, regions: usize, name_len: usize) -> Result<()> {
        self.inner.table.write().reserve(regions, regions.saturating_mul(name_len))
    }

    /// Makes the file at least `bytes` long.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::Poisoned`], [`Error::Platform`].
    pub fn reserve_len(&self, bytes: u64) -> Result<()> {
        self.inner.ready()?;
        Options::new().min_len(bytes).lengthen(&self.inner)
    }

    /// Makes everything durable that happened before, in all regions together.
    ///
    /// After a crash the store is as a flush left it that returned, or as the one under way would
    /// have. Up to the [inline limit](Options::inline_limit) it costs one write and one sync;
    /// above it two; now and then, and once after opening, three. Calls of several
    /// threads share one. With nothing to do it costs nothing, but for the first after opening, which
    /// makes sure that what was found is durable.
    ///
    /// # Errors
    ///
    /// [`Error::Platform`] if the device is full or a write fails that nothing depends on: nothing
    /// is lost, and a later flush may succeed. [`Error::Poisoned`] if a sync fails: see there.
    /// [`Error::HoldActive`].
    pub fn flush(&self) -> Result<FlushReport> {
        self.inner.flush(Durability::Sync)
    }

    /// As [`flush`](Self::flush), with a choice of what the state has to survive.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub fn flush_with(&self, durability: Durability) -> Result<FlushReport> {
        self.inner.flush(durability)
    }

    /// Flushes everything and begins a new generation with an empty journal, even if nothing
    /// changed: opening then has nothing to replay. Three syncs, and a write of the whole table.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush); [`Error::ReadOnly`].
    pub fn checkpoint(&self) -> Result<FlushReport> {
        self.inner.flush_as(Request::Checkpoint, None)
    }

    /// Holds the cut open: until the [`Hold`] is dropped, no flush takes place, so that everything
    /// that happens meanwhile lands in one.
    ///
    /// # Errors
    ///
    /// [`Error::HoldActive`] if this thread holds it already.
    pub fn hold(&self) -> Result<Hold<'_, P>> {
        Hold::new(self)
    }

    /// Flushes, and drops this handle.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush). The handle is gone in any case.
    pub fn close(self) -> Result<FlushReport> {
        self.flush()
    }

    /// The platform below, for those who know more about it than the store.
    pub fn platform(&self) -> &P {
        &self.inner.base.platform
    }

    /// Whether the store can only be read.
    pub fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    /// Why the store is poisoned, if it is.
    pub fn poisoned(&self) -> Option<PlatformError> {
        match self.inner.check_poison() {
            Err(Error::Poisoned { cause }) => Some(cause),
            _ => None,
        }
    }

    /// The id that this store has had since it was made.
    pub fn id(&self) -> u128 {
        self.inner.flusher.lock().store_id
    }

    /// The size of the store's pages, in bytes.
    pub fn page_size(&self) -> u32 {
        self.inner.base.page_size() as u32
    }
}
