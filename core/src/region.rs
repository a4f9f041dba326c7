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
use crate::error::{Error, Result};
use crate::extent::Extent;
use crate::flush::FlushReport;
use crate::platform::Platform;
use crate::reader::Reader;
use crate::run::MAX_REGION_LEN;
use crate::spill::next_piece;
use crate::state::{Changed, State};
use crate::store::Inner;

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
    pub(crate) fn lock_for_writing(&self, appender: bool) -> Result<Guard<'_, P>> {
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
    pub(crate) fn overflows(&self, tail_base: u64, end: u64, n: u64) -> bool {
        let base = &self.inner.base;
        let piece = next_piece(tail_base);
        end > piece
            || (end == piece && n >= STRAIGHT)
            || (end >= tail_base + base.page_size() && self.inner.over_budget())
    }

    /// Whether `more` bytes in memory would be too many for this region: more than a quarter of it,
    /// and more than a little, and more than the store's budget. It is then better copied to a
    /// fresh extent, where overwritten pages can go to their places at once.
    pub(crate) fn presses(&self, state: &mut State<P>, more: u64) -> bool {
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
        // Where there is no room for growth, what is needed may still fit.
        let extended = inner.extend(run, need, want).or_else(|_| inner.extend(run, need, need))?;
        if let Some(taken) = extended {
            inner.touch(self.index, &mut state);
            state.run.pages += taken.keep().pages;
            let live = state.live(base);
            // Readers look at the run only to find its first page, which stays.
            live.changed.add(Changed::RUN);
            live.limit = 0;
            return Ok(());
        }
        let target = inner.allocate(want).or_else(|_| inner.allocate(need))?;
        self.relocate(state, need, Some(target)).map(|_| ())
    }
}

/// How a region is to end with some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With them behind what is there.
    Append,
    /// With them in place of everything from an offset on.
    Cut(u64),
    /// The same, but only as long as that replaces nothing that they do not cover.
    Overwrite(u64),
}

impl End {
    /// Where `n` bytes start in a region of `len`, if this can be done to it.
    pub(crate) fn start(self, len: u64, n: u64) -> Option<u64> {
        match self {
            Self::Append => Some(len),
            Self::Cut(at) => Some(at),
            Self::Overwrite(at) => (at.saturating_add(n) >= len).then_some(at),
        }
    }
}

fn too_long(requested: u64) -> Error {
    Error::TooLarge { what: "bytes in a region", requested, limit: MAX_REGION_LEN }
}
