//! The store: opening, the table of regions, and what its parts share.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use lock_api::{Mutex, RwLock};

use crate::base::Base;
use crate::epoch::{Dirty, Hold};
use crate::error::{Error, PlatformError, PlatformErrorKind, Result};
use crate::extent::{Extent, Retirement};
use crate::flush::{Durability, FlushReport, Flusher, Request};
use crate::ground::Ground;
use crate::mutant::{self, Mutant};
use crate::platform::Platform;
use crate::recovery::{self, Recovered};
use crate::region::Region;
use crate::run::{FIRST_PAGE, MAX_FILE_LEN, Run, is_page_size, max_pages};
use crate::slots::Slots;
use crate::space::Space;
use crate::state::{Changed, Live, Page, State};
use crate::table::{self, Table, check_name};
use crate::usage::Counters;

/// Whether a store may, or must, be made where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Create {
    /// Open the store, or make it.
    #[default]
    IfMissing,
    /// Open the store; [`Error::NoStore`] if there is none.
    Never,
    /// Make the store; [`Error::StoreExists`] if there is one.
    Always,
}

/// How to open a store. Every option has a default that is safe and suits most programs.
///
/// ```
/// use allod_core::{Create, Options};
/// let store = Options::new()
///     .create(Create::Always)
///     .inline_limit(64 << 10)
///     .open(allod_mem::MemPlatform::new())?;
/// assert!(store.is_empty());
/// # Ok::<(), allod_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    create: Create,
    read_only: bool,
    min_len: u64,
    inline_limit: u64,
    memory_budget: usize,
    journal_size: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create: Create::default(),
            read_only: false,
            min_len: 0,
            inline_limit: 1 << 20,
            memory_budget: 64 << 20,
            journal_size: 8 << 20,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a store may be made. Default: [`Create::IfMissing`].
    #[must_use]
    pub fn create(mut self, create: Create) -> Self {
        self.create = create;
        self
    }

    /// Opens for reading only: nothing is written, not even by recovery. Default: false; a platform
    /// that cannot be written opens read-only in any case.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Makes the file at least `bytes` long at once. Default: 0.
    #[must_use]
    pub fn min_len(mut self, bytes: u64) -> Self {
        self.min_len = bytes;
        self
    }

    /// Up to so many changed bytes, a flush writes all of them into the journal with one sync;
    /// beyond, new bytes go to their places, which takes two. Default: 1 MiB.
    #[must_use]
    pub fn inline_limit(mut self, bytes: u64) -> Self {
        self.inline_limit = bytes;
        self
    }

    /// How much memory the store aims to hold for bytes that are not in place yet. It is passed
    /// when more than that is overwritten, in small parts of large regions, without a flush.
    /// Default: 64 MiB.
    #[must_use]
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.memory_budget = bytes;
        self
    }

    /// How long a journal may become before a flush writes a checkpoint instead: at least this, and
    /// at least as long as a checkpoint. Replaying a full journal is part of opening after a crash.
    /// Default: 8 MiB; less than four pages counts as four pages, more than 1 TiB as 1 TiB.
    #[must_use]
    pub fn journal_size(mut self, bytes: u64) -> Self {
        self.journal_size = bytes.min(1 << 40);
        self
    }

    /// Whether these options make a store, for who opens the file behind the platform.
    pub fn creation(&self) -> Create {
        self.create
    }

    /// Whether these options only read, for who opens the file behind the platform.
    pub fn reads_only(&self) -> bool {
        self.read_only
    }

    /// Opens the store on a platform.
    ///
    /// Costs one sequential read of the table of regions. After a crash the journal is replayed
    /// into memory; nothing is written before the first change, which begins with a checkpoint (three
    /// syncs).
    ///
    /// # Errors
    ///
    /// [`Error::NotAStore`], [`Error::Newer`], [`Error::Damaged`], [`Error::Unfinished`],
    /// [`Error::NoStore`], [`Error::StoreExists`], [`Error::ReadOnly`] (a store was to be made),
    /// [`Error::PageSize`], [`Error::Platform`], [`Error::OutOfMemory`]. The bytes are as before,
    /// unless a store was being made.
    pub fn open<P: Platform>(&self, platform: P) -> Result<Store<P>> {
        let capabilities = platform.capabilities();
        if !is_page_size(capabilities.page_size) {
            return Err(Error::Platform(
                PlatformError::new(PlatformErrorKind::Unsupported, "open")
                    .detail(alloc::format!("a page size of {} bytes", capabilities.page_size)),
            ));
        }
        let read_only = self.read_only || capabilities.read_only;
        match recovery::recover(&platform) {
            Ok(_) if self.create == Create::Always => Err(Error::StoreExists),
            Ok(recovered) => self.open_recovered(platform, recovered, read_only),
            Err(Error::Unfinished) if self.create == Create::Never => {
                Err(if platform.len()? == 0 { Error::NoStore } else { Error::Unfinished })
            }
            Err(Error::Unfinished) if read_only => Err(Error::ReadOnly),
            Err(Error::Unfinished) => self.make(platform),
            Err(error) => Err(error),
        }
    }

    fn inner<P: Platform>(&self, platform: P, page_size: u32, flusher: Flusher) -> Inner<P> {
        let sparse = platform.capabilities().sparse;
        Inner {
            base: Base::new(platform, page_size),
            sparse,
            inline_limit: self.inline_limit,
            memory_budget: self.memory_budget,
            journal_size: self.journal_size,
            status: AtomicU8::new(READY),
            cause: Mutex::new(None),
            slots: Slots::new(),
            table: RwLock::new(Table::new(1)),
            epoch: AtomicUsize::new(1),
            dirty: Mutex::new(Dirty::new()),
            hold: RwLock::new(()),
            holders: Mutex::new(Vec::new()),
            ground: Mutex::new(Ground {
                space: Space::new(FIRST_PAGE).with_limit(max_pages(page_size)),
                retirement: Retirement::default(),
                file_len: 0,
                changes: 0,
                in_transit: 0,
            }),
            growing: Mutex::new(()),
            waiting: AtomicUsize::new(0),
            flusher: Mutex::new(flusher),
            overlaid: Mutex::new(Vec::new()),
            counters: Counters::default(),
        }
    }

    /// Makes a new store.
    fn make<P: Platform>(&self, platform: P) -> Result<Store<P>> {
        let page_size = platform.capabilities().page_size;
        let store_id = platform.entropy()?;
        let flusher = Flusher {
            store_id,
            generation: 0,
            salt: 0,
            slot: 1,
            slots: [None; 2],
            checkpoint: Run::default(),
            journal: Run::default(),
            used: 0,
            zeroed: 0,
            sequence: 0,
            durable_sequence: 0,
            written_cut: 0,
            durable_cut: 0,
            checkpoint_cut: 0,
            unconfirmed: None,
            last: FlushReport::default(),
        };
        let inner = self.inner(platform, page_size, flusher);
        inner.ground.lock().file_len = inner.base.platform.len()?;
        inner.flush_as(Request::Checkpoint, None).map_err(|error| match error {
            // Nobody has this store yet: it is simply not made.
            Error::Poisoned { cause } => Error::Platform(cause),
            error => error,
        })?;
        self.lengthen(&inner)?;
        Ok(Store { inner: Arc::new(inner) })
    }

    fn lengthen<P: Platform>(&self, inner: &Inner<P>) -> Result<()> {
        if self.min_len > MAX_FILE_LEN {
            return Err(Error::TooLarge {
                what: "bytes in a file",
                requested: self.min_len,
                limit: MAX_FILE_LEN,
            });
        }
        inner.grow_to(inner.base.pages(self.min_len))
    }

    fn open_recovered<P: Platform>(
        &self,
        platform: P,
        recovered: Recovered,
        read_only: bool,
    ) -> Result<Store<P>> {
        let Recovered { superblock, slot, slots, sequence, used, rows, table, pages, unconfirmed } =
            recovered;
        let capabilities = platform.capabilities();
        if !read_only && capabilities.page_size > superblock.page_size {
            return Err(Error::PageSize {
                store: superblock.page_size,
                platform: capabilities.page_size,
            });
        }
        let unknown = superblock.unknown_read_only_compatible();
        if !read_only && unknown != 0 {
            return Err(Error::Newer {
                version: crate::superblock::VERSION,
                supported: crate::superblock::VERSION,
                features: unknown,
            });
        }
        let file_len = unconfirmed.file_len;
        let flusher = Flusher {
            store_id: superblock.store_id,
            generation: superblock.generation,
            salt: superblock.salt,
            slot,
            slots,
            checkpoint: superblock.checkpoint,
            journal: superblock.journal,
            used,
            zeroed: 0,
            sequence,
            durable_sequence: sequence,
            written_cut: 0,
            durable_cut: 0,
            checkpoint_cut: 0,
            unconfirmed: Some(unconfirmed),
            last: FlushReport::default(),
        };
        let mut inner = self.inner(platform, superblock.page_size, flusher);
        inner.status = AtomicU8::new(if read_only { READ_ONLY } else { UNCONFIRMED });
        inner.ground.lock().file_len = file_len;
        let base = inner.base.clone();
        let mut table = table;
        let mut pages = pages.into_iter().peekable();
        for row in rows {
            let index = table.take_slot()?;
            inner.slots.ensure(index)?;
            if !table.enter_unique(row.name, index) {
                return Err(recovery::duplicate("name of a region", row.id));
            }
            let mut live: Option<Box<Live<P>>> = None;
            while pages.next_if(|(place, _)| *place < row.run.start).is_some() {}
            while let Some((place, bytes)) = pages.next_if(|(place, _)| row.run.contains(*place)) {
                let number = place - row.run.start;
                let start = base.page_offset(number);
                if start < row.len {
                    recovery::check_image(&row, start, bytes.len(), base.page_size())?;
                    let live = live.get_or_insert_with(|| Live::at_rest(&base, row.run, row.len));
                    live.adopt(&base, number, Page::new(Some(Arc::from(bytes)), true));
                }
            }
            if let Some(slot) = inner.slots.get(index) {
                *slot.lock() =
                    State { id: row.id, name: row.name, run: row.run, len: row.len, live };
            }
        }
        inner.table = RwLock::new(table);
        if !read_only {
            self.lengthen(&inner)?;
            if let Some(unconfirmed) = &mut inner.flusher.lock().unconfirmed {
                unconfirmed.file_len = inner.ground.lock().file_len;
            }
        }
        Ok(Store { inner: Arc::new(inner) })
    }
}

const READY: u8 = 0;
const UNCONFIRMED: u8 = 1;
const READ_ONLY: u8 = 2;
const POISONED: u8 = 3;

/// What all handles of a store share.
pub(crate) struct Inner<P: Platform> {
    pub(crate) base: Arc<Base<P>>,
    pub(crate) sparse: bool,
    pub(crate) inline_limit: u64,
    memory_budget: usize,
    pub(crate) journal_size: u64,
    status: AtomicU8,
    cause: Mutex<P::RawMutex, Option<PlatformError>>,
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
    inner: Arc<Inner<P>>,
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

impl<P: Platform> Live<P> {
    /// Takes over a page that recovery replayed.
    fn adopt(&mut self, base: &Base<P>, number: u64, page: Page) {
        self.pages.insert(number, page);
        self.in_memory += 1;
        self.journaled_end = self.journaled_end.max(number + 1);
        if let Some(extent) = &self.extent {
            Extent::set_journaled(extent, true);
        }
        base.add_memory(base.page_size() as usize);
    }
}
