//! What the store knows of one region: its place, its length, and, while it is in use, the bytes
//! that are not in place yet.
//!
//! Everything here happens under the region's lock and touches no disk, but for
//! [`State::load`], which brings one page into memory. Moving bytes to their places
//! is the business of [`region`](crate::region) and [`flush`](crate::flush).
//!
//! # Where a byte of a region is
//!
//! ```text
//! 0                          tail_base            len
//! ├──────── pages ───────────┼──────── tail ───────┤
//! ```
//!
//! * Below `tail_base`, a page is *in memory* if the page map has bytes for it, else *in place* in
//!   the extent. The state of the page decides, never its content.
//! * From `tail_base` on, bytes are in the tail, a buffer that appends fill. Pages of the tail are
//!   always fresh (P3): at or above the floor, not journaled, and mapped by no reader. So they may
//!   drain to their places at any time. A cut moves what is in the tail to the page map.
//! * Where `len` is below `tail_base`, appended bytes go to the page map until they reach it.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use lock_api::Mutex;

use crate::base::Base;
use crate::capture::{Capture, CapturedPage};
use crate::error::{Error, Result};
use crate::extent::Extent;
use crate::mutant::{self, Mutant};
use crate::page_map::PageMap;
use crate::platform::Platform;
use crate::reader::Snap;
use crate::run::Run;
use crate::table::NameRef;
use crate::tail::Tail;

/// What changed since the last cut that captured the region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed(u8);

impl Changed {
    pub(crate) const NOTHING: Self = Self(0);
    pub(crate) const CREATED: Self = Self(1);
    pub(crate) const NAME: Self = Self(2);
    pub(crate) const RUN: Self = Self(4);
    pub(crate) const LEN: Self = Self(8);
    pub(crate) const REMOVED: Self = Self(16);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// A page of a region about which there is more to say than "clean and in place".
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// The bytes, when they are in memory; `None` when they are in place. All that the region has of
    /// the page, and perhaps more, up to the whole page.
    pub(crate) bytes: Option<Arc<[u8]>>,
    /// The part that changed since the last cut; empty when `0 == 1`'s equal.
    pub(crate) dirty: Dirty,
    /// This generation's journal or checkpoint holds an image of the page (P2).
    pub(crate) journaled: bool,
    /// The newest cut that captured these bytes. They are durable once that cut is.
    pub(crate) cut: u64,
}

/// The part of a page that changed since the last cut: bytes `from..to`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dirty {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

impl Dirty {
    pub(crate) const CLEAN: Self = Self { from: 0, to: 0 };

    pub(crate) fn is_clean(self) -> bool {
        self.from >= self.to
    }

    /// Adds a part; answers whether the page was clean before.
    pub(crate) fn add(&mut self, from: u32, to: u32) -> bool {
        let was_clean = self.is_clean();
        if from < to {
            *self = if was_clean {
                Self { from, to }
            } else {
                Self { from: self.from.min(from), to: self.to.max(to) }
            };
        }
        was_clean && from < to
    }
}

/// The lock that everything which writes to a region's places holds, and that outlives a change
/// of the region's state.
pub(crate) type IoLock<P> = Arc<Mutex<<P as Platform>::RawMutex, ()>>;

/// One region, as its slot holds it.
pub(crate) struct State<P: Platform> {
    /// The id, or 0 in a vacant slot.
    pub(crate) id: u64,
    pub(crate) name: NameRef,
    pub(crate) run: Run,
    pub(crate) len: u64,
    /// What is needed only while the region is in use.
    pub(crate) live: Option<Box<Live<P>>>,
}

