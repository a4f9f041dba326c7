//! Regions: a handle, and everything that changes a region's bytes.
//!
//! A change happens under the region's lock, in memory, and at once: nobody sees half a call. Bytes
//! that do not fit in memory go to their places *outside* that lock, while only the region's I/O
//! lock is held, and are published under it afterwards. So a reader never waits for the disk.
//!
//! Order of locks: names, flush, a region's I/O, a region's state, then the leaves (dirty list,
//! ground, growing, map).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use lock_api::MutexGuard;

use crate::appender::Appender;
use crate::base::Base;
use crate::error::{Error, Result};
use crate::extent::Extent;
use crate::flush::FlushReport;
use crate::ground::Taken;
use crate::platform::Platform;
use crate::reader::{Reader, Snap};
use crate::run::{MAX_REGION_LEN, Run};
use crate::state::{Changed, Dirty, State};
use crate::store::Inner;
use crate::tail::Tail;
use crate::usage::Counters;

/// A tail drains in pieces that end at multiples of this, in bytes of the region.
pub(crate) const PIECE: u64 = 64 << 10;
/// An append of this many bytes goes to its place straight from the caller, if it fills a piece.
const STRAIGHT: u64 = 32 << 10;
/// Up to this many bytes, a change of a region's end happens in memory.
const IN_MEMORY: u64 = 1 << 20;

pub(crate) type Guard<'a, P> = MutexGuard<'a, <P as Platform>::RawMutex, State<P>>;

/// A named sequence of bytes in a [`Store`](crate::Store) that can grow, shrink and be overwritten.
///
/// A handle: cloning it costs a count, any number of threads may use clones of it, and it is valid
/// until the region is removed; then every call says [`Error::RegionRemoved`]. It keeps the store
/// alive.
///
/// Changes are visible to readers made afterwards as soon as the call returns, and durable after
/// the next [`flush`](Self::flush). After a crash the region is as the last flush left it.
///
/// ```
/// # let store = allod_core::Options::new().open(allod_mem::MemPlatform::new())?;
/// let log = store.create_region("log")?;
/// log.append(b"one ")?;
/// let at = log.append(b"two")?;
/// assert_eq!(at, 4);
/// log.write_at(0, b"ONE")?;
/// assert_eq!(log.read(0, 7)?, b"ONE two");
/// store.flush()?;
/// # Ok::<(), allod_core::Error>(())
/// ```
pub struct Region<P: Platform> {
    pub(crate) inner: Arc<Inner<P>>,
    pub(crate) index: u32,
    pub(crate) id: u64,
}

impl<P: Platform> Clone for Region<P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), index: self.index, id: self.id }
    }
}

impl<P: Platform> core::fmt::Debug for Region<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Region").field("id", &self.id).finish()
    }
}

impl<P: Platform> PartialEq for Region<P> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl<P: Platform> Eq for Region<P> {}

impl<P: Platform> Region<P> {
    /// The region's id: a number that no other region of the store ever has, before or after.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The region's name.
    ///
    /// # Errors
    ///
    /// [`Error::RegionRemoved`].
    pub fn name(&self) -> Result<String> {
        let table = self.inner.table.read();
        let name = self.lock()?.name;
        Ok(String::from(table.name(name)))
    }

    /// The region's length in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::RegionRemoved`].
    pub fn len(&self) -> Result<u64> {
        Ok(self.lock()?.len)
    }

    /// Whether the region has no bytes.
    ///
    /// # Errors
    ///
    /// [`Error::RegionRemoved`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// How many bytes the region can hold where it is, before it must be extended or moved. 0 until
    /// its first bytes reach the file.
    ///
    /// # Errors
    ///
    /// [`Error::RegionRemoved`].
    pub fn capacity(&self) -> Result<u64> {
        Ok(self.inner.base.page_offset(self.lock()?.run.pages))
    }

