//! Moving a region to other pages: to grow, to compact, to give memory back, or to take a new content
//! that is too large for memory. Readers and writers go on meanwhile.
//!
//! All of it happens with the region's I/O lock held and its state unlocked, and is published under
//! the state's lock at the end. In its new extent all of a region is fresh (P3), and dirty.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::base::Base;
use crate::error::{Error, Result};
use crate::extent::Extent;
use crate::ground::Taken;
use crate::platform::Platform;
use crate::reader::Snap;
use crate::region::{End, Guard, Region};
use crate::run::Run;
use crate::spill::{PIECE, write_pages, write_pieces};
use crate::state::{Changed, Dirty, State};
use crate::usage::Counters;

impl<P: Platform> Region<P> {
    /// Gives memory back: puts in place what may go there, and if that is not enough, copies the
    /// region to a new extent of its size, where all its pages are fresh.
    pub(crate) fn relieve(&self) -> Result<()> {
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
    pub(crate) fn rewrite(&self, end: End, at: u64, data: &[u8]) -> Result<Option<u64>> {
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