/// The part of a region's state that exists only while it is in use.
pub(crate) struct Live<P: Platform> {
    /// The epoch (its low bits) in whose dirty list the region stands.
    pub(crate) listed: Option<usize>,
    /// The epoch of the last change.
    pub(crate) epoch: u64,
    /// The newest cut that captured, or need not capture, this region.
    pub(crate) visited: u64,
    /// The region as it was at a cut whose flush has not come by yet.
    pub(crate) captured: Option<(u64, Box<Capture<P>>)>,
    pub(crate) changed: Changed,
    pub(crate) removed: bool,
    pub(crate) extent: Option<Arc<Extent>>,
    /// P1, in bytes: pages below it are changed in place only through the journal.
    pub(crate) floor: u64,
    /// Pages from here to `tail_base` are in place, but no flush has made them durable yet.
    pub(crate) drained_from: u64,
    pub(crate) tail_base: u64,
    pub(crate) tail: Tail,
    /// Up to this length an append goes to the tail and nothing else has to be looked at.
    pub(crate) limit: u64,
    pub(crate) pages: PageMap<Page>,
    /// The pages whose dirty part is not empty, each once, and perhaps some that were dropped.
    pub(crate) dirty_pages: Vec<u64>,
    /// No page from here on is journaled.
    pub(crate) journaled_end: u64,
    /// Pages that have bytes in memory.
    pub(crate) in_memory: usize,
    pub(crate) snap: Option<Arc<Snap<P>>>,
    pub(crate) old_snaps: Vec<Weak<Snap<P>>>,
    pub(crate) io: IoLock<P>,
    /// An appender holds the region.
    pub(crate) appender: bool,
    /// A write to the region's end is under way outside the lock.
    pub(crate) spilling: bool,
    /// The region is being copied to another extent: bytes in memory must not be dropped.
    pub(crate) moving: bool,
    /// Stands in the store's list of regions with pages to put in place.
    pub(crate) queued: bool,
}

impl<P: Platform> Live<P> {
    /// The state of a region that was at rest: all durable and in place.
    pub(crate) fn at_rest(base: &Base<P>, run: Run, len: u64) -> Box<Self> {
        let end = base.page_up(len);
        Box::new(Self {
            listed: None,
            epoch: 0,
            visited: 0,
            captured: None,
            changed: Changed::NOTHING,
            removed: false,
            extent: (!run.is_empty()).then(|| Extent::new(true)),
            floor: end,
            drained_from: end,
            tail_base: end,
            tail: Tail::new(),
            limit: 0,
            pages: PageMap::new(),
            dirty_pages: Vec::new(),
            journaled_end: 0,
            in_memory: 0,
            snap: None,
            old_snaps: Vec::new(),
            io: Arc::new(Mutex::new(())),
            appender: false,
            spilling: false,
            moving: false,
            queued: false,
        })
    }

    /// Forgets the snapshot that readers share, because what they would see changes. Called before
    /// the change, so that without readers nothing is shared and nothing is copied.
    pub(crate) fn invalidate_snap(&mut self) {
        if let Some(snap) = self.snap.take() {
            if Arc::strong_count(&snap) > 1 {
                if self.old_snaps.len() >= 8 {
                    self.old_snaps.retain(|old| old.strong_count() > 0);
                }
                self.old_snaps.push(Arc::downgrade(&snap));
            }
        }
    }

    /// Whether any reader sees the current extent.
    pub(crate) fn has_readers(&mut self) -> bool {
        if self.snap.as_ref().is_some_and(|snap| Arc::strong_count(snap) > 1) {
            return true;
        }
        self.old_snaps.retain(|old| old.strong_count() > 0);
        !self.old_snaps.is_empty()
    }

    /// Whether nobody but the region itself, no reader and no flush, looks at its extent.
    pub(crate) fn is_unwatched(&mut self) -> bool {
        self.invalidate_snap();
        !self.has_readers()
            && self.extent.as_ref().is_none_or(|extent| Arc::strong_count(extent) == 1)
    }

    /// Whether a reader maps the page in place (I11).
    pub(crate) fn is_mapped(&self, page: u64) -> bool {
        if mutant::is(Mutant::PutUnderReader) {
            return false;
        }
        let current = self.snap.as_ref().filter(|snap| Arc::strong_count(snap) > 1);
        current.is_some_and(|snap| snap.maps(page))
            || self.old_snaps.iter().any(|old| old.upgrade().is_some_and(|snap| snap.maps(page)))
    }

    /// P3: nobody but the region's owner can care what is at the page's place.
    pub(crate) fn is_fresh(&self, base: &Base<P>, page: u64) -> bool {
        (base.page_offset(page) >= self.floor || mutant::is(Mutant::DrainBelowFloor))
            && !self.pages.get(page).is_some_and(|page| page.journaled)
    }