    /// A snapshot of the region as it is now, for reading without copying.
    ///
    /// # Errors
    ///
    /// [`Error::RegionRemoved`].
    pub fn reader(&self) -> Result<Reader<P>> {
        let mut state = self.lock()?;
        let len = state.len;
        let snap = state.snap(&self.inner.base);
        drop(state);
        Ok(Reader::new(snap, self.id, len))
    }

    /// A copy of the `len` bytes at `offset`. For more than one read, make a
    /// [`reader`](Self::reader).
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], [`Error::RegionRemoved`]; [`Error::Platform`] where the platform has
    /// no map and reading fails.
    pub fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        Ok(self.reader()?.read(offset, len)?.into_owned())
    }

    /// A copy of all bytes of the region.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_all(&self) -> Result<Vec<u8>> {
        Ok(self.reader()?.read_all()?.into_owned())
    }

    /// Adds `data` at the end, and answers the offset at which it starts.
    ///
    /// Appends of several threads are each whole and in some order. The cost is that of copying
    /// the bytes, and once in 64 KiB that of writing them to the file.
    ///
    /// # Errors
    ///
    /// [`Error::RegionRemoved`], [`Error::AppenderActive`], [`Error::ReadOnly`],
    /// [`Error::Poisoned`]; [`Error::TooLarge`] past 2^47 bytes; [`Error::Platform`] if the device
    /// is full or fails when bytes go to the file. Nothing was appended then.
    #[inline]
    pub fn append(&self, data: &[u8]) -> Result<u64> {
        self.append_as(false, data)
    }

    #[inline]
    pub(crate) fn append_as(&self, appender: bool, data: &[u8]) -> Result<u64> {
        self.inner.ready()?;
        {
            let mut state = self.lock()?;
            let at = state.len;
            let end = at.saturating_add(data.len() as u64);
            let epoch = self.inner.epoch();
            if let Some(live) = state.live.as_deref_mut() {
                if end <= live.limit && live.listed == Some(epoch) && live.appender == appender {
                    // The whole of the common case: the tail has room, and this epoch's flush
                    // knows of the region.
                    live.tail.push(data);
                    live.changed.add(Changed::LEN);
                    state.len = end;
                    return Ok(at);
                }
            }
        }
        loop {
            if let Some(at) = self.write_end(End::Append, data, appender)? {
                return Ok(at);
            }
        }
    }

    /// Writes `data` over the bytes at `offset`, and past the end if it reaches so far.
    ///
    /// `offset` may be anything up to the length. What is overwritten stays in memory until a flush
    /// has made it durable, so that a crash leaves either all of the old bytes or all of the new.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] if `offset` is past the end; else as [`append`](Self::append).
    /// Nothing was written then.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.inner.ready()?;
        let n = data.len() as u64;
        let mut relieved = false;
        loop {
            let mut state = self.lock_for_writing(false)?;
            let Some(end) = offset.checked_add(n).filter(|_| offset <= state.len) else {
                return Err(self.out_of_range(offset, n, state.len));
            };
            if end >= state.len {
                drop(state);
                match self.write_end(End::Overwrite(offset), data, false)? {
                    Some(_) => return Ok(()),
                    None => continue, // It grew meanwhile, and the end is not ours any more.
                }
            }
            if n == 0 {
                return Ok(());
            }
            if !relieved && self.presses(&mut state, n) {
                drop(state);
                relieved = true;
                self.relieve()?;
                continue;
            }
            self.inner.touch(self.index, &mut state);
            let base = &self.inner.base;
            state.prepare(base, offset, n)?;
            state.put(base, offset, data);
            return Ok(());
        }
    }

    /// Cuts the region to `len` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] if the region is shorter than that; [`Error::RegionRemoved`],
    /// [`Error::AppenderActive`], [`Error::ReadOnly`], [`Error::Poisoned`].
    pub fn truncate(&self, len: u64) -> Result<()> {
        self.inner.ready()?;
        let mut state = self.lock_for_writing(false)?;
        if len > state.len {
            return Err(self.out_of_range(len, 0, state.len));
        }
        if len < state.len {
            self.inner.touch(self.index, &mut state);
            state.cut(&self.inner.base, len)?;
        }
        Ok(())
    }

    /// Cuts the region to `offset` bytes and appends `data`, as one change: no flush and no reader
    /// sees one without the other.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] if `offset` is past the end; else as [`append`](Self::append).
    /// Nothing was changed then.
    pub fn truncate_write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.inner.ready()?;
        loop {
            if self.write_end(End::Cut(offset), data, false)?.is_some() {
                return Ok(());
            }
        }
    }

    /// Makes `data` the whole content, as one change.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append). Nothing was changed then.
    pub fn replace(&self, data: &[u8]) -> Result<()> {
        self.truncate_write(0, data)
    }

    /// Makes room for a region of `len` bytes in all, so that growing to there moves nothing. On
    /// platforms with sparse files this takes no space. Compaction gives unused room back.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] past 2^47 bytes; else as [`append`](Self::append).
    pub fn reserve(&self, len: u64) -> Result<()> {
        self.inner.ready()?;
        if len > MAX_REGION_LEN {
            return Err(too_long(len));
        }
        self.make_room(len, true)
    }

    /// Gives the region another name. Its id, its bytes and its handles stay as they are.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`], [`Error::RegionExists`] if another region has the name,
    /// [`Error::RegionRemoved`], [`Error::ReadOnly`], [`Error::Poisoned`].
    pub fn rename(&self, name: &str) -> Result<()> {
        self.inner.rename(self.index, self.id, name)
    }

    /// Removes the region. Readers made before go on; its space comes back when a flush has made
    /// the removal durable and the last of them is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::RegionRemoved`] if it was removed before, [`Error::AppenderActive`],
    /// [`Error::ReadOnly`], [`Error::Poisoned`].
    pub fn remove(&self) -> Result<()> {
        self.inner.remove(self.index, self.id)
    }

    /// Takes the region for appending: until the appender is dropped, nobody else may change the
    /// region's bytes or remove it (reading and renaming go on).
    ///
    /// # Errors
    ///
    /// [`Error::AppenderActive`] if there is one, [`Error::RegionRemoved`], [`Error::ReadOnly`],
    /// [`Error::Poisoned`].
    pub fn appender(&self) -> Result<Appender<P>> {
        Appender::new(self)
    }

    /// Makes everything in the store durable: [`Store::flush`](crate::Store::flush), for those who
    /// have only a region at hand. All regions are flushed together, always.
    ///
    /// # Errors
    ///
    /// As [`Store::flush`](crate::Store::flush).
    pub fn flush(&self) -> Result<FlushReport> {
        self.inner.flush(crate::flush::Durability::Sync)
    }

    /// The region's state, if it is still there.
    #[inline]
    pub(crate) fn lock(&self) -> Result<Guard<'_, P>> {
        let Some(slot) = self.inner.slots.get(self.index) else {
            return Err(Error::RegionRemoved { id: self.id });
        };
        let state = slot.lock();
        state.check(self.id)?;
        Ok(state)
    }

    /// The region's state, when nobody else is writing to its end.
    fn lock_for_writing(&self, appender: bool) -> Result<Guard<'_, P>> {
        loop {
            let mut state = self.lock()?;
            let live = state.live(&self.inner.base);
            if live.appender != appender {
                return Err(Error::AppenderActive { id: self.id });
            }
            if !live.spilling {
                return Ok(state);
            }
            let io = live.io.clone();
            drop(state);
            drop(io.lock());
        }
    }

    fn out_of_range(&self, offset: u64, len: u64, region_len: u64) -> Error {
        Error::OutOfRange { id: self.id, offset, len, region_len }
    }

    /// Writes `data` so that the region ends with it, as one change. Answers where it starts, or
    /// nothing if the caller has to look at the region again.
    fn write_end(&self, end: End, data: &[u8], appender: bool) -> Result<Option<u64>> {
        let inner = &*self.inner;
        let base = &inner.base;
        let n = data.len() as u64;
        let mut relieved = false;
        loop {
            let mut state = self.lock_for_writing(appender)?;
            let Some(at) = end.start(state.len, n) else { return Ok(None) };
            if at > state.len {
                return Err(self.out_of_range(at, n, state.len));
            }
            let Some(new_len) = at.checked_add(n).filter(|len| *len <= MAX_REGION_LEN) else {
                return Err(too_long(at.saturating_add(n)));
            };
            if at == state.len && n == 0 {
                return Ok(Some(at));
            }
            let capacity = base.page_offset(state.run.pages);
            if at < state.len && n > IN_MEMORY && n >= at / 4 {
                drop(state);
                return self.rewrite(end, at, data);
            }
            if !state.run.is_empty() && new_len > capacity {
                drop(state);
                self.make_room(new_len, false)?;
                continue;
            }
            let tail_base = state.live(base).tail_base;
            if !relieved && at < tail_base && self.presses(&mut state, n.min(tail_base - at)) {
                drop(state);
                relieved = true;
                self.relieve()?;
                continue;
            }
            if at == state.len && self.overflows(tail_base, new_len, n) {
                let placed = !state.run.is_empty();
                drop(state);
                if !placed {
                    self.make_room(new_len, false)?;
                } else if self.spill(data, appender)? {
                    return Ok(Some(at));
                }
                continue;
            }
            let run = state.run;
            inner.touch(self.index, &mut state);
            if state.run != run {
                continue; // A cut came first and gave the region a place of its present size.
            }
            if at < state.len {
                // What can fail comes first: reading the page that is cut in two.
                if at < tail_base && at != base.page_up(at) {
                    state.load(base, base.page_of(at))?;
                }
                state.cut(base, at)?;
            }
            state.prepare(base, at, n)?;
            state.put(base, at, data);
            let len = state.len;
            let live = state.live(base);
            if len >= live.tail_base {
                let room = live.tail_base + live.tail.capacity() as u64;
                live.limit = room.min(next_piece(live.tail_base));
                if !run.is_empty() {
                    live.limit = live.limit.min(capacity);
                }
            }
            return Ok(Some(at));
        }
    }

    /// Whether bytes up to `end`, the last `n` of them new, are too many for the tail.
    fn overflows(&self, tail_base: u64, end: u64, n: u64) -> bool {
        let base = &self.inner.base;
        let piece = next_piece(tail_base);
        end > piece
            || (end == piece && n >= STRAIGHT)
            || (end >= tail_base + base.page_size() && self.inner.over_budget())
    }

    /// Whether `more` bytes in memory would be too many for this region: more than a quarter of it,
    /// and more than a little, and more than the store's budget. It is then better copied to a
    /// fresh extent, where overwritten pages can go to their places at once.
    fn presses(&self, state: &mut State<P>, more: u64) -> bool {
        let base = &self.inner.base;
        let len = state.len;
        let held = base.page_offset(state.live(base).in_memory as u64) + more;
        held > IN_MEMORY && held > len / 4 && (self.inner.over_budget() || held > len)
    }

    /// Makes sure that the region has an extent with room for `end` bytes.
    fn make_room(&self, end: u64, exact: bool) -> Result<()> {
        let inner = &*self.inner;
        let base = &inner.base;
        let io = self.lock()?.live(base).io.clone();
        let _io = io.lock();
        let mut state = self.lock()?;
        let run = state.run;
        if !run.is_empty() && end <= base.page_offset(run.pages) {
            return Ok(());
        }
        let need = base.pages(end.max(state.len));
        let want = if exact { need } else { inner.growth(need, run.pages) };
        if need == 0 {
            return Ok(());
        }
        if run.is_empty() {
            drop(state);
            let taken = inner.allocate(want).or_else(|_| inner.allocate(need))?;
            let mut state = self.lock()?;
            inner.touch(self.index, &mut state);
            if !state.run.is_empty() {
                return Ok(()); // A cut gave it a place meanwhile.
            }
            state.run = taken.keep();
            let live = state.live(base);
            live.invalidate_snap();
            live.extent = Some(Extent::new(false));
            live.changed.add(Changed::RUN);
            live.limit = 0;
            return Ok(());
        }
        if let Some(taken) = inner.extend(run, need, want)? {
            inner.touch(self.index, &mut state);
            state.run.pages += taken.keep().pages;
            let live = state.live(base);
            // Readers look at the run only to find its first page, which stays.
            live.changed.add(Changed::RUN);
            live.limit = 0;
            return Ok(());
        }
        self.relocate(state, want, None).map(|_| ())
    }

    /// Gives memory back: puts in place what may go there, and if that is not enough, copies the
    /// region to a new extent of its size, where all its pages are fresh.
    fn relieve(&self) -> Result<()> {
        self.inner.put_some_in_place()?;
        let base = &self.inner.base;
        let io = self.lock()?.live(base).io.clone();
        let _io = io.lock();
        self.drain_fresh()?;
        let mut state = self.lock()?;
        if state.run.is_empty() || !self.presses(&mut state, 0) {
            return Ok(());
        }
        let pages = state.run.pages;
        self.relocate(state, pages, None).map(|_| ())
    }

    /// Writes fresh pages that are in memory to their places (P3). The caller holds the region's
    /// I/O lock.
    fn drain_fresh(&self) -> Result<()> {
        let base = &self.inner.base;
        let mut state = self.lock()?;
        let run = state.run;
        if run.is_empty() {
            return Ok(());
        }
        let live = state.live(base);
        live.dirty_pages.sort_unstable();
        live.dirty_pages.dedup();
        let numbers = core::mem::take(&mut live.dirty_pages);
        let mut pages = Vec::new();
        for number in &numbers {
            if live.is_fresh(base, *number) && !live.is_mapped(*number) {
                if let Some(bytes) = live.pages.get(*number).and_then(|page| page.bytes.clone()) {
                    pages.push((run.start + number, bytes));
                }
            }
        }
        live.dirty_pages = numbers;
        let cuts = live.visited;
        let extent = live.extent.clone();
        drop(state);
        self.inner.grow_for(run)?;
        write_pages(base, &pages)?;
        drop(extent);
        let mut state = self.lock()?;
        let live = state.live(base);
        if live.visited != cuts {
            return Ok(()); // A flush has captured them, and writes them once more.
        }
        live.invalidate_snap();
        for (place, bytes) in &pages {
            let number = place - run.start;
            let same = live.pages.get(number).and_then(|page| page.bytes.as_ref());
            if same.is_some_and(|now| Arc::ptr_eq(now, bytes)) {
                live.drop_bytes(base, number);
                live.pages.remove(number);
                live.drained_from = live.drained_from.min(base.page_offset(number));
            }
        }
        let (kept, live_pages) = (core::mem::take(&mut live.dirty_pages), &live.pages);
        live.dirty_pages =
            kept.into_iter().filter(|number| live_pages.get(*number).is_some()).collect();
        Ok(())
    }

    /// Moves the region to `target`, or to a new run of `pages`, while readers and writers go on.
    /// The caller holds the region's I/O lock. Answers how many bytes were copied.
    ///
    /// A move is a reader that copies: what changes meanwhile is in memory, as other buffers than
    /// the ones it read, and stays in memory on top of the copy.
    pub(crate) fn relocate(
        &self,
        mut state: Guard<'_, P>,
        pages: u64,
        target: Option<Taken<'_, P>>,
    ) -> Result<u64> {
        let inner = &*self.inner;
        let base = &inner.base;
        let snap = state.snap(base);
        let len = state.len;
        let live = state.live(base);
        live.moving = true;
        let copied = live.tail_base.min(len);
        drop(state);
        let target = target.map_or_else(|| inner.allocate(pages), Ok);
        let moved = target.and_then(|taken| {
            inner.grow_for(taken.run())?;
            copy(base, &snap, copied, taken.run())?;
            Ok(taken)
        });
        let mut state = self.lock()?;
        state.live(base).moving = false;
        let taken = moved?;
        inner.touch(self.index, &mut state);
        if base.pages(state.len) > taken.run().pages {
            // It grew meanwhile past what the new place has; the old one still has room.
            return Ok(0);
        }
        let run = taken.keep();
        self.settle_in(&mut state, run, |number, bytes| {
            base.page_offset(number) < copied
                && snap.in_memory(number).is_some_and(|copied| Arc::ptr_eq(copied, bytes))
        });
        drop(state);
        Counters::add(&inner.counters.relocations, 1);
        Ok(copied)
    }

    /// Makes `run` the place of the region. `in_place` tells which pages of those in memory are
    /// there already, with the same bytes; all that are not in memory are.
    fn settle_in(
        &self,
        state: &mut State<P>,
        run: Run,
        in_place: impl Fn(u64, &Arc<[u8]>) -> bool,
    ) {
        let base = &self.inner.base;
        let len = state.len;
        let old_run = core::mem::replace(&mut state.run, run);
        let live = state.live(base);
        live.invalidate_snap();
        live.old_snaps.clear();
        let old = live.extent.replace(Extent::new(false));
        let pages: Vec<u64> = live.pages.iter().map(|(number, _)| number).collect();
        for number in pages {
            let stays = live
                .pages
                .get(number)
                .and_then(|page| page.bytes.as_ref())
                .is_some_and(|bytes| !in_place(number, bytes));
            if !stays {
                live.drop_bytes(base, number);
                live.pages.remove(number);
            } else if let Some(page) = live.pages.get_mut(number) {
                page.journaled = false;
                let used = base.page_size().min(len.saturating_sub(base.page_offset(number)));
                let was_clean = page.dirty.is_clean();
                page.dirty = Dirty { from: 0, to: used as u32 };
                if was_clean && used > 0 {
                    live.dirty_pages.push(number);
                }
            }
        }
        live.floor = 0;
        live.journaled_end = 0;
        live.drained_from = 0;
        live.changed.add(Changed::RUN);
        if live.tail.is_empty() {
            live.tail_base = base.page_up(len);
        }
        live.limit = 0;
        let left = live.epoch;
        if let Some(old) = old {
            self.inner.retire(old_run, old, left, false);
        }
    }

    /// Cuts to `at` and appends `data`, which is too much for memory: the new content is built in a
    /// new extent and takes the place of the old one at once.
    fn rewrite(&self, end: End, at: u64, data: &[u8]) -> Result<Option<u64>> {
        let inner = &*self.inner;
        let base = &inner.base;
        let io = self.lock()?.live(base).io.clone();
        let _io = io.lock();
        let mut state = self.lock()?;
        if end.start(state.len, data.len() as u64) != Some(at) || at > state.len {
            return Ok(None);
        }
        if state.live(base).appender {
            return Err(Error::AppenderActive { id: self.id });
        }
        let snap = state.snap(base);
        state.live(base).spilling = true;
        state.live(base).limit = 0;
        drop(state);
        let new_len = at + data.len() as u64;
        let need = base.pages(new_len);
        let built = inner.allocate(inner.growth(need, 0)).and_then(|taken| {
            build(base, &snap, at, data, taken.run())?;
            Ok(taken)
        });
        drop(snap);
        let mut state = self.lock()?;
        state.live(base).spilling = false;
        let run = built?.keep();
        inner.touch(self.index, &mut state);
        state.clear(base);
        state.len = new_len;
        let live = state.live(base);
        live.changed.add(Changed::LEN);
        live.tail_base = base.page_up(new_len);
        self.settle_in(&mut state, run, |_, _| true);
        Ok(Some(at))
    }

    /// Appends bytes that do not fit into the tail: whole pieces go to their places, the rest into
    /// a new tail. Answers `false` if the region changed so that the caller has to look again.
    fn spill(&self, data: &[u8], appender: bool) -> Result<bool> {
        let inner = &*self.inner;
        let base = &inner.base;
        let n = data.len() as u64;
        let io = self.lock()?.live(base).io.clone();
        let _io = io.lock();
        let mut state = self.lock_for_writing(appender)?;
        let at = state.len;
        let end = at.saturating_add(n);
        let run = state.run;
        let tail_base = state.live(base).tail_base;
        if run.is_empty() || end > base.page_offset(run.pages) || !self.overflows(tail_base, end, n)
        {
            return Ok(false);
        }
        // Everything before `placed` goes to its place now; `from_tail` of that is in the tail.
        let mut placed = end & !(PIECE - 1);
        if placed <= tail_base {
            placed = end & !(base.page_size() - 1);
        }
        if placed <= tail_base {
            return Ok(false);
        }
        let start = at.max(tail_base);
        let from_tail = if at > tail_base { placed.min(base.page_up(at)) } else { tail_base };
        let live = state.live(base);
        if from_tail > start {
            // The page in which the region ends is completed in the tail's buffer. Nobody sees
            // these bytes, because the length does not say that they exist.
            let head = (from_tail - start) as usize;
            let before = live.tail.capacity();
            live.tail.grow((from_tail - tail_base) as usize)?;
            base.add_memory(live.tail.capacity() - before);
            live.tail.push(data.get(..head).unwrap_or_default());
        }
        let view = live.tail.view();
        live.spilling = true;
        live.limit = 0;
        let cuts = live.visited;
        // Keeps the pages from being given away if the region is removed meanwhile.
        let extent = live.extent.clone();
        drop(state);

        let direct = data.get((from_tail.max(start) - at) as usize..).unwrap_or_default();
        let direct = direct.get(..placed.saturating_sub(from_tail.max(start)) as usize);
        let in_tail = view.get(0..(from_tail - tail_base) as usize).unwrap_or_default();
        let written = write_pieces(base, run, tail_base, in_tail).and_then(|()| {
            write_pieces(base, run, from_tail.max(start), direct.unwrap_or_default())
        });
        drop(view);

        let mut state = self.lock()?;
        let live = state.live(base);
        live.spilling = false;
        let _extent = extent;
        if let Err(error) = written {
            // What was in the tail stays in memory, and dirty: nothing is lost.
            live.move_tail_to_pages(base, at);
            return Err(error);
        }
        inner.touch(self.index, &mut state);
        // All that can fail comes before anything changes: memory, and the bytes of a page.
        let live = state.live(base);
        let captured = live.visited != cuts;
        let paged = live.tail_base.min(end).saturating_sub(at);
        let rest = usize::try_from(end.saturating_sub(placed)).unwrap_or(usize::MAX);
        live.invalidate_snap();
        let reuse =
            !captured && at <= placed && live.tail.is_sole() && live.tail.capacity() >= rest;
        let mut fresh = Tail::new();
        let ready = if reuse { Ok(()) } else { fresh.grow(rest) };
        let ready = ready.and_then(|()| match paged {
            0 => Ok(()),
            paged => state.prepare(base, at, paged),
        });
        let live = state.live(base);
        if let Err(error) = ready {
            live.move_tail_to_pages(base, at);
            return Err(error);
        }
        // A cut that came meanwhile has moved the old tail to the page map, and the first byte that
        // may be in place with it. What was written below that is of no use then, and harmless.
        let mut old = live.tail.take();
        if reuse {
            old.clear();
            fresh = old;
        } else {
            base.add_memory(fresh.capacity());
            base.sub_memory(old.capacity());
            if !captured && at > placed {
                fresh.push(old.bytes().get((placed - tail_base) as usize..).unwrap_or_default());
            }
        }
        let (in_pages, behind) = data.split_at(paged as usize);
        if paged > 0 {
            state.put(base, at, in_pages);
        }
        let live = state.live(base);
        live.tail_base = live.tail_base.max(placed);
        let known = live.tail_base.max(at).min(end) - at - paged;
        live.tail = fresh;
        live.tail.push(behind.get(known as usize..).unwrap_or_default());
        live.changed.add(Changed::LEN);
        state.len = end;
        let capacity = base.page_offset(state.run.pages);
        let live = state.live(base);
        if end >= live.tail_base {
            let room = live.tail_base + live.tail.capacity() as u64;
            live.limit = room.min(next_piece(live.tail_base)).min(capacity);
        }
        Ok(true)
    }
}