    /// Where the tail may begin, when it is empty: behind everything that is not fresh, and behind
    /// everything that a reader may map.
    pub(crate) fn reset_tail_base(&mut self, base: &Base<P>, len: u64) {
        debug_assert!(self.tail.is_empty());
        let low = base.page_up(len).max(self.floor).max(base.page_offset(self.journaled_end));
        if low > self.tail_base || !self.has_readers() {
            self.tail_base = low;
        }
        // Pages below were never drained, or are durable, or are in the page map.
        self.drained_from = self.drained_from.min(self.tail_base);
        self.limit = 0;
    }

    /// Whether there is nothing to remember about the region beyond what its slot holds.
    pub(crate) fn is_idle(&mut self, base: &Base<P>, len: u64) -> bool {
        self.listed.is_none()
            && self.captured.is_none()
            && self.changed == Changed::NOTHING
            && !self.removed
            && self.tail.is_empty()
            && self.pages.is_empty()
            && self.drained_from >= base.page_up(len)
            && self.floor <= base.page_up(len)
            && !self.appender
            && !self.spilling
            && !self.moving
            && !self.has_readers()
            && self.extent.as_ref().is_none_or(|extent| {
                extent.named() && !extent.journaled() && Arc::strong_count(extent) == 1
            })
            && Arc::strong_count(&self.io) == 1
    }
}

impl<P: Platform> State<P> {
    pub(crate) const fn vacant() -> Self {
        Self { id: 0, name: NameRef::NONE, run: Run { start: 0, pages: 0 }, len: 0, live: None }
    }

    /// Answers an error unless this is still the region with that id.
    pub(crate) fn check(&self, id: u64) -> Result<()> {
        if self.id == id && !self.live.as_ref().is_some_and(|live| live.removed) {
            Ok(())
        } else {
            Err(Error::RegionRemoved { id })
        }
    }

    pub(crate) fn live(&mut self, base: &Base<P>) -> &mut Live<P> {
        let (run, len) = (self.run, self.len);
        self.live.get_or_insert_with(|| Live::at_rest(base, run, len))
    }

    /// Makes sure that the page below `tail_base` is in memory, reading it from its place if it is
    /// there.
    pub(crate) fn load(&mut self, base: &Base<P>, number: u64) -> Result<()> {
        let (run, len) = (self.run, self.len);
        let live = self.live(base);
        let known = live.pages.get(number);
        if known.is_some_and(|page| page.bytes.is_some()) {
            return Ok(());
        }
        let mut bytes = base.page_buffer()?;
        let start = base.page_offset(number);
        if start < len && !mutant::is(Mutant::OldBytesForgotten) {
            let used = base.page_size().min(len - start) as usize;
            base.read(run, start, bytes.get_mut(..used).unwrap_or_default())?;
        }
        live.invalidate_snap();
        let mut page = live.pages.get(number).cloned().unwrap_or_else(|| Page::new(None, false));
        page.bytes = Some(Arc::from(bytes));
        if start >= live.drained_from && start < len && page.dirty.is_clean() {
            // In place, but no flush has seen it: it must not pass for clean because it is loaded.
            let used = base.page_size().min(len - start) as u32;
            page.dirty.add(0, used);
            live.dirty_pages.push(number);
        }
        live.pages.insert(number, page);
        live.in_memory += 1;
        base.add_memory(base.page_size() as usize);
        Ok(())
    }