/// How a region is to end with some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With them behind what is there.
    Append,
    /// With them in place of everything from an offset on.
    Cut(u64),
    /// The same, but only as long as that replaces nothing that they do not cover.
    Overwrite(u64),
}

impl End {
    /// Where `n` bytes start in a region of `len`, if this can be done to it.
    fn start(self, len: u64, n: u64) -> Option<u64> {
        match self {
            Self::Append => Some(len),
            Self::Cut(at) => Some(at),
            Self::Overwrite(at) => (at.saturating_add(n) >= len).then_some(at),
        }
    }
}

/// The end of the piece that a tail starting at `tail_base` may fill.
fn next_piece(tail_base: u64) -> u64 {
    (tail_base | (PIECE - 1)) + 1
}

fn too_long(requested: u64) -> Error {
    Error::TooLarge { what: "bytes in a region", requested, limit: MAX_REGION_LEN }
}

/// Writes bytes of a region to their place, in pieces that end at multiples of [`PIECE`] of the
/// file: larger ones make the page cache use larger units, which later small writes pay for.
pub(crate) fn write_pieces<P: Platform>(
    base: &Base<P>,
    run: Run,
    offset: u64,
    mut bytes: &[u8],
) -> Result<()> {
    let mut place = base.page_offset(run.start) + offset;
    while !bytes.is_empty() {
        let n = (next_piece(place) - place).min(bytes.len() as u64) as usize;
        let (now, rest) = bytes.split_at(n);
        base.platform.write(place, now)?;
        place += n as u64;
        bytes = rest;
    }
    Ok(())
}