    /// Writes `data` at `at` in memory, extending the region where it passes the end. The pages
    /// that are only partly overwritten must be [loaded](Self::load), and the tail must have
    /// room. Nothing can fail here, so that a write is there as a whole or not at all.
    pub(crate) fn put(&mut self, base: &Base<P>, at: u64, data: &[u8]) {
        let len = self.len;
        let live = self.live(base);
        debug_assert!(at <= len);
        let mut at = at;
        let mut data = data;
        if at < live.tail_base {
            live.invalidate_snap();
        }
        while at < live.tail_base && !data.is_empty() {
            let number = base.page_of(at);
            let from = (at - base.page_offset(number)) as usize;
            let n = data.len().min(base.page_size() as usize - from);
            let (now, rest) = data.split_at(n);
            if live.pages.get(number).is_none_or(|page| page.bytes.is_none()) {
                let whole = from == 0 && (n as u64 == base.page_size() || at + n as u64 >= len);
                assert!(whole, "I7: a part of page {number} is written, which is not in memory");
                let journaled = live.pages.get(number).is_some_and(|page| page.journaled);
                live.pages.insert(number, Page::new(Some(Arc::from(now)), journaled));
                live.in_memory += 1;
                base.add_memory(base.page_size() as usize);
            }
            let page = live.pages.get_mut(number);
            let Some((bytes, dirty)) =
                page.and_then(|page| page.bytes.as_mut().map(|bytes| (bytes, &mut page.dirty)))
            else {
                panic!("I7: page {number} is not in memory");
            };
            if bytes.len() < from + n {
                *bytes = base.page_from(bytes);
            }
            if let Some(place) = Arc::make_mut(bytes).get_mut(from..from + n) {
                place.copy_from_slice(now);
            }
            if dirty.add(from as u32, (from + n) as u32) {
                live.dirty_pages.push(number);
            }
            at += n as u64;
            data = rest;
        }
        if !data.is_empty() {
            let place = (at - live.tail_base) as usize;
            let over = data.len().min(live.tail.len().saturating_sub(place));
            let (inside, behind) = data.split_at(over);
            if !inside.is_empty() {
                live.invalidate_snap();
                let done = live.tail.overwrite(place, inside);
                assert!(done.is_ok(), "I7: a tail is overwritten without having been prepared");
            }
            let pushed = live.tail.push(behind);
            assert!(pushed == behind.len(), "I7: a tail is filled without having been prepared");
            at += data.len() as u64;
        }
        if at > len {
            self.len = at;
            self.live(base).changed.add(Changed::LEN);
        }
    }

    /// Makes everything that [`put`](Self::put) needs for `len` bytes at `at`.
    pub(crate) fn prepare(&mut self, base: &Base<P>, at: u64, len: u64) -> Result<()> {
        let end = at + len;
        let tail_base = self.live(base).tail_base;
        let mut cursor = at;
        while cursor < end.min(tail_base) {
            let number = base.page_of(cursor);
            let page_end = base.page_offset(number + 1);
            // A page of which every byte is written needs nothing of what was there.
            let whole = cursor == base.page_offset(number) && (end >= page_end || end >= self.len);
            if !whole {
                self.load(base, number)?;
            }
            cursor = page_end;
        }
        if end > tail_base {
            let needed = usize::try_from(end - tail_base)
                .map_err(|_| Error::OutOfMemory { requested: end - tail_base })?;
            let live = self.live(base);
            if at < tail_base + live.tail.len() as u64 {
                live.invalidate_snap();
                live.tail.unshare()?;
            }
            if live.tail.capacity() < needed {
                let wanted = needed.max((live.tail.capacity() * 2).clamp(1 << 10, 64 << 10));
                let before = live.tail.capacity();
                live.invalidate_snap();
                live.tail.grow(wanted)?;
                base.add_memory(live.tail.capacity() - before);
            }
        }
        Ok(())
    }

    /// Cuts the region to `len` bytes.
    pub(crate) fn cut(&mut self, base: &Base<P>, len: u64) -> Result<()> {
        if len >= self.len {
            return Ok(());
        }
        let live = self.live(base);
        live.invalidate_snap();
        if len > live.tail_base {
            live.tail.truncate((len - live.tail_base) as usize)?;
            live.changed.add(Changed::LEN);
            self.len = len;
            return Ok(());
        }
        self.len = len;
        let live = self.live(base);
        live.changed.add(Changed::LEN);
        base.sub_memory(live.tail.capacity());
        live.tail = Tail::new();
        let first_gone = base.page_of(base.page_up(len));
        // P2: truncation does not forget that a page is journaled.
        let forget = mutant::is(Mutant::TruncateClearsBit);
        if forget {
            live.journaled_end = live.journaled_end.min(first_gone);
        }
        if mutant::is(Mutant::FloorFallsEarly) {
            live.floor = live.floor.min(base.page_up(len));
        }
        let gone: Vec<(u64, bool)> = live
            .pages
            .range_from(first_gone)
            .map(|(number, page)| (number, page.journaled && !forget))
            .collect();
        for (number, journaled) in gone {
            live.drop_bytes(base, number);
            if !journaled {
                live.pages.remove(number);
            } else if let Some(page) = live.pages.get_mut(number) {
                page.dirty = Dirty::CLEAN;
            }
        }
        live.reset_tail_base(base, len);
        Ok(())
    }

    /// Forgets everything that is in memory, dirty or not.
    pub(crate) fn clear(&mut self, base: &Base<P>) {
        let live = self.live(base);
        live.invalidate_snap();
        base.sub_memory(live.tail.capacity());
        live.tail = Tail::new();
        base.sub_memory(live.in_memory * base.page_size() as usize);
        live.in_memory = 0;
        live.pages = PageMap::new();
        live.dirty_pages = Vec::new();
        live.limit = 0;
    }
}

impl<P: Platform> Live<P> {
    /// Whether the region's extent is still that one.
    pub(crate) fn lives_in(&self, extent: &Option<Arc<Extent>>) -> bool {
        match (&self.extent, extent) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            (now, then) => now.is_none() && then.is_none(),
        }
    }

    /// The region gives up its extent, being empty.
    pub(crate) fn leave_extent(&mut self) {
        debug_assert!(self.in_memory == 0);
        self.pages = PageMap::new();
        self.old_snaps.clear();
        self.floor = 0;
        self.journaled_end = 0;
        self.drained_from = 0;
        self.tail_base = 0;
    }

    /// P2: this generation holds an image of the page.
    pub(crate) fn set_journaled(&mut self, number: u64) {
        match self.pages.get_mut(number) {
            Some(page) => page.journaled = true,
            None => {
                self.pages.insert(number, Page::new(None, true));
            }
        }
        self.journaled_end = self.journaled_end.max(number + 1);
        if let Some(extent) = &self.extent {
            extent.set_journaled(true);
        }
    }

    /// A captured page was written to its place.
    pub(crate) fn page_is_in_place(&mut self, base: &Base<P>, captured: &CapturedPage) {
        self.page_is_at(base, captured.page, &captured.bytes);
    }

    /// The bytes were written to the page's place: if they are what the page holds, they need not
    /// stay in memory.
    pub(crate) fn page_is_at(&mut self, base: &Base<P>, number: u64, bytes: &Arc<[u8]>) {
        let Some(page) = self.pages.get(number) else { return };
        let same = page.bytes.as_ref().is_some_and(|now| Arc::ptr_eq(now, bytes));
        if self.moving || !same || !page.dirty.is_clean() {
            return;
        }
        let journaled = page.journaled;
        self.invalidate_snap();
        self.drop_bytes(base, number);
        if !journaled {
            self.pages.remove(number);
        }
    }

    /// Drops the bytes of a page from memory. The caller knows that they are in place, or gone.
    pub(crate) fn drop_bytes(&mut self, base: &Base<P>, number: u64) {
        if let Some(page) = self.pages.get_mut(number) {
            if page.bytes.take().is_some() {
                self.in_memory -= 1;
                base.sub_memory(base.page_size() as usize);
            }
        }
    }

    /// Moves what is in the tail to the page map, as dirty pages.
    pub(crate) fn move_tail_to_pages(&mut self, base: &Base<P>, len: u64) {
        if self.tail.is_empty() {
            return;
        }
        // A write to the end that is under way may have put bytes behind `len`: they are not
        // part of the region yet, and it knows what to do when it finds the tail gone.
        self.invalidate_snap();
        let used = len.saturating_sub(self.tail_base) as usize;
        let tail = core::mem::replace(&mut self.tail, Tail::new());
        base.sub_memory(tail.capacity());
        let bytes = tail.bytes().get(..used).unwrap_or_default();
        let first = base.page_of(self.tail_base);
        for (number, chunk) in (first..).zip(bytes.chunks(base.page_size() as usize)) {
            let mut page = Page::new(Some(Arc::from(chunk)), false);
            page.dirty = Dirty { from: 0, to: chunk.len() as u32 };
            self.pages.insert(number, page);
            self.dirty_pages.push(number);
            self.in_memory += 1;
            base.add_memory(base.page_size() as usize);
        }
        self.tail_base = self.tail_base.max(base.page_up(len));
    }
}

impl Page {
    pub(crate) fn new(bytes: Option<Arc<[u8]>>, journaled: bool) -> Self {
        Self { bytes, dirty: Dirty::CLEAN, journaled, cut: 0 }
    }
}