/// Writes pages, given by their places in the file in ascending order, neighbours together, and each
/// that is not whole in memory with zeros behind.
pub(crate) fn write_pages<P: Platform>(base: &Base<P>, pages: &[(u64, Arc<[u8]>)]) -> Result<()> {
    let mut piece: Vec<u8> = Vec::new();
    let mut next = None;
    let mut start = 0;
    for (page, bytes) in pages {
        if next != Some(*page) || piece.len() as u64 >= PIECE {
            if !piece.is_empty() {
                base.platform.write(base.page_offset(start), &piece)?;
            }
            piece.clear();
            start = *page;
        }
        piece.extend_from_slice(bytes);
        piece.resize(piece.len().next_multiple_of(base.page_size() as usize), 0);
        next = Some(page + 1);
    }
    if !piece.is_empty() {
        base.platform.write(base.page_offset(start), &piece)?;
    }
    Ok(())
}

/// Copies the first `len` bytes of a snapshot to the start of `run`.
fn copy<P: Platform>(base: &Base<P>, snap: &Snap<P>, len: u64, run: Run) -> Result<()> {
    let mut buffer = base.buffer((4 * PIECE).min(len) as usize)?;
    let mut at = 0;
    while at < len {
        let n = (len - at).min(buffer.len() as u64);
        let piece = buffer.get_mut(..n as usize).unwrap_or_default();
        snap.read_into(at, piece)?;
        write_pieces(base, run, at, piece)?;
        at += n;
    }
    Ok(())
}

/// Makes `run` hold the first `at` bytes of a snapshot, and `data` behind them.
fn build<P: Platform>(
    base: &Base<P>,
    snap: &Snap<P>,
    at: u64,
    data: &[u8],
    run: Run,
) -> Result<()> {
    let whole = at & !(base.page_size() - 1);
    copy(base, snap, whole, run)?;
    // The page in which the old bytes end and the new ones begin is written once.
    let mut edge = base.page_buffer()?;
    let kept = (at - whole) as usize;
    snap.read_into(whole, edge.get_mut(..kept).unwrap_or_default())?;
    let n = data.len().min(edge.len() - kept);
    let (first, rest) = data.split_at(n);
    if let Some(place) = edge.get_mut(kept..kept + n) {
        place.copy_from_slice(first);
    }
    write_pieces(base, run, whole, edge.get(..kept + n).unwrap_or_default())?;
    write_pieces(base, run, whole + (kept + n) as u64, rest)
}
